//! What a rollout found out, what it decided, and why: plain data for status pages, spans, audit records and the
//! state that outlives the process.
//!
//! *Not enough data* is a verdict, and said as such. Every change of plan carries the findings that it
//! was made on, so that nobody must believe it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

/// What the evidence says of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is proven to be no worse than its margin allows, or better where it had to be.
    Pass,
    /// It is proven to be worse.
    Fail,
    /// Neither is proven yet.
    NotEnoughData,
    /// It is proven to be neither better nor worse than the least effect of interest.
    Equivalent,
    /// The time is over, and neither is proven.
    Inconclusive,
    /// What it rests on is broken, like the ratio of the samples: nothing can be said.
    Invalid,
}

/// What is asked of a candidate by one finding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    /// That it is not worse.
    #[default]
    Guardrail,
    /// That it is better.
    Success,
    /// That the comparison itself can be trusted.
    Validity,
}

/// Where a rollout is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The strategy decides nothing: it goes on as configured for ever.
    Steady,
    /// The candidate is not ready yet, so it gets nothing.
    Waiting,
    /// It moves by itself.
    Running,
    /// A person stopped it; guards stay active.
    Paused,
    /// It stopped by itself, for no verdict came in time; guards stay active.
    Held,
    /// The last step passed, and a person must promote it; guards stay active.
    Passed,
    /// The candidate gets everything.
    Promoted,
    /// The candidate gets nothing, and its build is blocked.
    RolledBack,
    /// A person gave everything to one variant.
    Pinned,
}

/// What one guard found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// `errors`, `rejections`, `latency p99`, `latency mean`, `feedback approved`, `resources memory`, `sample ratio`,
    /// `reports approved`.
    pub guard: Arc<str>,
    /// What is asked there.
    #[serde(default)]
    pub aim: Aim,
    /// Who is compared with the baseline; empty where only one can be.
    #[serde(default)]
    pub variant: Arc<str>,
    /// What it says.
    pub verdict: Verdict,
    /// The baseline, in the guard's own unit.
    pub baseline: Estimate,
    /// The candidate, likewise.
    pub candidate: Estimate,
    /// How much worse the candidate is, in [`Finding::scale`]; negative: better. None: nothing can be said yet.
    pub harm: Option<Interval>,
    /// The harm that is allowed, in the same scale; where success is asked for, the least effect of interest; where
    /// validity is, the part of both that the variant was meant to have.
    pub margin: f64,
    /// What `harm` and `margin` are measured in.
    pub scale: Scale,
    /// Natural logarithm of the evidence (an e-value): against the candidate; where success is asked for, of any effect;
    /// where validity is, that the samples are not as they were meant.
    pub ln_e: f64,
    /// Where [`Finding::ln_e`] is enough to say so.
    pub threshold: f64,
    /// Candidate calls, or feedback, that a healthy candidate still needs before the guard can pass; 0: none.
    pub missing: u64,
}

/// What was seen of one variant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Calls, feedback, or windows of resources, it rests on.
    pub n: u64,
    /// A share, seconds, bytes, or the feedback's own unit; none without data.
    pub value: Option<f64>,
}

/// A confidence interval that holds at any time. An end that nothing bounds yet is infinite, and null in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    #[serde(deserialize_with = "bounded::<_, -1>")]
    pub low: f64,
    /// The estimate itself.
    pub middle: f64,
    /// Upper end.
    #[serde(deserialize_with = "bounded::<_, 1>")]
    pub high: f64,
}

/// Reads null as the infinity of that sign.
fn bounded<'de, D: Deserializer<'de>, const SIGN: i8>(from: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(from)?.unwrap_or(f64::INFINITY * f64::from(SIGN)))
}

/// What a difference is measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Candidate's share less the baseline's, 0.001 is a tenth of a percent of calls.
    Share,
    /// Candidate's value over the baseline's, less one: 0.15 is 15 % more.
    Ratio,
    /// Baseline's mean less the candidate's, in the feedback's own unit, or the reverse where lower is better.
    Mean,
}

/// A change of plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// What was done.
    pub action: Action,
    /// In words, for people: one sentence.
    pub why: String,
    /// State before and after.
    pub from: State,
    /// State after it.
    pub to: State,
    /// Step after it, from 0; none for strategies without steps.
    pub step: Option<u32>,
    /// The candidate's share after it, 0 to 1; that of all that are compared, where none of several is meant.
    pub share: f64,
    /// Whom of several it is about: who won, or was taken out. Empty where there is but one, or nobody is meant.
    #[serde(default)]
    pub variants: Vec<Arc<str>>,
    /// What it was decided on; empty where a person decided without evidence.
    pub findings: Vec<Finding>,
}

/// Something that answers prove now and did not before; the plan is as it was.
#[derive(Debug, Clone, PartialEq)]
pub struct News {
    /// Whose answers.
    pub variant: Arc<str>,
    /// In one sentence.
    pub why: String,
    /// What it rests on.
    pub finding: Finding,
}

/// What was done to a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A revision began.
    Started,
    /// The candidate's first step began, after it was ready.
    Began,
    /// The next step.
    Advanced,
    /// No verdict in time.
    Held,
    /// The last step passed, and a person must promote it.
    Passed,
    /// The candidate became what everybody gets.
    Promoted,
    /// Everything went from one variant to another at once.
    Flipped,
    /// The way back to the variant before is closed.
    Settled,
    /// Endpoints get no new calls, for their servers are to be replaced.
    Cordoned,
    /// An endpoint has no calls any more: its server can be replaced.
    Drained,
    /// An endpoint gets calls again.
    Readmitted,
    /// Every endpoint runs again what it ran before.
    Restored,
    /// The candidate was taken out.
    RolledBack,
    /// A person stopped it.
    Paused,
    /// A person let it go on.
    Resumed,
    /// A person gave everything to one variant.
    Pinned,
    /// Answers of a shadow, or how those of a variant are distributed, were judged otherwise than before; the plan is as it
    /// was.
    Judged,
}

