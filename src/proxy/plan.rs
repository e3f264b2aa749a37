//! Step 3: which variant gets a call, and why.

use std::cell::RefCell;
use std::sync::Arc;

use super::Recognised;
use super::interleaved::Together;
use crate::assignment::{Assignment, Odds, Reason};
use crate::call::Call;
use crate::dispatch::upload::{First, Upload};
use crate::evidence::epoch::{Counted, Epoch};
use crate::fault::Code;
use crate::fault::Failure;
use crate::feedback::shown;
use crate::outcome::merged::Merged;
use crate::prediction;
use crate::protocol::encoding::{self, inflate_front};
use crate::protocol::frame::PREFIX;
use crate::protocol::{Head, Peek, oip};
use crate::serving::{Rollout, Serving, VARIANT};
use crate::strategy::bandit::context;
use crate::strategy::{Decision, Refused};
use crate::telemetry::counter::Counter;
use crate::worker::Worker;

/// A call that is planned.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The generation that decided.
    pub serving: &'a Serving,
    /// The model's rollout.
    pub rollout: &'a Rollout,
    /// Which variant, why, and how likely that was.
    pub assignment: Assignment,
    /// Keyed hash of the unit.
    pub unit: Option<u64>,
    /// Index of the segment that matched, among the strategy's.
    pub segment: Option<usize>,
    /// What an apprentice would have given it to, and how likely that would have been.
    pub wished: Option<(usize, f64)>,
    /// What it was told apart by, where it was.
    pub context: Option<Box<[f64]>>,
    /// How likely each arm was.
    pub odds: Odds,
    /// Of the rollout's split.
    pub epoch: u32,
    /// What the first message asks for, where it was read.
    pub asked: Option<Head>,
    /// Whether it asks for this model, and not for one that is not known.
    pub named: bool,
    /// Whether an endpoint that is not ready may be asked: the call is about the server itself.
    pub even_unready: bool,
    /// Whether the call names the model, or its service was given to it: what goes to the default model without a name
    /// is not meant for its other variants.
    pub addressed: bool,
    /// Where the call is counted as evidence; none where it is none, or was counted.
    pub counted: RefCell<Option<Counted>>,
    /// Who is asked beside the baseline, where several answer together.
    pub together: Option<Together>,
    /// What they made of it, once that is known.
    pub merged: RefCell<Option<Box<Merged>>>,
}

impl Plan<'_> {
    /// Index of the assigned variant.
    pub fn variant(&self) -> usize {
        self.assignment.variant
    }
}

/// Plans a call whose first message was read as far as needed.
///
/// # Errors
/// When the caller forces a variant that does not exist.
pub(super) fn plan<'a>(
    worker: &Worker,
    serving: &'a Serving,
    call: &Recognised,
    upload: &Upload,
) -> Result<Plan<'a>, Failure> {
    let asked = asked(call, upload, serving);
    let path = call.head.uri.path();
    let named = asked.as_ref().and_then(|head| serving.by_name(&head.model));
    let declared = serving.by_service(path).filter(|_| !asks_about_server(path));
    let rollout = named.or(serving.by_service(path)).unwrap_or_else(|| serving.default());
    let reader = rollout.strategy.context();
    let numbers = reader.and_then(|reader| numbers(reader, asked.as_ref()?));
    let view = Call {
        metadata: &call.head.headers,
        parameters: asked.as_ref().map_or(&[], |head| &head.parameters),
        input: numbers.as_deref(),
    };
    let addressed = named.is_some() || declared.is_some();
    let ready = |variant: usize| rollout.variants[variant].upstream.is_ready();
    let (mut counted, mut odds, mut number) = (None, Odds::NONE, 0);
    let mut rankers = None;
    let Decision { mut assignment, unit, segment, drawn } = if let Some(hop) = &call.hop {
        let model = &rollout.model;
        Decision::certain(model.variant(&hop.variant).unwrap_or_else(|| model.baseline()), Reason::Hop)
    } else if let Some(decision) = forced(worker, rollout, &view)? {
        decision
    } else if addressed {
        rollout.live.with(|snapshot| {
            let standing = &snapshot.standing;
            let decision = rollout.strategy.assign(standing, &view, worker.draw(), &ready);
            // Who takes no part was never one of several.
            if !matches!(decision.assignment.reason, Reason::Holdout | Reason::Layer) {
                odds = rollout.strategy.odds(standing, &decision, &ready);
            }
            number = standing.epoch;
            if decision.assignment.reason == Reason::Interleaved {
                rankers = rollout.strategy.rankers(standing);
            }
            let strategy = &rollout.strategy;
            let counts = |epoch: &&Arc<Epoch>| {
                let alone = epoch.takes_alone(&decision.assignment);
                alone.unwrap_or_else(|| strategy.is_evidence(standing, &decision, &ready))
            };
            if let Some(epoch) = snapshot.epoch_of(decision.segment).filter(counts) {
                let (variant, unit) = (decision.assignment.variant, decision.unit);
                counted = epoch
                    .begin(worker.index, variant, unit, worker.clock.at(call.arrived))
                    .map(|counted| counted.exposed(|| prediction::bucket(unit, call.prediction)));
            }
            decision
        })
    } else {
        let variant = rollout.live.with(|snapshot| rollout.strategy.unnamed(&snapshot.standing));
        Decision::certain(variant.unwrap_or(rollout.model.baseline()), Reason::Default)
    };
    let context = reader
        .filter(|_| drawn.is_some())
        .and_then(|reader| reader.read(&view, &mut [0.0; context::MOST]).map(Box::from));
    // Only what is one message each way can be answered by several.
    let together = rankers.filter(|_| call.peek == Some(Peek::Unary)).map(|rankers| Together {
        rankers,
        draft: rollout.strategy.draft(&view).map(|name| shown::draft(name, unit)),
    });
    if together.is_none() && assignment.reason == Reason::Interleaved {
        assignment.reason = Reason::Default;
    }
    let even_unready = call.peek.is_none() && asks_about_server(path);
    let named = named.is_some();
    Ok(Plan {
        serving,
        rollout,
        assignment,
        unit,
        segment,
        wished: drawn.and_then(|drawn| drawn.wished),
        context,
        odds,
        epoch: number,
        asked,
        named,
        even_unready,
        addressed,
        counted: RefCell::new(counted),
        together,
        merged: RefCell::default(),
    })
}

