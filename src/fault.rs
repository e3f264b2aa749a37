//! What went wrong, and whose fault it is.
//!
//! A gRPC status alone does not say whom to blame: the same UNAVAILABLE may come from a model server or from this
//! sidecar. [`Code::blame`] is the one table that decides, and only [`Blame::Upstream`] and [`Blame::Rejection`]
//! ever count against a variant.

use std::fmt;

/// A gRPC status code; values above 16 are kept as they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(pub u32);

#[expect(missing_docs, reason = "the names of the gRPC specification")]
impl Code {
    pub const OK: Code = Code(0);
    pub const CANCELLED: Code = Code(1);
    pub const UNKNOWN: Code = Code(2);
    pub const INVALID_ARGUMENT: Code = Code(3);
    pub const DEADLINE_EXCEEDED: Code = Code(4);
    pub const NOT_FOUND: Code = Code(5);
    pub const ALREADY_EXISTS: Code = Code(6);
    pub const PERMISSION_DENIED: Code = Code(7);
    pub const RESOURCE_EXHAUSTED: Code = Code(8);
    pub const FAILED_PRECONDITION: Code = Code(9);
    pub const ABORTED: Code = Code(10);
    pub const OUT_OF_RANGE: Code = Code(11);
    pub const UNIMPLEMENTED: Code = Code(12);
    pub const INTERNAL: Code = Code(13);
    pub const UNAVAILABLE: Code = Code(14);
    pub const DATA_LOSS: Code = Code(15);
    pub const UNAUTHENTICATED: Code = Code(16);
}

impl Code {
    /// The name of the gRPC specification; `CODE_n` has none of them.
    pub fn name(self) -> &'static str {
        const NAMES: [&str; 17] = [
            "OK",
            "CANCELLED",
            "UNKNOWN",
            "INVALID_ARGUMENT",
            "DEADLINE_EXCEEDED",
            "NOT_FOUND",
            "ALREADY_EXISTS",
            "PERMISSION_DENIED",
            "RESOURCE_EXHAUSTED",
            "FAILED_PRECONDITION",
            "ABORTED",
            "OUT_OF_RANGE",
            "UNIMPLEMENTED",
            "INTERNAL",
            "UNAVAILABLE",
            "DATA_LOSS",
            "UNAUTHENTICATED",
        ];
        NAMES.get(self.0 as usize).copied().unwrap_or("_OTHER")
    }

    /// Whose fault a status is that an upstream sent itself.
    ///
    /// `had_time` says whether the attempt had at least `limits.min_deadline`: a caller who gives one millisecond
    /// says nothing about the model.
    pub fn blame(self, had_time: bool) -> Blame {
        match self {
            Code::OK => Blame::Nobody,
            Code::DEADLINE_EXCEEDED if had_time => Blame::Upstream,
            Code::DEADLINE_EXCEEDED | Code::CANCELLED => Blame::Nobody,
            Code::INVALID_ARGUMENT | Code::NOT_FOUND | Code::OUT_OF_RANGE | Code::FAILED_PRECONDITION => {
                Blame::Rejection
            }
            Code::UNAUTHENTICATED | Code::PERMISSION_DENIED | Code::ABORTED | Code::ALREADY_EXISTS => {
                Blame::Nobody
            }
            // UNKNOWN, INTERNAL, UNAVAILABLE, DATA_LOSS, UNIMPLEMENTED, RESOURCE_EXHAUSTED, and any number that
            // the specification does not know.
            _ => Blame::Upstream,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whose fault the end of a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// No failure, or none that says anything about a server.
    Nobody,
    /// The variant failed.
    Upstream,
    /// The variant refused the input: told apart, for arms are compared on it but callers' mistakes cancel out.
    Rejection,
    /// The caller broke the protocol, cancelled, or asked for what is not there.
    Client,
    /// A limit or an error of the sidecar itself.
    Sidecar,
}

impl Blame {
    /// Every value, in the order of [`Blame::index`].
    pub const ALL: [Blame; 5] =
        [Blame::Nobody, Blame::Upstream, Blame::Rejection, Blame::Client, Blame::Sidecar];

    /// The word used in metrics and spans.
    pub fn name(self) -> &'static str {
        match self {
            Blame::Nobody => "nobody",
            Blame::Upstream => "upstream",
            Blame::Rejection => "rejection",
            Blame::Client => "client",
            Blame::Sidecar => "sidecar",
        }
    }

    /// Position in [`Blame::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}
