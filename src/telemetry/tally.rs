//! What became of spans.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a span did not reach the collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// As many were waiting as may.
    QueueFull,
    /// The collector could not be reached, or refused.
    ExportFailed,
    /// The process ended first.
    Shutdown,
}

impl Cause {
    /// Every cause, in the order of the enum.
    pub const ALL: [Cause; 3] = [Cause::QueueFull, Cause::ExportFailed, Cause::Shutdown];

    /// The word used in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Cause::QueueFull => "queue_full",
            Cause::ExportFailed => "export_failed",
            Cause::Shutdown => "shutdown",
        }
    }
}

/// Counts of spans, not of calls.
#[derive(Debug, Default)]
pub struct Tally {
    exported: AtomicU64,
    dropped: [AtomicU64; Cause::ALL.len()],
}

impl Tally {
    pub(super) fn exported(&self, spans: u64) {
        self.exported.fetch_add(spans, Ordering::Relaxed);
    }

    pub(super) fn dropped(&self, cause: Cause, spans: u64) {
        self.dropped[cause as usize].fetch_add(spans, Ordering::Relaxed);
    }

    /// Spans that a collector took.
    pub fn get_exported(&self) -> u64 {
        self.exported.load(Ordering::Relaxed)
    }

    /// Spans that were lost, by cause.
    pub fn get_dropped(&self, cause: Cause) -> u64 {
        self.dropped[cause as usize].load(Ordering::Relaxed)
    }
}