/// The variant that the caller forces, where it may.
///
/// # Errors
/// When there is no such variant; a caller who may not force is not told, its wish is ignored and counted.
fn forced(worker: &Worker, rollout: &Rollout, call: &Call<'_>) -> Result<Option<Decision>, Failure> {
    let Some(wish) = call.metadata.get(VARIANT) else { return Ok(None) };
    let name = String::from_utf8_lossy(wish.as_bytes());
    match rollout.strategy.forced(call, &name) {
        Ok(decision) => Ok(Some(decision)),
        Err(Refused::NotAllowed) => {
            worker.counters.add(Counter::ForceStripped);
            Ok(None)
        }
        Err(Refused::Unknown) => {
            let model = &rollout.model;
            let known: Vec<&str> = model.variants.iter().map(|variant| &*variant.name).collect();
            let known = known.join(", ");
            let message =
                format!("parhelion-variant: model {} has no variant {name:?}; it has {known}", model.name);
            Err(Failure::client(Code::INVALID_ARGUMENT, message))
        }
    }
}

/// The numbers of the input tensor that calls are told apart by.
fn numbers(reader: &context::Reader, asked: &Head) -> Option<Vec<f64>> {
    let (name, _) = reader.input()?;
    asked.inputs.iter().rev().find(|input| *input.name == **name)?.numbers()
}

/// What the first message asks for; `None` where it was not looked into or cannot be read.
fn asked(call: &Recognised, upload: &Upload, serving: &Serving) -> Option<Head> {
    call.peek?;
    match upload.first() {
        First::Head(head) => Some(head.clone()),
        First::Unreadable => None,
        First::Compressed => inflated(call, upload, serving),
    }
}

/// What a compressed first message asks for, inflated as far as that takes: it may be longer than what is kept of it.
fn inflated(call: &Recognised, upload: &Upload, serving: &Serving) -> Option<Head> {
    let encoding = call.head.headers.get(&encoding::HEADER)?;
    let limit = serving.config.limits.message.bytes();
    let bytes = upload.kept().concat();
    let message = bytes.get(PREFIX..)?;
    let length = u32::from_be_bytes(bytes.get(1..PREFIX)?.try_into().ok()?) as usize;
    let message = &message[..message.len().min(length)];
    let mut scan = call.adapter.request_scan(serving.wants_parameters()).wanting(serving.wants_inputs());
    let whole = inflate_front(encoding.as_bytes(), message, limit, |plain| {
        // A scan that met an error keeps it, and is never enough.
        scan.feed(plain).is_ok() && !scan.enough()
    });
    if whole.ok()? {
        scan.finish().ok()?;
    }
    scan.enough().then(|| scan.into_head())
}

/// Questions about the server itself (is it ready, what does it hold) are for it to answer, ready or not.
fn asks_about_server(path: &str) -> bool {
    path.starts_with(oip::SERVICE) || path.starts_with("/grpc.")
}
