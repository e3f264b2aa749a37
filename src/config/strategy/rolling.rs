//! How a variant's servers are replaced in place.

use std::sync::Arc;
use std::time::Duration;

use super::{FixedLimits, OnFail, Warming};

/// One variant whose endpoints are replaced when the file gives it another version.
#[derive(Debug, Clone, PartialEq)]
pub struct Rolling {
    /// The variant that answers.
    pub variant: usize,
    /// What its servers shall run; the variant's.
    pub version: Arc<str>,
    /// Endpoints that are replaced at once; at least 1.
    pub batch: usize,
    /// An endpoint is taken out only where so many others are ready; at least 1, less than there are endpoints.
    pub min_ready: usize,
    /// How long calls under way may take before an endpoint counts as drained all the same.
    pub drain_timeout: Duration,
    /// An endpoint that was not replaced, ready and warm for so long after it was drained fails.
    pub replace_timeout: Duration,
    /// No batch begins, and the update does not end, sooner than so long after the last batch serves again.
    pub hold: Duration,
    /// How it is known what a server runs.
    pub report: Reporting,
    /// What a replaced server is sent before it is given calls.
    pub warming: Warming,
    /// What the replaced servers together are judged on.
    pub guards: FixedLimits,
    /// Chance that servers within their limits are ever taken back, over all guards; above 0, at most 0.2.
    pub alpha: f64,
    /// What becomes of an update that fails.
    pub on_fail: OnFail,
}

/// How it is known what a server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reporting {
    /// The `versions` that `ModelMetadata` answers.
    Model,
    /// The `version` that `ServerMetadata` answers.
    Server,
    /// The server went away and came back.
    Connection,
}

impl Reporting {
    /// All of them.
    pub const ALL: [Reporting; 3] = [Reporting::Model, Reporting::Server, Reporting::Connection];

    /// As written in the file.
    pub fn name(self) -> &'static str {
        match self {
            Reporting::Model => "model",
            Reporting::Server => "server",
            Reporting::Connection => "connection",
        }
    }
}
