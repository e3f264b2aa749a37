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

    /// The name of the gRPC specification; `_OTHER` for a number that it does not know.
    pub fn name(self) -> &'static str {
        Code::NAMES.get(self.0 as usize).copied().unwrap_or("_OTHER")
    }

    /// The reverse of [`Code::name`]; none for other words.
    pub fn named(name: &str) -> Option<Self> {
        let index = Code::NAMES.iter().position(|known| *known == name)?;
        Some(Code(index as u32))
    }

    /// What an HTTP status means where there is no gRPC status beside it, by gRPC's own table.
    pub fn from_http(status: u16) -> Code {
        match status {
            400 => Code::INTERNAL,
            401 => Code::UNAUTHENTICATED,
            403 => Code::PERMISSION_DENIED,
            404 => Code::UNIMPLEMENTED,
            429 | 502 | 503 | 504 => Code::UNAVAILABLE,
            _ => Code::UNKNOWN,
        }
    }

    /// What an HTTP/2 error code means that ended a stream before its gRPC status, by gRPC's own table.
    ///
    /// That table names no code for STREAM_CLOSED, nor for what it does not list: UNKNOWN.
    pub fn from_reset(reason: u32) -> Code {
        match reason {
            // NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, FRAME_SIZE_ERROR,
            // COMPRESSION_ERROR, CONNECT_ERROR.
            0..=4 | 6 | 9 | 10 => Code::INTERNAL,
            // REFUSED_STREAM: it was not processed.
            7 => Code::UNAVAILABLE,
            // CANCEL
            8 => Code::CANCELLED,
            // ENHANCE_YOUR_CALM
            11 => Code::RESOURCE_EXHAUSTED,
            // INADEQUATE_SECURITY
            12 => Code::PERMISSION_DENIED,
            _ => Code::UNKNOWN,
        }
    }

    /// Whether the baseline may answer instead of a variant that sent this status: what is the variant's own fault, its
    /// refusals too. What was decided about the caller (who it is, what it may, what it raced with) stands.
    pub fn may_fall_back(self) -> bool {
        matches!(self.blame(true), Blame::Upstream | Blame::Rejection)
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

/// What the sidecar answers by itself instead of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The gRPC status.
    pub code: Code,
    /// For people: what happened, where, and what would help.
    pub message: String,
    /// Whose fault it is.
    pub blame: Blame,
}

impl Failure {
    /// A failure by the caller.
    pub fn client(code: Code, message: impl Into<String>) -> Self {
        Failure { code, message: message.into(), blame: Blame::Client }
    }

    /// A failure by a variant or the way to it.
    pub fn upstream(code: Code, message: impl Into<String>) -> Self {
        Failure { code, message: message.into(), blame: Blame::Upstream }
    }

    /// A limit or an error of the sidecar.
    pub fn sidecar(code: Code, message: impl Into<String>) -> Self {
        Failure { code, message: message.into(), blame: Blame::Sidecar }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_fault_table() {
        for (code, had_time, little_time) in [
            (Code::OK, Blame::Nobody, Blame::Nobody),
            (Code::UNKNOWN, Blame::Upstream, Blame::Upstream),
            (Code::INTERNAL, Blame::Upstream, Blame::Upstream),
            (Code::UNAVAILABLE, Blame::Upstream, Blame::Upstream),
            (Code::DATA_LOSS, Blame::Upstream, Blame::Upstream),
            (Code::UNIMPLEMENTED, Blame::Upstream, Blame::Upstream),
            (Code::RESOURCE_EXHAUSTED, Blame::Upstream, Blame::Upstream),
            (Code::DEADLINE_EXCEEDED, Blame::Upstream, Blame::Nobody),
            (Code::INVALID_ARGUMENT, Blame::Rejection, Blame::Rejection),
            (Code::NOT_FOUND, Blame::Rejection, Blame::Rejection),
            (Code::OUT_OF_RANGE, Blame::Rejection, Blame::Rejection),
            (Code::FAILED_PRECONDITION, Blame::Rejection, Blame::Rejection),
            (Code::UNAUTHENTICATED, Blame::Nobody, Blame::Nobody),
            (Code::PERMISSION_DENIED, Blame::Nobody, Blame::Nobody),
            (Code::ABORTED, Blame::Nobody, Blame::Nobody),
            (Code::ALREADY_EXISTS, Blame::Nobody, Blame::Nobody),
            (Code::CANCELLED, Blame::Nobody, Blame::Nobody),
            (Code(17), Blame::Upstream, Blame::Upstream),
            (Code(u32::MAX), Blame::Upstream, Blame::Upstream),
        ] {
            assert_eq!((code.blame(true), code.blame(false)), (had_time, little_time), "{code}");
        }
    }

    #[test]
    fn what_is_an_answer_stands_and_what_is_a_failure_may_fall_back() {
        let stand = [0, 1, 6, 7, 10, 16];
        for code in (0..=18).map(Code) {
            assert_eq!(code.may_fall_back(), !stand.contains(&code.0), "{code}");
        }
    }

    #[test]
    fn http_statuses_and_resets_have_grpc_codes() {
        for (status, want) in [
            (400, Code::INTERNAL),
            (401, Code::UNAUTHENTICATED),
            (403, Code::PERMISSION_DENIED),
            (404, Code::UNIMPLEMENTED),
            (429, Code::UNAVAILABLE),
            (500, Code::UNKNOWN),
            (502, Code::UNAVAILABLE),
            (503, Code::UNAVAILABLE),
            (504, Code::UNAVAILABLE),
            (200, Code::UNKNOWN),
            (302, Code::UNKNOWN),
        ] {
            assert_eq!(Code::from_http(status), want, "{status}");
        }
        use h2::Reason;
        for (reason, want) in [
            (Reason::NO_ERROR, Code::INTERNAL),
            (Reason::PROTOCOL_ERROR, Code::INTERNAL),
            (Reason::INTERNAL_ERROR, Code::INTERNAL),
            (Reason::FLOW_CONTROL_ERROR, Code::INTERNAL),
            (Reason::SETTINGS_TIMEOUT, Code::INTERNAL),
            (Reason::STREAM_CLOSED, Code::UNKNOWN),
            (Reason::FRAME_SIZE_ERROR, Code::INTERNAL),
            (Reason::REFUSED_STREAM, Code::UNAVAILABLE),
            (Reason::CANCEL, Code::CANCELLED),
            (Reason::COMPRESSION_ERROR, Code::INTERNAL),
            (Reason::CONNECT_ERROR, Code::INTERNAL),
            (Reason::ENHANCE_YOUR_CALM, Code::RESOURCE_EXHAUSTED),
            (Reason::INADEQUATE_SECURITY, Code::PERMISSION_DENIED),
            (Reason::HTTP_1_1_REQUIRED, Code::UNKNOWN),
        ] {
            assert_eq!(Code::from_reset(reason.into()), want, "{reason}");
        }
        assert_eq!(Code::from_reset(99), Code::UNKNOWN);
    }

    #[test]
    fn every_code_and_blame_has_its_name() {
        assert_eq!((Code(0).name(), Code(16).name(), Code(17).name()), ("OK", "UNAUTHENTICATED", "_OTHER"));
        for blame in Blame::ALL {
            assert_eq!(Blame::ALL[blame.index()], blame);
        }
    }
}
