//! What is learnt later about predictions: reported by id, joined, counted once, and summed as evidence.
//!
//! A report is believed because its prediction's id is signed, and everything that counts is read from the id: arm,
//! odds, epoch, unit and time. So it may come to any replica that has the key, days later, after a restart, twice, or
//! in any order. Whatever is refused changes nothing but a count. [`intake`] is the way in, `track` what is kept of
//! one declared feedback, `weigh` how a value becomes a score; [`service`] and [`json`] are its two faces.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::evidence::{Rewards, Scores, Votes};
use crate::fault::Code;
use crate::outcome::Trace;
use crate::prediction::{self, Prediction};

mod book;
mod claims;
mod contexts;
mod credit;
pub mod intake;
pub mod json;
mod kept;
mod ledger;
mod rate;
pub mod service;
mod session;
pub mod shown;
mod table;
mod track;
mod weigh;

pub use book::Book;
pub use claims::Claimed;
pub use intake::Intake;
pub use kept::Kept;

/// The longest label and the longest id of a report, in bytes.
pub const MAX_WORD: usize = 256;
/// How long reports that came at once may keep others of the same thread waiting.
const TURN: Duration = Duration::from_millis(1);
/// Predictions of one worker that wait to be counted as exposed.
const EXPOSED: usize = 1 << 16;

/// One report.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// `parhelion-prediction-id`, as the caller of the model was told it.
    pub prediction: String,
    /// Name of a declared feedback.
    pub name: String,
    /// What was learnt.
    pub value: Option<Value>,
    /// Tells this report from others about the same prediction, so that it counts once if it is sent again.
    pub id: String,
    /// When it was learnt, in milliseconds since the Unix epoch; none: now.
    pub at: Option<u64>,
    /// What of a list it is about; none: the whole answer.
    pub place: Option<At>,
    /// Which list, from 0, where one answer holds several.
    pub row: u32,
}

/// What of a list a report is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// A slot, from 0.
    Slot(u32),
    /// An item: its text, or its decimal digits.
    Item(String),
}

/// What was learnt.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// For all kinds but labels.
    Number(f64),
    /// For labels.
    Label(String),
}

/// What became of a report that was taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Receipt {
    /// Whether it changed anything.
    pub taken: Taken,
    /// Whether it is evidence.
    pub evidence: Evidence,
    /// The prediction's value with this report; none for labels.
    pub value: Option<f64>,
}

/// Whether a report changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The first for its prediction.
    First,
    /// It was joined with those before it, and changed the value.
    Joined,
    /// It was joined with those before it, and the value stays.
    Unchanged,
    /// It had come already.
    Repeated,
}

/// Whether a report is evidence for or against a variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// It is, at once.
    Now,
    /// It will be when its window has closed, for the feedback has a default, or its session.
    AtClose,
    /// It is not: labels and clicks are kept with their predictions, but compare nothing.
    Kind,
    /// It is not: the call's variant was certain, or the call was forced, a hop, or in one variant's segment.
    Certain,
    /// It is not: the rollout was changed since.
    Revision,
    /// It is not: its session has closed, and voted.
    Session,
}

