//! One round: a sidecar and two servers begin anew, all is well for a while, the trouble comes, and then it is asked what
//! was decided, and when.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Options;
use crate::caller::{self, Script, Seen};
use crate::rows::{ATTEMPT, CALM, Row, UNDER_WAY};
use crate::server::{self, Manner, Server};
use crate::sidecar::Sidecar;

/// The candidate must have had its first call by then.
const PATIENCE: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(10);

/// What a round came to.
#[derive(Debug, Clone)]
pub(crate) struct Round {
    pub(crate) row: Row,
    pub(crate) seen: Seen,
    pub(crate) rollouts: u32,
    /// Of these: rolled back.
    pub(crate) rolled_back: u32,
    /// Why the first of them was.
    pub(crate) why: Option<String>,
    /// Calls that reached the candidate's server, and those of them that met its trouble.
    pub(crate) candidate_calls: u64,
    pub(crate) candidate_failures: u64,
    /// From the first failure to the decision; none where nothing was decided.
    pub(crate) decided_after: Option<Duration>,
    /// From the decision to the last call that reached the candidate; none where none came after it.
    pub(crate) last_after: Option<Duration>,
}

impl Round {
    /// Whether every bound was held.
    pub(crate) fn holds(&self) -> bool {
        self.broken().is_empty()
    }

    /// The bounds that were not held, in words.
    pub(crate) fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let failed = self.seen.failed();
        if failed > 0 && !self.row.may_fail() {
            broken.push(format!("{failed} calls failed: {:?}", self.seen.failures));
        }
        if let Some(most) = self.longest_allowed().filter(|most| self.seen.longest > *most) {
            broken.push(format!("a caller waited {:?}, more than {most:?}", self.seen.longest));
        }
        let wanted = if self.row.rolls_back() { self.rollouts } else { 0 };
        if self.rolled_back != wanted {
            let why = self.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            broken.push(format!("{} of {} rollouts were rolled back{why}", self.rolled_back, self.rollouts));
        }
        if let (Some(within), Some(after)) = (self.row.decides_within(), self.decided_after)
            && after > within
        {
            broken.push(format!("decided {after:?} after the first failure"));
        }
        if let Some(late) = self.last_after.filter(|late| self.row.rolls_back() && *late > UNDER_WAY) {
            broken.push(format!("the candidate had a call {late:?} after the decision"));
        }
        broken
    }

    /// How long a caller may have waited: for a hang the attempt's time, and what the baseline took at its worst.
    pub(crate) fn longest_allowed(&self) -> Option<Duration> {
        (self.row == Row::Hang).then(|| ATTEMPT + self.seen.longest_baseline)
    }

    /// In a line, while it goes on.
    pub(crate) fn line(&self) -> String {
        let Round { seen, rolled_back, rollouts, decided_after, last_after, .. } = self;
        format!(
            "{} calls, {} failed, {} fell back, {} strange; longest wait {:.1?}, of the baseline's {:.1?}; the candidate \
             had {}, in trouble {}; {rolled_back} of {rollouts} rolled back{}{}{}",
            seen.calls,
            seen.failed(),
            seen.fell_back,
            seen.strangers(),
            seen.longest,
            seen.longest_baseline,
            self.candidate_calls,
            self.candidate_failures,
            decided_after.map(|after| format!(", {after:.1?} after the first failure")).unwrap_or_default(),
            last_after
                .filter(|_| self.row.rolls_back())
                .map(|last| format!(", last call {last:.1?} later"))
                .unwrap_or_default(),
            match self.broken() {
                broken if broken.is_empty() => String::new(),
                broken => format!("; NOT HELD: {}", broken.join("; ")),
            },
        )
    }
}

/// Plays one round of `row`.
pub(crate) fn play(row: Row, options: &Options) -> Result<Round, Box<dyn Error>> {
    let rollouts = if row == Row::Strange { options.rollouts } else { 1 };
    let [(baseline, v1), (candidate, v2)] = server::start()?;
    let sidecar = Sidecar::start(&options.parhelion, &options.models([v1, v2], rollouts))?;
    let script = Script {
        to: sidecar.data,
        rate: options.rate,
        models: rollouts,
        users: row.users(),
        strangers: row == Row::Strange,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let seen = runtime.block_on(course(row, script, &baseline, &candidate))?;
    let audit = sidecar.audit()?;
    let (decisions, why): (Vec<Duration>, Vec<&Value>) = audit.iter().filter_map(rolled_back).unzip();
    let first = candidate.spoilt().1.map(|first| first + row.first_failure_after());
    let decided = decisions.first().copied();
    Ok(Round {
        row,
        seen,
        rollouts,
        rolled_back: u32::try_from(decisions.len())?,
        why: why.first().and_then(|why| why.as_str()).map(str::to_owned),
        candidate_calls: candidate.calls(),
        candidate_failures: candidate.spoilt().0,
        decided_after: decided.zip(first).map(|(decided, first)| decided.saturating_sub(first)),
        last_after: decided.zip(candidate.last()).and_then(|(decided, last)| last.checked_sub(decided)),
    })
}

/// All calls of a round.
async fn course(
    row: Row,
    script: Script,
    baseline: &Arc<Server>,
    candidate: &Arc<Server>,
) -> Result<Seen, Box<dyn Error>> {
    let callers = caller::start(script);
    let began = Instant::now();
    while candidate.calls() == 0 {
        if began.elapsed() > PATIENCE {
            return Err("the candidate never got a call".into());
        }
        tokio::time::sleep(TICK).await;
    }
    tokio::time::sleep(CALM).await;
    let (trouble, after) = row.lasts();
    let (one, other) = row.trouble();
    baseline.become_(one);
    candidate.become_(other);
    tokio::time::sleep(trouble).await;
    if !after.is_zero() {
        baseline.become_(Manner::Well);
        candidate.become_(Manner::Well);
        tokio::time::sleep(after).await;
    }
    Ok(callers.stop().await)
}

/// When a record's rollout was rolled back, since 1970, and why; none of other records.
fn rolled_back(record: &Value) -> Option<(Duration, &Value)> {
    let at = record["at_unix_ms"].as_u64()?;
    (record["action"] == "rolled_back").then(|| (Duration::from_millis(at), &record["why"]))
}
