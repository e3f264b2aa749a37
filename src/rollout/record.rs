//! What is told of rollouts, to people and to the state directory: plain data, all of it serialisable.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::drift::Drifting;
use crate::shadow::judges::Judged;
use crate::strategy::rolling::EndpointReport;
use crate::verdict::{Change, Report, State, Verdict};

/// One change of one rollout, as it is kept for ever after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Grows by one with each record of this state directory.
    pub sequence: u64,
    /// Milliseconds since 1970, UTC: when calls began to see the change; until they do, when it was decided.
    pub millis: u64,
    /// Whose rollout.
    pub model: Arc<str>,
    /// Its revision, see [`crate::config::Model::revision`].
    pub revision: u32,
    /// Its epoch after the change.
    pub epoch: u32,
    /// Revision of the configuration in force.
    pub config: Arc<str>,
    /// Who decided.
    pub actor: Actor,
    /// What, with the findings and thresholds it was decided on.
    pub change: Change,
}

/// Who decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// The evidence.
    Judge,
    /// A person.
    Operator {
        /// The name that authorised the request.
        name: String,
        /// Why, in that person's words; empty where none were given.
        reason: String,
    },
    /// A changed file, or the start.
    File,
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Actor::Judge => f.write_str("judge"),
            Actor::Operator { name, .. } => write!(f, "operator {name}"),
            Actor::File => f.write_str("file"),
        }
    }
}

/// One line of a list of rollouts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The model.
    pub model: Arc<str>,
    /// Kind of its strategy.
    pub kind: String,
    /// Where it is in its life.
    pub state: State,
    /// The step it is at, from 0, and how many there are; none for strategies without steps.
    pub step: Option<(u32, u32)>,
    /// The share of each variant in the order of the file, 0 to 1; none where segments decide it.
    pub shares: Vec<(Arc<str>, f64)>,
    /// What all guards say together.
    pub verdict: Verdict,
    /// Revision of the rollout.
    pub revision: u32,
    /// Counts the changes of its split.
    pub epoch: u32,
}

/// Everything that is known of one rollout now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The model.
    pub model: Arc<str>,
    /// Kind of its strategy.
    pub kind: String,
    /// Revision of the rollout.
    pub revision: u32,
    /// Counts the changes of its split.
    pub epoch: u32,
    /// Revision of the configuration in force.
    pub config: Arc<str>,
    /// In the order of the file, which [`Report::shares`] and [`Report::calls`] are in too.
    pub variants: Vec<VariantStatus>,
    /// What its strategy says.
    pub report: Report,
    /// How the file and what is in force differ, in words; none where they agree.
    pub differs: Option<String>,
    /// What becomes of it when the process ends.
    pub kept: Kept,
    /// Of a rolling update, in the order of the file.
    pub endpoints: Vec<EndpointReport>,
    /// What the answers of shadows prove, in the order of the file.
    #[serde(default)]
    pub shadows: Vec<Judged>,
    /// How its answers are distributed; none where nobody looks at them.
    #[serde(default)]
    pub drift: Option<Drifting>,
    /// Where it is one for many replicas.
    #[serde(default)]
    pub fleet: Option<FleetStatus>,
}

/// How one replica stands among those that share a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FleetStatus {
    /// This one.
    pub replica: Arc<str>,
    /// The one that decides, as far as it is known; empty: nobody.
    pub holder: Arc<str>,
    /// Whether that is this one.
    pub leads: bool,
    /// Counts decisions: of the plan that is served here; 0: none.
    pub version: u64,
    /// How long the store has given no answer.
    pub silence: Duration,
    /// Whether that is so long that this replica takes itself for parted from the others.
    pub parted: bool,
    /// Parts of its evidence that the store is not known to have.
    pub waiting: u64,
    /// Those that will never count, for the store lost what they follow on.
    pub lost: u64,
    /// The store's clock less this replica's, in milliseconds.
    pub skew: i64,
    /// Why the store, or what stands there, cannot be used.
    pub trouble: Option<Arc<str>>,
    /// All that said something in the last hour.
    pub replicas: Vec<Replica>,
}

