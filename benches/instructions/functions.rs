//! Functions that every call goes through, each on as many things as were prepared before.

use std::error::Error;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue};
use parhelion::assignment::{Assignment, Odds, Reason};
use parhelion::call::Call;
use parhelion::config::{self, Environment, Model};
use parhelion::evidence::{Earned, Rewards};
use parhelion::fault::{Blame, Code};
use parhelion::outcome::{Attempt, Latency, Outcome, Route, Trace, Traffic};
use parhelion::protocol;
use parhelion::strategy::course::{Course, Learnt};
use parhelion::strategy::interleave::{Chance, Lists, Round};
use parhelion::strategy::{Standing, Strategy};
use parhelion::telemetry::counter::Counters;
use parhelion::telemetry::{self, environment};
use uuid::Uuid;

use crate::message;

/// Things prepared, however many of them are used: so preparing costs the same in every run. In batches, which the
/// processor's cache still holds when they are used, as it does when a call brings them.
const PREPARED: usize = 20_000;
const BATCH: usize = 100;
const FILE: &str = "models: {bench: {unit: [metadata:x-user-id], variants: {\
    v1: {endpoint: 'http://127.0.0.1:1', version: '1'}, v2: {endpoint: 'http://127.0.0.1:2', version: '2'}}, \
    strategy: {kind: ab, weights: {v1: 90%, v2: 10%}}}}";

/// Four variants, and a context of a constant, a number, three words and a tensor of eleven: 16 features.
const ARMS: &str = "v1: {endpoint: 'http://127.0.0.1:1'}, v2: {endpoint: 'http://127.0.0.1:2'}, \
    v3: {endpoint: 'http://127.0.0.1:3'}, v4: {endpoint: 'http://127.0.0.1:4'}";
const CONTEXT: &str = "[{metadata: x-age, offset: 40, scale: 20}, {metadata: x-land, values: [se, de, fr]}, \
    {input: features, size: 11}]";
const FEATURES: usize = 16;
/// Items of each list that is merged.
const ITEMS: i64 = 100;

fn model() -> Result<Arc<Model>, Box<dyn Error>> {
    read(FILE)
}

fn read(text: &str) -> Result<Arc<Model>, Box<dyn Error>> {
    let loaded =
        config::read("bench", text, &Environment::default()).map_err(|problems| problems.to_string())?;
    Ok(loaded.config.models.first().cloned().ok_or("no model")?)
}

/// A bandit with four arms and that policy.
fn learning(policy: &str) -> Result<Arc<Model>, Box<dyn Error>> {
    read(&format!(
        "models: {{bench: {{unit: [metadata:x-user-id], variants: {{{ARMS}}}, strategy: {{kind: bandit, \
         reward: {{name: bought}}, policy: {policy}}}, feedback: {{bought: {{kind: binary}}}}}}}}"
    ))
}

/// `use_one` on the first `calls` of what `prepare` makes; the others are never dropped.
fn timed<T>(calls: usize, mut prepare: impl FnMut(usize) -> T, mut use_one: impl FnMut(T)) -> Duration {
    let mut took = Duration::ZERO;
    for first in (0..PREPARED).step_by(BATCH) {
        let mut batch: Vec<T> = (first..first + BATCH).map(&mut prepare).collect();
        let rest = batch.split_off(calls.saturating_sub(first).min(BATCH));
        let began = Instant::now();
        batch.into_iter().for_each(&mut use_one);
        took += began.elapsed();
        std::mem::forget(rest);
    }
    took
}

/// Assignment by the hash of a unit.
pub(crate) fn assign(calls: usize) -> Result<Duration, Box<dyn Error>> {
    let strategy = Strategy::new(&*model()?, &[7; 32]);
    let prepare = |user: usize| {
        HeaderMap::from_iter([(http::HeaderName::from_static("x-user-id"), HeaderValue::from(user))])
    };
    Ok(timed(calls, prepare, |metadata| {
        let call = Call { metadata: &metadata, parameters: &[], input: None };
        black_box(strategy.assign(&Standing::CONFIGURED, black_box(&call), 0, &|_| true));
        // Dropping the headers is no part of it.
        std::mem::forget(metadata);
    }))
}