/// Why a report was refused. A refused report changes nothing.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The prediction's id.
    #[error("prediction_id {0}")]
    Prediction(#[from] prediction::Refused),
    /// Its model.
    #[error("the prediction's model is not in this sidecar's configuration")]
    Model,
    /// The name.
    #[error("model {model} declares no feedback {name:?}; {known}")]
    Name {
        /// The prediction's model.
        model: Arc<str>,
        /// As reported.
        name: String,
        /// What it declares, in words.
        known: String,
    },
    /// The value.
    #[error("{name}: {value} {wrong}; its kind is {kind}")]
    Value {
        /// The feedback.
        name: Arc<str>,
        /// As reported.
        value: String,
        /// What it is not.
        wrong: &'static str,
        /// What it should be, in words.
        kind: String,
    },
    /// A sum cannot tell a report that is sent again from another one.
    #[error(
        "{0}: its reports are summed, so each needs an `id`, or `at`, by which one that is sent again is known"
    )]
    Anonymous(Arc<str>),
    /// The window.
    #[error("{name}: the prediction was made {age} s ago, and its window is {window} s")]
    Late {
        /// The feedback.
        name: Arc<str>,
        /// Of the prediction, in seconds.
        age: u64,
        /// In seconds.
        window: u64,
    },
    /// Too many at once.
    #[error(
        "{name}: more than {most} reports a second come this way (feedback.max_rate); send them more slowly"
    )]
    Rate {
        /// The feedback.
        name: Arc<str>,
        /// Allowed per second.
        most: u32,
    },
    /// Too many for one unit.
    #[error("{name}: more than {most} reports a minute are about one unit")]
    Unit {
        /// The feedback.
        name: Arc<str>,
        /// Allowed per minute.
        most: u16,
    },
    /// It credits rankers, and does not say for what.
    #[error("{0}: it credits who showed something, so each report names a `slot`, or an `item`")]
    Place(Arc<str>),
    /// There is no such slot.
    #[error(
        "{name}: there is no slot {slot} in list {row}: {rows} of {length} slots were shown, counted from 0"
    )]
    Slot {
        /// The feedback.
        name: Arc<str>,
        /// As reported.
        slot: u32,
        /// As reported.
        row: u32,
        /// Lists of the answer.
        rows: usize,
        /// Slots of each.
        length: usize,
    },
    /// There is no such item.
    #[error("{name}: item {item:?} was not shown in list {row} of that prediction")]
    Item {
        /// The feedback.
        name: Arc<str>,
        /// As reported.
        item: String,
        /// As reported.
        row: u32,
    },
    /// What was shown is not known here.
    #[error("{name}: what that prediction showed is not known here, {why}: {instead}")]
    Forgotten {
        /// The feedback.
        name: Arc<str>,
        /// In words.
        why: &'static str,
        /// What to do.
        instead: &'static str,
    },
    /// The store that replicas share knows of no more.
    #[error(
        "{0}: so many reports wait for the store that replicas share, which cannot be used, that no more are taken; send \
         it again later"
    )]
    Away(Arc<str>),
    /// No room.
    #[error("{0}: as much feedback is remembered as there is room for; it is taken again when windows close")]
    Full(Arc<str>),
}

impl Refusal {
    /// Every cause, as it is counted.
    pub const CAUSES: [&'static str; 19] = [
        "malformed",
        "version",
        "foreign",
        "altered",
        "expired",
        "ahead",
        "model",
        "name",
        "value",
        "anonymous",
        "late",
        "rate",
        "unit",
        "full",
        "place",
        "slot",
        "item",
        "forgotten",
        "away",
    ];

    /// Position in [`Refusal::CAUSES`].
    pub fn cause(&self) -> usize {
        match self {
            Refusal::Prediction(prediction::Refused::Malformed(_)) => 0,
            Refusal::Prediction(prediction::Refused::Version(_)) => 1,
            Refusal::Prediction(prediction::Refused::Foreign) => 2,
            Refusal::Prediction(prediction::Refused::Altered) => 3,
            Refusal::Prediction(prediction::Refused::Expired { .. }) => 4,
            Refusal::Prediction(prediction::Refused::Ahead(_)) => 5,
            Refusal::Model => 6,
            Refusal::Name { .. } => 7,
            Refusal::Value { .. } => 8,
            Refusal::Anonymous(_) => 9,
            Refusal::Late { .. } => 10,
            Refusal::Rate { .. } => 11,
            Refusal::Unit { .. } => 12,
            Refusal::Full(_) => 13,
            Refusal::Place(_) => 14,
            Refusal::Slot { .. } => 15,
            Refusal::Item { .. } => 16,
            Refusal::Forgotten { .. } => 17,
            Refusal::Away(_) => 18,
        }
    }

    /// The status that says so.
    pub fn code(&self) -> Code {
        match self {
            Refusal::Prediction(refused) => match refused {
                prediction::Refused::Malformed(_) => Code::INVALID_ARGUMENT,
                prediction::Refused::Version(_) => Code::UNIMPLEMENTED,
                prediction::Refused::Foreign => Code::UNAUTHENTICATED,
                prediction::Refused::Altered => Code::PERMISSION_DENIED,
                prediction::Refused::Expired { .. } | prediction::Refused::Ahead(_) => {
                    Code::FAILED_PRECONDITION
                }
            },
            Refusal::Model | Refusal::Name { .. } | Refusal::Item { .. } => Code::NOT_FOUND,
            Refusal::Value { .. } | Refusal::Slot { .. } => Code::OUT_OF_RANGE,
            Refusal::Anonymous(_) | Refusal::Place(_) => Code::INVALID_ARGUMENT,
            Refusal::Late { .. } | Refusal::Forgotten { .. } => Code::FAILED_PRECONDITION,
            Refusal::Rate { .. } | Refusal::Unit { .. } | Refusal::Full(_) => Code::RESOURCE_EXHAUSTED,
            Refusal::Away(_) => Code::UNAVAILABLE,
        }
    }
}

