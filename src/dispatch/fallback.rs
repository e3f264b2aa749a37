//! What another variant than the baseline fails at, the baseline answers: within the same deadline, and before the
//! caller has seen a byte.
//!
//! For that the request is kept while it goes up (`limits.retain`) and the answer held while it comes down (`Hold`).
//! A variant that hangs has a time of its own: half of what is left of the deadline, and never more than a few times
//! what the baseline takes ([`Patience`]). A budget keeps a broken variant from doubling the baseline's load
//! ([`Budget`]). Only unary calls that the strategy assigned are answered so: of a stream nobody knows its end, who
//! forces a variant wants its answer, a hop was assigned elsewhere, and where a rollout has ended nobody is on trial.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use super::budget::Budget;
use super::hold::{Hold, Stage};
use super::patience::Patience;
use super::upload::Upload;
use super::{Answering, Delivery, Journal, Leg, Shipment};
use crate::assignment::{Assignment, Reason};
use crate::config::{self, Model};
use crate::fault::{Blame, Code, Failure};
use crate::outcome::{Fallback, Outcome};
use crate::protocol::Peek;
use crate::server::respond::Responder;

/// What one worker holds for one model's fallbacks.
#[derive(Debug)]
pub struct Reserve {
    /// As configured.
    pub settings: config::Fallback,
    /// Who answers, an index into the model's variants.
    pub baseline: usize,
    state: Rc<State>,
}

/// What outlives a reload.
#[derive(Debug)]
struct State {
    baseline: Arc<str>,
    budget: RefCell<Budget>,
    patience: RefCell<Patience>,
}

impl Reserve {
    /// For `model`, going on from `before` where the baseline is the same; `None` where nothing falls back.
    pub fn new(model: &Model, before: Option<&Reserve>) -> Option<Self> {
        let settings = model.fallback.clone()?;
        let baseline = model.baseline();
        let name = &model.variants.get(baseline)?.name;
        let known = before.filter(|before| before.state.baseline == *name);
        let state = known.map_or_else(|| Rc::new(State::new(name)), |known| Rc::clone(&known.state));
        Some(Reserve { settings, baseline, state })
    }

    /// Whether a call that is read so and assigned so may be answered by the baseline instead.
    pub fn covers(&self, peek: Option<Peek>, assignment: &Assignment) -> bool {
        peek == Some(Peek::Unary)
            && assignment.variant != self.baseline
            && !matches!(assignment.reason, Reason::Forced | Reason::Hop | Reason::Decided)
    }

    /// Learns from a call that ended at `now`: how busy the baseline is, and how long it takes for one message.
    pub fn observe(&self, outcome: &Outcome, unary: bool, now: Instant) {
        let assigned = outcome.route.as_ref().map(|route| route.assigned.variant);
        if assigned == Some(self.baseline) {
            self.state.budget.borrow_mut().called(now);
        }
        let last = outcome.attempts.iter().rfind(|attempt| attempt.variant == self.baseline);
        if let Some(last) = last.filter(|last| unary && last.status == Code::OK) {
            self.state.patience.borrow_mut().answered(last.elapsed, now);
        }
    }

    /// Takes one fallback from the budget, where there is one left.
    pub(super) fn take(&self, now: Instant) -> bool {
        self.state.budget.borrow_mut().take(self.settings.budget, now)
    }

    /// How long one of the baseline's own calls may take before another variant's would be broken off; none where that
    /// would not be.
    pub fn patience_with_itself(
        &self,
        peek: Option<Peek>,
        assignment: &Assignment,
        deadline: Option<Instant>,
    ) -> Option<Duration> {
        let own = peek == Some(Peek::Unary) && assignment.variant == self.baseline;
        own.then(|| self.patience(deadline, Instant::now()))
    }