/// Assignment by the shares of a bandit.
pub(crate) fn bandit(calls: usize) -> Result<Duration, Box<dyn Error>> {
    let model = learning("thompson")?;
    let strategy = Strategy::new(&model, &[7; 32]);
    let standing =
        Course::begin(&model.strategy, None, Duration::ZERO).ok_or("it decides nothing")?.standing();
    let prepare = |user: usize| {
        HeaderMap::from_iter([(http::HeaderName::from_static("x-user-id"), HeaderValue::from(user))])
    };
    Ok(timed(calls, prepare, |metadata| {
        let call = Call { metadata: &metadata, parameters: &[], input: None };
        black_box(strategy.assign(&standing, black_box(&call), 0, &|_| true));
        std::mem::forget(metadata);
    }))
}

/// Assignment by a context of 16 features and what regressions of four arms say of it.
pub(crate) fn contextual(calls: usize) -> Result<Duration, Box<dyn Error>> {
    let model = learning(&format!("lin_ts, context: {CONTEXT}"))?;
    let strategy = Strategy::new(&model, &[7; 32]);
    let standing = taught(&model)?;
    let numbers = [0.5; 11];
    let mut without = false;
    let prepare = |user: usize| {
        HeaderMap::from_iter([
            (http::HeaderName::from_static("x-user-id"), HeaderValue::from(user)),
            (http::HeaderName::from_static("x-age"), HeaderValue::from(user % 90)),
            (http::HeaderName::from_static("x-land"), HeaderValue::from_static("de")),
        ])
    };
    let took = timed(calls, prepare, |metadata| {
        let call = Call { metadata: &metadata, parameters: &[], input: Some(&numbers) };
        let decision = strategy.assign(&standing, black_box(&call), 0, &|_| true);
        without |= black_box(&decision).assignment.reason != Reason::Split;
        std::mem::forget(metadata);
    });
    if without { Err("a call had no context".into()) } else { Ok(took) }
}

/// Where a bandit stands that has learnt a little of each arm in many contexts.
fn taught(model: &Model) -> Result<Standing, Box<dyn Error>> {
    let (mut rewards, mut odds) = (Rewards::default(), Odds::new(4));
    (0..4).for_each(|arm| odds.set(arm, 0.25));
    for round in 0..4_000_usize {
        let mut context = [0.0; FEATURES];
        for (place, feature) in context.iter_mut().enumerate() {
            *feature = if place == 0 { 1.0 } else { ((round * 7 + place * 13) % 21) as f64 / 10.0 - 1.0 };
        }
        let to = f64::from(u8::from((round + round / 4).is_multiple_of(3)));
        let context = Some(&context[..]);
        let arm = round % 4;
        rewards.add(&Earned { arm, odds: &odds, bucket: None, context, from: None, to, expected: 0.5 });
    }
    let mut course = Course::begin(&model.strategy, None, Duration::ZERO).ok_or("it decides nothing")?;
    let learnt = Learnt { feedback: "bought", epoch: 0, variants: &[], rewards: Some(&rewards) };
    course.begin_with(&model.strategy, &learnt, Duration::ZERO);
    Ok(course.standing())
}

/// The merge of two lists of 100 items, half of which are in both, by team draft, the numbering of the items included.
pub(crate) fn merge(calls: usize) -> Result<Duration, Box<dyn Error>> {
    let method = read(
        "models: {bench: {variants: {v1: {endpoint: 'http://127.0.0.1:1'}, v2: {endpoint: 'http://127.0.0.1:2'}}, \
         strategy: {kind: interleave, ranking: {items: items}, credit: {feedback: clicks}}, \
         feedback: {clicks: {kind: clicks}}}}",
    )?;
    let config::Strategy::Interleave(interleave) = &method.strategy else { return Err("no rankers".into()) };
    let own: Vec<i64> = (0..ITEMS).collect();
    let other: Vec<i64> = (0..ITEMS).map(|item| (item * 37 + 50) % (2 * ITEMS)).collect();
    let both = [own, other];
    let mut short = false;
    let took = timed(
        calls,
        |call| Uuid::from_u128(call as u128 * 0x9e37_79b9_7f4a_7c15),
        |key| {
            let lists = Lists::number(black_box(&both));
            let chance = Chance { salt: &interleave.salt, key: key.as_bytes() };
            let picks = interleave.method.merge(&lists, ITEMS as usize, &chance, &mut Round::default());
            short |= black_box(picks).len() != ITEMS as usize;
        },
    );
    if short { Err("a list was cut".into()) } else { Ok(took) }
}