impl Taken {
    /// Every value.
    pub const ALL: [Taken; 4] = [Taken::First, Taken::Joined, Taken::Unchanged, Taken::Repeated];

    /// The word used in answers, spans and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Taken::First => "first",
            Taken::Joined => "joined",
            Taken::Unchanged => "unchanged",
            Taken::Repeated => "repeated",
        }
    }
}

impl Evidence {
    /// Every value.
    pub const ALL: [Evidence; 6] = [
        Evidence::Now,
        Evidence::AtClose,
        Evidence::Kind,
        Evidence::Certain,
        Evidence::Revision,
        Evidence::Session,
    ];

    /// The word used in answers and spans.
    pub fn name(self) -> &'static str {
        match self {
            Evidence::Now => "now",
            Evidence::AtClose => "at_close",
            Evidence::Kind => "not_kind",
            Evidence::Certain => "not_certain",
            Evidence::Revision => "not_revision",
            Evidence::Session => "not_session",
        }
    }
}

/// What one feedback of a rollout gained between two looks. It adds up, in any order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeedbackGain {
    /// The model.
    pub model: Arc<str>,
    /// Of the rollout.
    pub revision: u32,
    /// The epoch that its calls were assigned in.
    pub epoch: u32,
    /// As declared.
    pub feedback: Arc<str>,
    /// By the index of [`crate::config::Model::variants`]: that variant as the treatment beside the baseline; empty for
    /// the baseline itself and for those that took no part.
    pub variants: Vec<Scores>,
    /// Where a strategy learns from it: all arms by themselves.
    pub rewards: Option<Rewards>,
}

/// Votes of sessions that closed between two looks. They add up, in any order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ballot {
    /// The model.
    pub model: Arc<str>,
    /// Of the rollout.
    pub revision: u32,
    /// The epoch that its calls were merged in.
    pub epoch: u32,
    /// By the index of [`crate::config::Model::variants`]: that ranker beside the baseline.
    pub votes: Vec<Votes>,
}

/// What was gained and must be kept, together or not at all.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Drained {
    /// Evidence.
    pub gains: Vec<FeedbackGain>,
    /// Evidence of another kind.
    pub ballots: Vec<Ballot>,
    /// What is remembered so that nothing counts twice; a later one takes the place of an earlier one of the same key.
    pub kept: Vec<Kept>,
}

/// One way into the [`Intake`]: a worker's, or the admin port's. Rates are bounded for each by itself.
#[derive(Debug, Clone)]
pub struct Door {
    intake: Arc<Intake>,
    source: usize,
    exposed: Arc<Mutex<Exposed>>,
}

/// Predictions that were told, and wait to be counted.
#[derive(Debug, Default)]
pub(crate) struct Exposed {
    waiting: Vec<Prediction>,
    /// Those that found no room.
    lost: u64,
}

impl Door {
    /// Takes one report; `trace` is that of the call that brought it.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn report(&self, report: &Report, trace: Option<&Trace>) -> Result<Receipt, Refusal> {
        self.intake.report(self.source, report, trace)
    }

    /// Keeps what a prediction's call was told apart by until its reward's window closes.
    pub fn remember(&self, prediction: &Prediction, context: Box<[f64]>) {
        self.intake.remember(prediction, context);
    }

    /// Says that a prediction was told to a caller, where its model has feedback that counts without a report.
    pub fn expose(&self, prediction: &Prediction) {
        let mut exposed = lock(&self.exposed);
        if exposed.waiting.len() < EXPOSED {
            exposed.waiting.push(*prediction);
        } else {
            exposed.lost += 1;
        }
    }
}

/// What is guarded is whole between any two statements, so a panic elsewhere spoils nothing.
fn lock<T>(guarded: &Mutex<T>) -> MutexGuard<'_, T> {
    guarded.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