    /// How long a variant may take that is tried at `now`.
    pub fn patience(&self, deadline: Option<Instant>, now: Instant) -> Duration {
        let bound = self.settings.timeout.unwrap_or_else(|| self.state.patience.borrow_mut().bound(now));
        let half = deadline.map(|deadline| deadline.saturating_duration_since(now) / 2);
        half.map_or(bound, |half| half.min(bound))
    }
}

impl State {
    fn new(baseline: &Arc<str>) -> Self {
        let now = Instant::now();
        State {
            baseline: Arc::clone(baseline),
            budget: RefCell::new(Budget::new(now)),
            patience: RefCell::new(Patience::new(now)),
        }
    }
}

impl Shipment<'_> {
    /// Delivers to the variant, and to the baseline what that fails at.
    pub async fn deliver_or_fall_back(
        &mut self,
        reserve: &Reserve,
        upload: &mut Upload,
        respond: &mut Responder,
        journal: &mut Journal,
    ) -> Delivery {
        let hold = Hold::new(reserve, self.rollout, self.deadline);
        let patience = reserve.patience(self.deadline, Instant::now());
        let leg = Leg { hold: Some(&hold), ..Leg::new(upload, respond, journal) };
        let delivery = match self.patiently(leg, &hold, patience).await {
            Some(delivery) => delivery,
            None => Delivery::Failed(self.timed_out(patience, journal)),
        };
        let falls = match &delivery {
            _ if hold.stage() == Stage::GivenUp => true,
            // What is said of the caller or of the sidecar itself is no failure of the variant.
            Delivery::Failed(failure) if matches!(failure.blame, Blame::Upstream | Blame::Nobody) => {
                respond.is_silent() && hold.may_fall_back(upload.is_repeatable())
            }
            _ => false,
        };
        if !falls {
            journal.refused = hold.refused().or_else(|| too_late(&delivery, hold.stage(), journal));
            return delivery;
        }
        self.origin.failed(&journal.attempts);
        journal.fell_back = true;
        journal.received = Default::default();
        upload.rewind();
        let failed = self.answering.variant;
        self.answering = Answering { variant: reserve.baseline, instead_of: Some(failed) };
        self.deliver(&mut Leg::new(upload, respond, journal)).await
    }

    /// Makes attempts for as long as the variant may take; `None` when it took longer.
    async fn patiently(&self, mut leg: Leg<'_>, hold: &Hold<'_>, patience: Duration) -> Option<Delivery> {
        let mut until = Instant::now() + patience;
        let mut deliver = pin!(self.deliver(&mut leg));
        loop {
            if let Ok(delivery) = timeout_at(until.into(), deliver.as_mut()).await {
                return Some(delivery);
            }
            if hold.stage() == Stage::Committed {
                return Some(deliver.await);
            }
            until = hold.extended(patience, Instant::now())?;
        }
    }

    /// The variant's time is over; what it was at is broken off.
    fn timed_out(&self, patience: Duration, journal: &mut Journal) -> Failure {
        let had_time = patience >= self.limits.min_deadline;
        let blame = if had_time { Blame::Upstream } else { Blame::Nobody };
        journal.expire(Code::DEADLINE_EXCEEDED, blame, self.arrived.elapsed());
        let endpoint = journal.attempts.last().map_or("", |attempt| &*attempt.endpoint);
        let message = format!("{}: no answer within {patience:?} (fallback.timeout)", self.place(endpoint));
        Failure { code: Code::DEADLINE_EXCEEDED, message, blame }
    }
}

/// Says of a delivery that failed after its answer had been committed that this was too late.
fn too_late(delivery: &Delivery, stage: Stage, journal: &Journal) -> Option<Fallback> {
    let failed = match delivery {
        Delivery::Answered { status, .. } => status.may_fall_back() || journal.received.is_bad(),
        Delivery::Failed(failure) => matches!(failure.blame, Blame::Upstream | Blame::Nobody),
        Delivery::Stuck(_) | Delivery::Cancelled => false,
    };
    (failed && stage == Stage::Committed).then_some(Fallback::Committed)
}