/// The scan of a ModelInfer of 300 bytes up to its tensor.
pub(crate) fn parse(calls: usize) -> Result<Duration, Box<dyn Error>> {
    let framed = message::request("bench", 300);
    let payload = framed.slice(message::PREFIX..);
    let adapter = protocol::recognise("/inference.GRPCInferenceService/ModelInfer");
    let mut failed = false;
    let took = timed(
        calls,
        |_| payload.clone(),
        |payload| {
            let mut scan = adapter.request_scan(false);
            failed |= scan.feed(black_box(&payload)).is_err() || !scan.enough();
            failed |= black_box(scan.into_head()).model != "bench";
        },
    );
    if failed { Err("a message was not understood".into()) } else { Ok(took) }
}

/// An outcome whose span nobody wants, from the counts to its drop.
pub(crate) fn observe(calls: usize) -> Result<Duration, Box<dyn Error>> {
    let model = model()?;
    let loaded =
        config::read("bench", FILE, &Environment::default()).map_err(|problems| problems.to_string())?;
    let environment = environment::Environment::read(|_| None).map_err(|_| "the environment is refused")?;
    let counters = Arc::new(Counters::default());
    let started = telemetry::start(&loaded.config.telemetry, environment, NonZeroUsize::MIN, counters)?;
    let recorder = started.recorders.first().ok_or("no recorder")?;
    let (revision, endpoint): (Arc<str>, Arc<str>) = ("0123456789ab".into(), "127.0.0.1:1".into());
    Ok(timed(calls, |number| outcome(number, &model, &revision, &endpoint), |one| recorder.observe(one)))
}

fn outcome(number: usize, model: &Arc<Model>, revision: &Arc<str>, endpoint: &Arc<str>) -> Outcome {
    let elapsed = Duration::from_micros(100 + number as u64 % 1000);
    Outcome {
        prediction: Uuid::from_u128(number as u128),
        told: None,
        trace: Trace { trace_id: 1, span_id: 2, parent: None, sampled: false, state: None },
        started: UNIX_EPOCH,
        path: http::uri::PathAndQuery::from_static("/inference.GRPCInferenceService/ModelInfer"),
        protocol: "oip",
        authority: Some("models.svc".into()),
        route: Some(Route {
            model: Arc::clone(model),
            revision: Arc::clone(revision),
            asked: None,
            assigned: Assignment { variant: 0, reason: Reason::Split, propensity: 0.9 },
            served: Some(0),
            unit: Some(number as u64),
            wished: None,
            segment: None,
            odds: Default::default(),
            epoch: 0,
        }),
        attempts: vec![Attempt {
            runs: parhelion::outcome::Runs::File,
            span: 3,
            variant: 0,
            endpoint: Arc::clone(endpoint),
            offset: Duration::from_micros(10),
            elapsed,
            status: Code::OK,
            blame: Blame::Nobody,
        }],
        fallback: None,
        merged: None,
        status: Code::OK,
        message: None,
        blame: Blame::Nobody,
        latency: Latency { total: elapsed, upstream: elapsed, own: Duration::from_micros(10) },
        traffic: Traffic {
            request_bytes: 305,
            response_bytes: 305,
            request_messages: 1,
            response_messages: 1,
        },
        reported_version: Some("1".into()),
        request_id: Some("bench".into()),
        payload: None,
        copies: 0,
        disagreement: None,
    }
}
