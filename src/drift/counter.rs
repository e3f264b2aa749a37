//! The one task that counts answers, on the control runtime: no call ever waits for it. What it cannot keep up with finds
//! its queue full, and is tallied so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::board::Drifts;
use super::evidence::Answered;
use super::watch::{Origin, Seen};
use crate::assignment::Reason;
use crate::comparison::drift::{Values, values};
use crate::comparison::{Answer, Reading};
use crate::config::{Config, Model};
use crate::fault::Code;
use crate::protocol::Peek;
use crate::rollout::Clock;

/// How often the queue is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long it counts before others have their turn.
const TURN: Duration = Duration::from_millis(2);

/// Counts for as long as it is polled.
pub async fn run(drifts: Arc<Drifts>, configs: watch::Receiver<Arc<Config>>, clock: Clock) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Of the draws nothing hangs but which row stands for an answer, and which kept value comes next.
    let mut chance = SmallRng::seed_from_u64(clock.now().as_nanos() as u64);
    loop {
        look.tick().await;
        let mut begun = Instant::now();
        for _ in 0..drifts.waiting() {
            let Some(seen) = drifts.take() else { break };
            count(&drifts, &seen, clock.now(), &mut chance);
            if begun.elapsed() >= TURN {
                tokio::task::yield_now().await;
                begun = Instant::now();
            }
        }
        let config = Arc::clone(&configs.borrow());
        drifts.look(&config, clock.now());
    }
}

fn count(drifts: &Drifts, seen: &Seen, now: Duration, chance: &mut SmallRng) {
    let Origin { model, variant, .. } = &seen.origin;
    let (Some(drift), Some(answered)) = (&model.drift, model.variants.get(*variant)) else { return };
    let reading = Reading { peek: Some(Peek::Unary), rules: &drift.outputs, limit: seen.origin.limit };
    let answer = Answer {
        status: Code::OK,
        messages: 1,
        bytes: seen.chunks.iter().map(|chunk| chunk.len() as u64).sum(),
        chunks: Some(&seen.chunks),
        encoding: seen.encoding.as_ref().map(HeaderValue::as_bytes),
        latency: Duration::ZERO,
    };
    let row = chance.next_u64();
    let values: Vec<(Arc<str>, Values)> = values(&reading, &answer)
        .into_iter()
        .filter_map(|(output, values)| Some((output, values.one(row)?)))
        .collect();
    let answered = Answered {
        variant: &answered.name,
        odds: &odds(&seen.origin),
        baseline: *variant == model.baseline(),
        values: &values,
        unit: seen.origin.unit,
    };
    drifts.count(model, &answered, now, || chance.next_u64());
}

/// The arms that chance could have given the call to beside the baseline, each with its odds as part of those for it and
/// the baseline.
fn odds(origin: &Origin) -> Vec<(Arc<str>, f64)> {
    if !matches!(origin.reason, Reason::Split | Reason::Draw | Reason::Segment) {
        return Vec::new();
    }
    let model: &Model = &origin.model;
    let arms = model.arms();
    let of = |variant: usize| origin.odds.get(arms.iter().position(|arm| *arm == variant)?);
    let Some(base) = of(model.baseline()) else { return Vec::new() };
    let share = |arm: &usize| {
        let own = of(*arm).filter(|own| own + base > 0.0)?;
        Some((Arc::clone(&model.variants.get(*arm)?.name), own / (own + base)))
    };
    arms.iter().filter(|arm| **arm != model.baseline()).filter_map(share).collect()
}
