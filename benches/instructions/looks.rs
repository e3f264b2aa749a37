//! A look at a canary: what was counted since the last one is gathered, taken in as evidence, and judged. It runs beside
//! the calls. And a report of feedback, from its text to the ledger.
//!
//! The canary has its default guards and 100,000 calls behind it, so every bet on latency that is ever kept is kept.

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parhelion::assignment::{Odds, Reason};
use parhelion::config::{self, Canary, Environment, Strategy};
use parhelion::evidence::epoch::{Epoch, How};
use parhelion::evidence::gather::Gatherer;
use parhelion::feedback::{Intake, Report, Value};
use parhelion::keys::Keys;
use parhelion::prediction::{self, Prediction};
use parhelion::strategy::canary::Progress;
use parhelion::telemetry::counter::Counters;
use parhelion::telemetry::{self, environment};
use parhelion::verdict::State;
use tokio::sync::watch;
use uuid::Uuid;

const FILE: &str = "models: {bench: {unit: [metadata:x-user-id], variants: {\
    v1: {endpoint: 'http://127.0.0.1:1', version: '1'}, v2: {endpoint: 'http://127.0.0.1:2', version: '2'}}, \
    feedback: {approved: {kind: binary, window: 1h, max_rate: 1000000}}, \
    strategy: {kind: canary, baseline: v1, candidate: v2, steps: [{share: 20%, hold: 30d}], max_step_time: 60d}}}";
/// Both variants, as the file has them.
const BASELINE: usize = 0;
const CANDIDATE: usize = 1;
const WORKERS: usize = 2;
const BEHIND: usize = 100_000;

/// A canary and those who count its calls.
struct Bench {
    canary: Canary,
    epoch: Arc<Epoch>,
    gatherer: Gatherer,
    progress: Progress,
    now: Duration,
    chance: u64,
}

impl Bench {
    fn new() -> Result<Self, Box<dyn Error>> {
        let loaded = config::read("bench", FILE, &Environment::default()).map_err(|why| why.to_string())?;
        let model = loaded.config.models.first().ok_or("no model")?;
        let Strategy::Canary(canary) = &model.strategy else { return Err("no canary".into()) };
        let canary = Canary::clone(canary);
        let mut now = Duration::from_secs(1 << 30);
        let mut progress = Progress::begin(&canary, now);
        progress.look(&canary, true, now).ok_or("it does not begin")?;
        let epoch = Arc::new(Epoch::new(progress.standing().epoch, 2, WORKERS, BASELINE));
        let gatherer = Gatherer::new(Arc::clone(&epoch), BASELINE);
        now += Duration::from_secs(1);
        let mut bench = Bench { canary, epoch, gatherer, progress, now, chance: 1 };
        // Latency counts once the candidate is warm, which is a matter of time too.
        bench.calls(1_000);
        bench.look(true);
        bench.now += Duration::from_secs(3600);
        for _ in 0..BEHIND / 1_000 {
            bench.calls(1_000);
            bench.now += Duration::from_millis(110);
            bench.look(true);
        }
        Ok(bench)
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.chance =
            self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.chance >> 33) % below
    }

    /// Calls of both, a fifth of them the candidate's, of either 1 % fail; of latencies over a decade.
    fn calls(&mut self, count: usize) {
        for _ in 0..count {
            let how = if self.draw(100) == 0 { How::Error } else { How::Well };
            self.call(how);
        }
    }

    fn call(&mut self, how: How) {
        let variant = if self.draw(5) == 0 { CANDIDATE } else { BASELINE };
        let worker = self.draw(WORKERS as u64) as usize;
        let latency = Duration::from_micros(1_000 + self.draw(100) * self.draw(100));
        let Some(counted) = self.epoch.begin(worker, variant, None, self.now) else { return };
        counted.end(how, Some(latency), self.now);
    }

    /// As the keeper looks: at failures alone, or at everything.
    fn look(&mut self, everything: bool) -> Duration {
        let began = Instant::now();
        let gain = if everything { self.gatherer.all(self.now) } else { self.gatherer.failures() };
        if let Some(gain) = gain {
            self.progress.absorb(&self.canary, &gain, self.now);
        }
        black_box(self.progress.look(&self.canary, true, self.now));
        began.elapsed()
    }

    fn running(&self) -> Result<(), Box<dyn Error>> {
        let state = self.progress.state();
        if state == State::Running { Ok(()) } else { Err(format!("the canary is {state:?}").into()) }
    }
}

