//! What a sidecar costs beside its calls: a rollout that stands idle, and feedback, reported over the wire at a steady
//! rate for longer than anything is buffered; and what it costs a call that two rankers answer. Processor time and resident
//! memory are the process's own.

use std::error::Error;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parhelion::assignment::{Odds, Reason};
use parhelion::config::{self, Environment};
use parhelion::keys::Keys;
use parhelion::pb::v1::FeedbackReport;
use parhelion::pb::v1::feedback_client::FeedbackClient;
use parhelion::pb::v1::feedback_report::Value as Reported;
use parhelion::prediction::{self, Prediction};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use crate::server;
use crate::sidecar::Sidecar;
use crate::{Options, ranked};

/// Rollouts that stand idle.
const IDLE: u32 = 500;
/// Reports, and how many of them a second.
const REPORTS: u64 = 1_000_000;
const RATE: u64 = 25_000;
/// Everything that waits to be written is on the disk by then.
const SETTLED: Duration = Duration::from_secs(3);

/// One figure, and what it must not exceed.
pub(crate) struct Cost {
    pub(crate) name: &'static str,
    pub(crate) words: String,
    pub(crate) value: f64,
    pub(crate) most: f64,
}

impl Cost {
    pub(crate) fn holds(&self) -> bool {
        self.value <= self.most
    }

    pub(crate) fn line(&self) -> String {
        format!("{}{}", self.words, if self.holds() { "" } else { ": **not held**" })
    }

    pub(crate) fn json(&self) -> Value {
        json!({"cost": self.name, "value": self.value, "at_most": self.most, "holds": self.holds()})
    }
}

/// All of them.
pub(crate) fn all(options: &Options) -> Result<Vec<Cost>, Box<dyn Error>> {
    let mut costs = vec![idle(options)?];
    costs.extend(feedback(options)?);
    costs.push(ranked::added(options)?);
    Ok(costs)
}

/// Resident memory of a canary more than that of the same model under `ab`: the model's endpoints, their connections and
/// its metrics are there in either case.
fn idle(options: &Options) -> Result<Cost, Box<dyn Error>> {
    let mut resident = [0; 2];
    for (resident, canary) in resident.iter_mut().zip([false, true]) {
        let [(_, v1), (_, v2)] = server::start()?;
        let all = options.models([v1, v2], IDLE);
        let all = if canary { all } else { all_by_weights(&all) };
        let sidecar = Sidecar::start(&options.parhelion, &all)?;
        std::thread::sleep(SETTLED);
        *resident = sidecar.resident()?;
    }
    let each = resident[1].saturating_sub(resident[0]) as f64 / f64::from(IDLE);
    let words = format!(
        "an idle canary: {:.1} KB resident more than `ab`, at most 64; the whole process with {IDLE}: {:.1} MB",
        each / 1e3,
        resident[1] as f64 / 1e6
    );
    Ok(Cost { name: "idle_rollout_bytes", words, value: each, most: 64e3 })
}

/// The same models, whose calls are given by weights.
fn all_by_weights(text: &str) -> String {
    let mut all = String::new();
    let mut skipping = false;
    for line in text.lines() {
        let begins = line.trim_start() == "strategy:";
        skipping = begins || skipping && line.starts_with("      ");
        if begins {
            all.push_str("    strategy: {kind: ab, weights: {v1: 80%, v2: 20%}}\n");
        } else if !skipping {
            all.push_str(line);
            all.push('\n');
        }
    }
    all
}

/// Processor time and resident memory of a report.
fn feedback(options: &Options) -> Result<[Cost; 2], Box<dyn Error>> {
    let [(_, v1), (_, v2)] = server::start()?;
    let text = format!("workers: 1\n{}", options.models([v1, v2], 1));
    let sidecar = Sidecar::start(&options.parhelion, &text)?;
    let loaded = config::read("live", &text, &Environment::default()).map_err(|why| why.to_string())?;
    let revision = loaded.config.models.first().ok_or("no model")?.revision;
    let keys = Keys::in_state(&sidecar.state())?;
    // What the first ones cost is what the process needs anyway.
    report(&sidecar, &keys, revision, 0..RATE)?;
    std::thread::sleep(SETTLED);
    let (resident, spent) = (sidecar.resident()?, sidecar.processor_time()?);
    report(&sidecar, &keys, revision, RATE..RATE + REPORTS)?;
    let spent = sidecar.processor_time()?.saturating_sub(spent);
    std::thread::sleep(SETTLED);
    let bytes = sidecar.resident()?.saturating_sub(resident) as f64 / REPORTS as f64;
    let micros = spent.as_secs_f64() * 1e6 / REPORTS as f64;
    let words = format!(
        "a report: {micros:.1} µs of processor time, {:.0} a second on one core, at least 20,000",
        1e6 / micros
    );
    let cpu = Cost { name: "report_cpu_us", words, value: micros, most: 50.0 };
    let words = format!("a report remembered: {bytes:.1} bytes resident, at most 40");
    Ok([cpu, Cost { name: "report_bytes", words, value: bytes, most: 40.0 }])
}

/// Reports on so many predictions, each of a unit of its own, when they are due; all must be taken.
fn report(
    sidecar: &Sidecar,
    keys: &Keys,
    revision: u32,
    numbers: std::ops::Range<u64>,
) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let count = numbers.end - numbers.start;
    let summary = runtime.block_on(async {
        let endpoint = Endpoint::from_shared(format!("http://{}", sidecar.data))?;
        let mut client = FeedbackClient::new(endpoint.connect().await?);
        let (tell, told) = mpsc::channel(1_000);
        let begun = Instant::now();
        let reports = async {
            for (place, number) in numbers.enumerate() {
                // A hundred at a time: timers are not finer than that.
                if place.is_multiple_of(100) {
                    let due = begun + Duration::from_secs_f64(place as f64 / RATE as f64);
                    tokio::time::sleep_until(due.into()).await;
                }
                let id = made(number, revision)?.seal(keys);
                let report = FeedbackReport {
                    prediction_id: String::from_utf8(id.as_bytes().to_vec())?,
                    name: "approved".to_owned(),
                    value: Some(Reported::Number((number % 2) as f64)),
                    ..FeedbackReport::default()
                };
                // Where nobody reads any more, the summary says why.
                if tell.send(report).await.is_err() {
                    break;
                }
            }
            drop(tell);
            Ok::<_, Box<dyn Error>>(())
        };
        let (summary, sent) = tokio::join!(client.report_stream(ReceiverStream::new(told)), reports);
        sent?;
        Ok::<_, Box<dyn Error>>(summary?.into_inner())
    })?;
    if summary.counted != count {
        return Err(format!("{count} reports were made, and the sidecar says {summary:?}").into());
    }
    Ok(())
}

/// A prediction of model `m0` that was just made; different numbers are different predictions of different units.
fn made(number: u64, revision: u32) -> Result<Prediction, Box<dyn Error>> {
    let mut odds = Odds::new(2);
    odds.set(0, 0.8);
    odds.set(1, 0.2);
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
    let mut chance = [0; 10];
    chance[..8].copy_from_slice(&number.to_be_bytes());
    let uuid = uuid::Builder::from_unix_timestamp_millis(now, &chance).into_uuid();
    let unit = Some(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let arm = u8::from(number.is_multiple_of(5));
    Ok(Prediction {
        uuid,
        rollout: prediction::rollout("m0"),
        revision,
        epoch: 1,
        assigned: arm,
        served: arm,
        reason: Reason::Split,
        unit,
        bucket: prediction::bucket(unit, uuid),
        odds,
        slots: None,
    })
}
