//! Many replicas, one rollout: what each of them says to the store that they share, and what it makes of the answer.
//!
//! A replica counts its own calls, hands what they showed over in numbered parts, and serves the plan that it read last.
//! One of them holds the lease: it takes the parts of all, decides, and puts the next plan in the place of the one that it
//! decided from, or not at all. A part counts once whatever is sent twice, for the plan says which parts of whom it rests
//! on, and a replica keeps its parts until a plan that it holds has them. So nothing is lost with the store either: who
//! holds the newest plan puts it back, and everybody hands over what that plan lacks.
//!
//! [`member`] is one replica, [`ledger`] the store: both pure, so that faults can be played by the thousand. [`redis`] is
//! the store as a server keeps it, by a script that does what `ledger` does. [`reports`] is how feedback that is reported
//! to several replicas counts once. Who drives them is [`crate::rollout`].

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

pub mod exchange;
pub mod ledger;
pub mod member;
pub mod pace;
pub mod part;
pub mod redis;
pub mod reports;
pub mod seat;

pub use exchange::{Answer, Ask, Mark, Plan};
pub use member::Member;
pub use part::Part;
pub use seat::Seat;

/// What an answer is waited for in.
pub type Answered<'a> = Pin<Box<dyn Future<Output = Result<Answer, StoreError>> + Send + 'a>>;

/// Where replicas meet.
pub trait Store: fmt::Debug + Send + Sync {
    /// Tells what `ask` says and reads what others said, as one step that nobody comes between.
    fn exchange<'a>(&'a self, rollout: &'a Rollout, ask: &'a Ask) -> Answered<'a>;
}

impl<S: Store + ?Sized> Store for Arc<S> {
    fn exchange<'a>(&'a self, rollout: &'a Rollout, ask: &'a Ask) -> Answered<'a> {
        (**self).exchange(rollout, ask)
    }
}

/// Whose plan it is: one revision of one model.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rollout {
    /// The model.
    pub model: Arc<str>,
    /// See [`crate::config::Model::revision`].
    pub revision: u32,
}

/// Why the store gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nobody listens, or nobody answers in time.
    #[error("it is not reached: {0}")]
    Away(String),
    /// It answers that it cannot, for instance while it loads what it had, or as a copy of another one.
    #[error("it cannot do what is asked of it: {0}")]
    Unable(String),
    /// Something else listens there, or a version that knows no such scripts.
    #[error("what answers there is neither Redis 7 nor Valkey: {0}; see `state`")]
    Stranger(String),
    /// It does not let this replica in.
    #[error("it refuses this replica: {0}; see the user in `state`, and `fleet.password_file`")]
    Refused(String),
    /// It has no room.
    #[error("it is full: {0}")]
    Full(String),
    /// What stands under the prefix is not Parhelion's, or of another version.
    #[error(
        "what stands there is not of this version of Parhelion: {0}; give this fleet a `fleet.prefix` of its own"
    )]
    Foreign(String),
}

impl StoreError {
    /// The word used in metrics.
    pub fn cause(&self) -> &'static str {
        match self {
            StoreError::Away(_) => "away",
            StoreError::Unable(_) => "unable",
            StoreError::Stranger(_) => "stranger",
            StoreError::Refused(_) => "refused",
            StoreError::Full(_) => "full",
            StoreError::Foreign(_) => "foreign",
        }
    }
}