/// So many looks at one failure each, with a hundred calls between them.
pub(crate) fn errors(looks: usize) -> Result<Vec<Duration>, Box<dyn Error>> {
    let mut bench = Bench::new()?;
    let mut took = Vec::with_capacity(looks);
    for _ in 0..looks {
        for _ in 0..99 {
            bench.call(How::Well);
        }
        bench.call(How::Error);
        bench.now += Duration::from_millis(10);
        took.push(bench.look(false));
    }
    bench.running()?;
    Ok(took)
}

/// So many looks at the latency of a thousand calls each: enough new ones that all is weighed again every time.
pub(crate) fn latency(looks: usize) -> Result<Vec<Duration>, Box<dyn Error>> {
    let mut bench = Bench::new()?;
    let mut took = Vec::with_capacity(looks);
    for _ in 0..looks {
        bench.calls(1_500);
        bench.now += Duration::from_millis(110);
        took.push(bench.look(true));
    }
    bench.running()?;
    Ok(took)
}

/// So many reports, each about a prediction and a unit of its own.
pub(crate) fn reports(count: usize) -> Result<Vec<Duration>, Box<dyn Error>> {
    let loaded = config::read("bench", FILE, &Environment::default()).map_err(|why| why.to_string())?;
    let revision = loaded.config.models.first().ok_or("no model")?.revision;
    let environment = environment::Environment::read(|_| None).map_err(|_| "the environment is refused")?;
    let (settings, workers) = (&loaded.config.telemetry, loaded.config.workers);
    let started = telemetry::start(settings, environment, workers, Arc::new(Counters::default()))?;
    let (_publish, configs) = watch::channel(Arc::clone(&loaded.config));
    let keys = Arc::new(Keys::random()?);
    let intake = Intake::new(Arc::clone(&keys), configs, started.telemetry.feedback(), 1);
    let door = intake.door(0);
    let mut took = Vec::with_capacity(count);
    for number in 0..count {
        let id = prediction(number as u64, revision)?.seal(&keys);
        let report = Report {
            prediction: String::from_utf8(id.as_bytes().to_vec())?,
            name: "approved".to_owned(),
            value: Some(Value::Number((number % 2) as f64)),
            ..Report::default()
        };
        let began = Instant::now();
        black_box(door.report(&report, None)?);
        took.push(began.elapsed());
    }
    Ok(took)
}

/// One that was just made; different numbers are different predictions of different units.
fn prediction(number: u64, revision: u32) -> Result<Prediction, Box<dyn Error>> {
    let mut odds = Odds::new(2);
    odds.set(0, 0.8);
    odds.set(1, 0.2);
    let made = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
    let mut chance = [0; 10];
    chance[..8].copy_from_slice(&number.to_be_bytes());
    let uuid: Uuid = uuid::Builder::from_unix_timestamp_millis(made, &chance).into_uuid();
    let unit = Some(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let bucket = prediction::bucket(unit, uuid);
    let arm = u8::from(number.is_multiple_of(5));
    let rollout = prediction::rollout("bench");
    let reason = Reason::Split;
    Ok(Prediction {
        uuid,
        rollout,
        revision,
        epoch: 1,
        assigned: arm,
        served: arm,
        reason,
        unit,
        bucket,
        odds,
        slots: None,
    })
}
