//! Which variant a call was given to, and why: plain data, decided before anything is sent.

/// Which variant a call is given to, why, and how likely that was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Assignment {
    /// Index into the model's variants.
    pub variant: usize,
    /// Why this one.
    pub reason: Reason,
    /// Probability of this variant for a call like this one, 0.0 to 1.0; 1.0 where nothing was left to chance.
    pub propensity: f64,
}

/// Why a variant was assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The strategy has one variant only.
    Pinned,
    /// By the hash of the unit.
    Split,
    /// By a draw for this call alone, for it brought no unit.
    Draw,
    /// A segment matched.
    Segment,
    /// The caller asked for it and may.
    Forced,
    /// The variant that the split chose is not ready, so the baseline answers.
    NotReady,
    /// The call names no model that is known: the default model's baseline answers.
    Default,
    /// Another sidecar assigned the call already.
    Hop,
    /// The rollout has ended in this variant, or a person gave everything to it.
    Decided,
}

impl Reason {
    /// Every value, in the order of [`Reason::index`].
    pub const ALL: [Reason; 9] = [
        Reason::Pinned,
        Reason::Split,
        Reason::Draw,
        Reason::Segment,
        Reason::Forced,
        Reason::NotReady,
        Reason::Default,
        Reason::Hop,
        Reason::Decided,
    ];

    /// Position in [`Reason::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// The word used in spans and logs.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Pinned => "pinned",
            Reason::Split => "split",
            Reason::Draw => "draw",
            Reason::Segment => "segment",
            Reason::Forced => "forced",
            Reason::NotReady => "not_ready",
            Reason::Default => "default",
            Reason::Hop => "hop",
            Reason::Decided => "decided",
        }
    }

    /// The nearest `feature_flag.result.reason` of the OpenTelemetry conventions.
    pub fn flag_reason(self) -> &'static str {
        match self {
            Reason::Pinned | Reason::Decided => "static",
            Reason::Split | Reason::Draw => "split",
            Reason::Segment | Reason::Forced | Reason::Hop => "targeting_match",
            Reason::NotReady | Reason::Default => "default",
        }
    }
}