/// What a replica last said of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Replica {
    /// Its name.
    pub name: Arc<str>,
    /// When, in milliseconds since 1970 by the store's clock.
    pub millis: u64,
    /// Of the plan that it served.
    pub version: u64,
    /// The epoch that it served.
    pub epoch: u32,
    /// Of the rollout, by its file.
    pub revision: u32,
    /// Of its file.
    pub config: Arc<str>,
}

/// One variant of a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VariantStatus {
    /// Unique in its model.
    pub name: Arc<str>,
    /// As configured.
    pub version: Option<Arc<str>>,
    /// What it is, whatever it is called.
    pub build: Arc<str>,
    /// What it is in the strategy.
    pub role: Role,
    /// Whether any of its endpoints may get calls.
    pub ready: bool,
    /// Why not, where it is not ready.
    pub why: Option<String>,
    /// Whether it was rolled back, so that it gets nothing until a person lets it.
    pub blocked: bool,
    /// What its own metadata says otherwise than the file, in words.
    pub mismatch: Option<String>,
}

/// What a variant is in a strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Gets what is given to nobody else.
    Baseline,
    /// Must prove itself.
    Candidate,
    /// Has a share.
    Arm,
    /// Gets copies.
    Shadow,
    /// Gets nothing but forced calls.
    Idle,
}

/// What becomes of a rollout when the process ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// It goes on where it was.
    Directory,
    /// It begins again: there is no `state` in the configuration.
    Memory,
    /// All replicas have it.
    Fleet,
    /// It was to go on, but the directory, or the store, fails; why.
    Failing(String),
}

/// Whose assignment is to be explained.
#[derive(Debug, Clone)]
pub enum Question {
    /// Of this unit, whatever else its calls carry.
    Unit(String),
    /// Of a call with this metadata and these parameters.
    Call {
        /// Request metadata.
        metadata: http::HeaderMap,
        /// Parameters of the message.
        parameters: Vec<(String, String)>,
    },
}

/// Which variant a call would be given to, and why. The same question gives the same answer as long as `epoch` and
/// `revision` stand and the same variants are ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The model.
    pub model: Arc<str>,
    /// Revision of the rollout.
    pub revision: u32,
    /// The epoch it was answered in.
    pub epoch: u32,
    /// Which of the rollout's stages answered, from 0.
    pub stage: u32,
    /// Keyed hash of the unit, 16 hexadecimal digits, as in spans; none where the call brings no unit.
    pub unit: Option<String>,
    /// Where the unit falls among 100,000 places; none where nothing is drawn, or each call anew.
    pub place: Option<u32>,
    /// Which places belong to whom, in order.
    pub intervals: Vec<(Arc<str>, Range<u32>)>,
    /// The segment that matches, where one does.
    pub segment: Option<Arc<str>>,
    /// Who gets the call; none where each call is drawn by itself.
    pub variant: Option<Arc<str>>,
    /// The word used in spans.
    pub reason: String,
    /// How likely that was, 0 to 1.
    pub propensity: f64,
    /// What a bandit that is an apprentice would have given it.
    #[serde(default)]
    pub wished: Option<Arc<str>>,
    /// Who is asked, where several answer together; the baseline first.
    pub rankers: Vec<String>,
}

/// What a command did.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// As it stands in the audit trail.
    pub record: Arc<AuditRecord>,
    /// Whether it is in the state directory already; it holds either way.
    pub kept: Kept,
}

/// Why a question or a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such model.
    #[error("there is no model {model:?}; there is {known}")]
    Model {
        /// As asked for.
        model: String,
        /// All names.
        known: String,
    },
    /// A unit was given for a model that draws each call.
    #[error("model {model} has no `unit`: every call is drawn by itself, so there is nothing to explain")]
    NoUnit {
        /// The model.
        model: Arc<str>,
    },
    /// The unit cannot be what the file says it is.
    #[error("{unit:?} cannot stand in metadata: visible ASCII only")]
    Unit {
        /// As given.
        unit: String,
    },
    /// The store that replicas share is away, or others decide.
    #[error("the replicas share this rollout, and their store cannot be used: {why}")]
    Away {
        /// In words, with what can be done.
        why: String,
    },
    /// The strategy refuses.
    #[error(transparent)]
    Strategy(#[from] crate::verdict::Refused),
}
