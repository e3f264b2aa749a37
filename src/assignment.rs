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

/// Arms that calls can be split between at most.
pub const ARMS: usize = 8;

/// How likely each arm was for a call, in the order of [`crate::config::Model::arms`]; none where calls are not split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Odds {
    of: [u32; ARMS],
    arms: u8,
}

impl Odds {
    /// Calls are not split.
    pub const NONE: Odds = Odds { of: [0; ARMS], arms: 0 };

    /// Of `arms` arms, none of which is likely yet; no odds at all where there are more than [`ARMS`].
    pub fn new(arms: usize) -> Self {
        if arms > ARMS { Odds::NONE } else { Odds { of: [0; ARMS], arms: arms as u8 } }
    }

    /// Makes an arm so likely, 0.0 to 1.0.
    pub fn set(&mut self, arm: usize, probability: f64) {
        if let Some(odds) = self.of[..usize::from(self.arms)].get_mut(arm) {
            *odds = (probability * f64::from(u32::MAX)).round() as u32;
        }
    }

    /// How likely an arm was, 0.0 to 1.0.
    pub fn get(&self, arm: usize) -> Option<f64> {
        self.as_slice().get(arm).map(|odds| f64::from(*odds) / f64::from(u32::MAX))
    }

    /// In parts of 2³² − 1.
    pub fn as_slice(&self) -> &[u32] {
        &self.of[..usize::from(self.arms)]
    }

    /// From four bytes each, big-endian; none where they are more than [`ARMS`] or one is cut off.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (parts, rest) = bytes.as_chunks::<4>();
        if parts.len() > ARMS || !rest.is_empty() {
            return None;
        }
        let mut odds = Odds::new(parts.len());
        for (place, part) in odds.of.iter_mut().zip(parts) {
            *place = u32::from_be_bytes(*part);
        }
        Some(odds)
    }
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
    /// The call names no model that is known: the default model's baseline answers. Or it cannot be shared between
    /// rankers, for it is no inference call of one message each way.
    Default,
    /// Another sidecar assigned the call already.
    Hop,
    /// The rollout has ended in this variant, or a person gave everything to it.
    Decided,
    /// The unit is held out of all rollouts with that holdout: the baseline answers.
    Holdout,
    /// The unit is in another part of the layer: the baseline answers.
    Layer,
    /// What the call is to be told apart by is not as declared: the baseline answers.
    NoContext,
    /// Several rankers are asked, and their lists merged; the variant is the baseline, of whom is what is no list.
    Interleaved,
}

impl Reason {
    /// Every value, in the order of [`Reason::index`].
    pub const ALL: [Reason; 13] = [
        Reason::Pinned,
        Reason::Split,
        Reason::Draw,
        Reason::Segment,
        Reason::Forced,
        Reason::NotReady,
        Reason::Default,
        Reason::Hop,
        Reason::Decided,
        Reason::Holdout,
        Reason::Layer,
        Reason::NoContext,
        Reason::Interleaved,
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
            Reason::Holdout => "holdout",
            Reason::Layer => "layer",
            Reason::NoContext => "no_context",
            Reason::Interleaved => "interleaved",
        }
    }

    /// The nearest `feature_flag.result.reason` of the OpenTelemetry conventions.
    pub fn flag_reason(self) -> &'static str {
        match self {
            Reason::Pinned | Reason::Decided => "static",
            Reason::Split | Reason::Draw | Reason::Interleaved => "split",
            Reason::Segment | Reason::Forced | Reason::Hop | Reason::Holdout | Reason::Layer => {
                "targeting_match"
            }
            Reason::NotReady | Reason::Default | Reason::NoContext => "default",
        }
    }
}