/// What a person wants of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Give the candidate everything now.
    Promote,
    /// Take the candidate out now, and block its build.
    Rollback,
    /// Stay at this step.
    Pause,
    /// Go on after a pause, a hold or a pin.
    Resume,
    /// Give everything to this variant, an index into the model's.
    Pin(usize),
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The strategy has no such thing.
    #[error("{command} has no meaning for kind: {kind}")]
    Meaningless {
        /// The command's word.
        command: &'static str,
        /// The strategy's kind.
        kind: &'static str,
    },
    /// Not in this state.
    #[error("{command} is not possible while the rollout is {state}: {remedy}")]
    State {
        /// The command's word.
        command: &'static str,
        /// The state's word.
        state: &'static str,
        /// What to do instead.
        remedy: &'static str,
    },
    /// The variant cannot take calls.
    #[error("variant {variant} is not ready ({why}): wait until it is, or pin another")]
    NotReady {
        /// Its name.
        variant: Arc<str>,
        /// What its endpoints say.
        why: String,
    },
}

/// Everything a status page says of one rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Where it is in its life.
    pub state: State,
    /// The step it is at, from 0, and how many there are; none for strategies without steps.
    pub step: Option<(u32, u32)>,
    /// The stage it is at; none for rollouts of one strategy.
    #[serde(default)]
    pub stage: Option<Stage>,
    /// The share of each variant, in the order of the model's variants, 0 to 1; sums to 1.
    pub shares: Vec<f64>,
    /// Calls that were assigned to each variant since the revision began.
    pub calls: Vec<u64>,
    /// How long this step lasts already.
    pub since: Duration,
    /// What the guards find now.
    pub findings: Vec<Finding>,
    /// All of them together.
    pub verdict: Verdict,
    /// What it waits for, in words for people; empty where it waits for nothing.
    pub waits_for: String,
    /// What a strategy that learns knows of its arms; none for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning: Option<Learning>,
}

/// What a strategy that learns knows of its arms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Learning {
    /// As in the file.
    pub policy: String,
    /// The feedback that it learns from.
    pub reward: Arc<str>,
    /// Whether it only tells what it would do.
    pub apprentice: bool,
    /// Counts the changes of the shares since the revision began.
    pub epoch: u32,
    /// In the order of their names.
    pub arms: Vec<ArmReport>,
    /// How much better than the best arm another may be, as part of it, with a probability of 95 % no more; none where
    /// too little is known.
    pub remaining: Option<f64>,
    /// Of an apprentice: what its choices would have been worth; none where nothing is known yet.
    pub worth: Option<Worth>,
}

/// What is known of one arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArmReport {
    /// Its variant.
    pub variant: Arc<str>,
    /// Values that were ever seen of it.
    pub values: u64,
    /// Those that still count, where old ones count less.
    pub counted: f64,
    /// Their mean in this revision, weighted by how likely each call was; none without any.
    pub mean: Option<f64>,
    /// Its standard error.
    pub error: f64,
    /// How likely it is the best of those that are not out, 0 to 1.
    pub best: f64,
    /// The share that the policy wants for it, 0 to 1.
    pub wished: f64,
    /// Whether a guard took it out.
    pub out: bool,
}

/// What choices that were not made would have been worth: a reward per call and its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Worth {
    /// Of the apprentice.
    pub own: (f64, f64),
    /// Of the baseline, from the same calls.
    pub baseline: (f64, f64),
    /// Values that both rest on.
    pub n: u64,
}

/// Where a rollout of several stages is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// From 0.
    pub index: u32,
    /// How many there are.
    pub of: u32,
    /// As in the file, else its strategy's kind.
    pub name: Arc<str>,
}

impl Verdict {
    /// The word used in status, spans and audit records.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Fail => "fail",
            Verdict::NotEnoughData => "not_enough_data",
            Verdict::Equivalent => "equivalent",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Invalid => "invalid",
        }
    }
}

impl Aim {
    /// The word used in status and audit records.
    pub fn name(self) -> &'static str {
        match self {
            Aim::Guardrail => "guardrail",
            Aim::Success => "success",
            Aim::Validity => "validity",
        }
    }
}

impl State {
    /// The word used in status, metrics and audit records.
    pub fn name(self) -> &'static str {
        match self {
            State::Steady => "steady",
            State::Waiting => "waiting",
            State::Running => "running",
            State::Paused => "paused",
            State::Held => "held",
            State::Passed => "passed",
            State::Promoted => "promoted",
            State::RolledBack => "rolled_back",
            State::Pinned => "pinned",
        }
    }
}

impl Action {
    /// The word used in audit records and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Action::Started => "started",
            Action::Began => "began",
            Action::Advanced => "advanced",
            Action::Held => "held",
            Action::Passed => "passed",
            Action::Promoted => "promoted",
            Action::Flipped => "flipped",
            Action::Settled => "settled",
            Action::Cordoned => "cordoned",
            Action::Drained => "drained",
            Action::Readmitted => "readmitted",
            Action::Restored => "restored",
            Action::RolledBack => "rolled_back",
            Action::Paused => "paused",
            Action::Resumed => "resumed",
            Action::Pinned => "pinned",
            Action::Judged => "judged",
        }
    }
}

impl Command {
    /// The word it is given by.
    pub fn name(&self) -> &'static str {
        match self {
            Command::Promote => "promote",
            Command::Rollback => "rollback",
            Command::Pause => "pause",
            Command::Resume => "resume",
            Command::Pin(_) => "pin",
        }
    }
}
