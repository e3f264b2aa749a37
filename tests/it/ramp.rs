//! Over a ramp no unit ever leaves the candidate: not from step to step, not when the sidecar is killed and started
//! again in the middle of it, and not from one replica to the other.
//!
//! Two programs with one set of keys go up the same ramp on real calls; every answer's prediction id says how large the
//! candidate's share was, so each unit must have one place below which it has the baseline and above which the
//! candidate, whoever was asked when. What a killed program left on its disk is then read by a third process, which
//! says of each of many units who has it: 20,000, or as many as `RAMP_UNITS` says.
//!
//! A rollout of several stages is asked as well, without any calls: who has whom in each of its splits.
//!
//! `RAMP_UNITS=1000000 cargo test --test it ramp -- --nocapture`

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parhelion::assignment::Reason;
use parhelion::call::Call;
use parhelion::config::{self, Environment};
use parhelion::evidence::{ArmGain, Copies, Gain};
use parhelion::feedback::Intake;
use parhelion::keys::Keys;
use parhelion::prediction::Prediction;
use parhelion::rollout::{Ground, Rollouts};
use parhelion::state::State;
use parhelion::strategy::course::Course;
use parhelion::strategy::{Split, Standing, Strategy};
use parhelion::telemetry;
use parhelion::verdict::{self, State as Life};
use tokio::sync::watch;

use crate::support::process::{self, LONG, Model, PORTS, Sidecar};

/// Units that call; many more are asked about on the disk.
const CALLING: usize = 300;
/// What the process that reads a disk is told by.
const FILE: &str = "RAMP_FILE";
const STATE: &str = "RAMP_STATE";
const ANSWER: &str = "RAMP_ANSWER";
/// Shares in thousandths of a percent.
const STEPS: [u32; 6] = [1_000, 2_000, 5_000, 10_000, 25_000, 50_000];
const KEYS: &str = "k 1111111111111111111111111111111111111111111111111111111111111111\n";

fn ramp([v1, v2]: [&Model; 2], keys: &Path, state: &Path) -> String {
    let steps: Vec<String> = STEPS
        .iter()
        .map(|share| format!("{{share: {}%, hold: 0s, calls: 1}}", f64::from(*share) / 1e3))
        .collect();
    format!(
        "keys: {}\nstate: {}\nmodels:\n  m:\n    variants: {{v1: {{endpoint: 'http://{}', version: '1'}}, \
         v2: {{endpoint: 'http://{}', version: '2'}}}}\n    unit: [metadata:x-user]\n    \
         strategy: {{kind: canary, baseline: v1, candidate: v2, salt: ramp, on_pass: wait, steps: [{}], \
         guards: {{errors: {{absolute: 50%, relative: 25%}}, rejections: off, latency: off}}}}\n",
        keys.display(),
        state.display(),
        v1.address,
        v2.address,
        steps.join(", ")
    )
}

fn unit(number: usize) -> String {
    format!("user-{number}")
}

/// For each unit the largest share at which it had the baseline, and the least at which it had the candidate.
#[derive(Default)]
struct Seen(BTreeMap<usize, (u32, u32)>);

impl Seen {
    fn add(&mut self, unit: usize, candidate: bool, share: u32) {
        let (baseline, other) = self.0.entry(unit).or_insert((0, u32::MAX));
        match candidate {
            true => *other = share.min(*other),
            false => *baseline = share.max(*baseline),
        }
        assert!(
            baseline < other,
            "unit {unit} left the candidate: it had the baseline at {baseline}, {other}"
        );
    }

    fn candidates(&self) -> usize {
        self.0.values().filter(|(_, least)| *least < u32::MAX).count()
    }
}

/// Has every unit call once; returns the candidate's share at the end.
async fn pass(sidecar: &Sidecar, keys: &Keys, seen: &mut Seen) -> u32 {
    let client = sidecar.client();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut last = 0;
    for number in 0..CALLING {
        let mut request = tonic::Request::new(process::request(""));
        request.metadata_mut().insert("x-user", unit(number).parse().unwrap());
        let answer = tokio::time::timeout(LONG, client.clone().model_infer(request)).await.unwrap().unwrap();
        let told = |name: &str| answer.metadata().get(name).unwrap().to_str().unwrap().to_owned();
        let id = told("parhelion-prediction-id");
        let prediction = Prediction::open(&id, keys, now, Duration::from_secs(3600)).unwrap();
        if prediction.reason == Reason::Split {
            // Arms are named in the order of their variants' names.
            last = (prediction.odds.get(1).unwrap_or(0.0) * 1e5).round() as u32;
            seen.add(number, told("parhelion-variant") == "v2", last);
        }
    }
    last
}

/// Who has the candidate by what is on a disk: its share, and a bit for each unit, as another process says.
fn left(file: &Path, state: &Path, units: usize) -> (u32, Vec<u8>) {
    let answer = state.with_extension("answer");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "ramp::says_who_has_the_candidate", "--ignored", "--nocapture"]);
    command.env(FILE, file).env(STATE, state).env(ANSWER, &answer).env("RAMP_UNITS", units.to_string());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let bytes = std::fs::read(answer).unwrap();
    let (share, bits) = bytes.split_first_chunk().unwrap();
    assert_eq!(bits.len(), units.div_ceil(8));
    (u32::from_be_bytes(*share), bits.to_vec())
}

#[test]
#[ignore = "a process of its own, started by the test of the ramp"]
fn says_who_has_the_candidate() {
    let of = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is for another test to set"));
    let text = std::fs::read_to_string(of(FILE)).unwrap();
    let loaded = config::read("ramp.yaml", &text, &Environment::default());
    let config = loaded.unwrap_or_else(|errors| panic!("{errors}")).config;
    let surroundings = telemetry::environment::Environment::read(|_| None).unwrap();
    let started = telemetry::start(&config.telemetry, surroundings, NonZeroUsize::MIN, Arc::default());
    let configs = watch::channel(Arc::clone(&config)).1;
    let keys = Arc::new(Keys::random().unwrap());
    let intake = Intake::new(keys, configs, started.unwrap().telemetry.feedback(), 1);
    let ground = Ground {
        board: Arc::default(),
        unit_key: [0; 32],
        shards: Vec::new(),
        intake,
        warmer: parhelion::warm::Warmer::new().0,
        log: None,
        judges: std::sync::Arc::default(),
        drifts: std::sync::Arc::default(),
        fleet: None,
    };
    let state = State::start(Path::new(&of(STATE))).unwrap();
    let standing = Rollouts::new(&config, state, ground).live(&config.models[0]).standing();
    let Split::Candidate(share) = standing.split else { panic!("{standing:?}") };
    let strategy = Strategy::new(&config.models[0], &[0; 32]);
    let units: usize = of("RAMP_UNITS").parse().unwrap();
    let mut answer = share.thousandths().to_be_bytes().to_vec();
    let mut bits = vec![0; units.div_ceil(8)];
    for number in 0..units {
        let metadata = http::HeaderMap::from_iter([(
            http::HeaderName::from_static("x-user"),
            http::HeaderValue::from_str(&unit(number)).unwrap(),
        )]);
        let call = Call { metadata: &metadata, parameters: &[], input: None };
        let decision = strategy.assign(&standing, &call, 0, &|_| true);
        bits[number / 8] |= u8::from(decision.assignment.variant == 1) << (number % 8);
    }
    answer.extend(bits);
    std::fs::write(of(ANSWER), answer).unwrap();
}

#[tokio::test]
async fn no_unit_leaves_the_candidate_across_steps_restarts_and_replicas() {
    let units: usize = std::env::var("RAMP_UNITS").map_or(20_000, |units| units.parse().unwrap());
    let models = [&Model::start("1"), &Model::start("2")];
    let folder = tempfile::tempdir().unwrap();
    let keys_file = folder.path().join("keys");
    std::fs::write(&keys_file, KEYS).unwrap();
    let keys = Keys::parse(KEYS, &keys_file).unwrap();
    let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
    for state in [&one, &two] {
        std::fs::create_dir(state).unwrap();
    }
    let yaml = ramp(models, &keys_file, &one);
    let file = process::file(folder.path(), &format!("{PORTS}{yaml}"));
    let steady = Sidecar::ready(&ramp(models, &keys_file, &two)).await;
    let top = *STEPS.last().unwrap();
    let (mut seen, mut reached, mut before) = (Seen::default(), 0, vec![0; units.div_ceil(8)]);
    let mut kills = 0;
    while reached < top {
        let sidecar = Sidecar::ready(&yaml).await;
        let first = pass(&sidecar, &keys, &mut seen).await;
        assert!(first >= reached, "a restart went back from {reached} to {first}");
        let mut share = first;
        while share < top && share <= reached {
            share = pass(&sidecar, &keys, &mut seen).await;
            pass(&steady, &keys, &mut seen).await;
        }
        sidecar.signal("KILL");
        drop(sidecar);
        let (kept, bits) = left(&file, &one, units);
        assert!(kept >= share, "{share} was in force, but {kept} is on the disk");
        let flips = before.iter().zip(&bits).map(|(was, is)| (was & !is).count_ones()).sum::<u32>();
        assert_eq!(flips, 0, "units left the candidate from {reached} to {kept}");
        let candidates: u32 = bits.iter().map(|byte| byte.count_ones()).sum();
        let expected = units as f64 * f64::from(kept) / 1e5;
        assert!(
            (f64::from(candidates) - expected).abs() < 6.0 * expected.sqrt() + 1.0,
            "{candidates} at {kept}"
        );
        println!("{kept} thousandths of a percent: {candidates} of {units} units, {flips} left");
        (reached, before) = (kept, bits);
        kills += 1;
    }
    assert!(kills >= 2, "it was never killed in the middle");
    while pass(&steady, &keys, &mut seen).await < top {}
    // The top may have been reached within that pass: one that is wholly there.
    assert_eq!(pass(&steady, &keys, &mut seen).await, top);
    assert!(seen.candidates() > CALLING / 3, "{}", seen.candidates());
    steady.signal("KILL");
    drop(steady);
    assert_eq!(left(&file, &two, units), (top, before), "both replicas say the same of every unit");
}

const STAGES: &str = "
models:
  m:
    variants: {v1: {endpoint: 'http://127.0.0.1:1', version: '1'}, v2: {endpoint: 'http://127.0.0.1:2', version: '2'}}
    unit: [metadata:x-user]
    shadows: [{variant: v2, sample: 20%}]
    feedback: {bought: {kind: binary}}
    strategy:
      kind: staged
      baseline: v1
      candidate: v2
      stages:
        - {kind: shadow, hold: 1m, calls: 10, guards: {errors: {absolute: 50%}, rejections: off}}
        - kind: canary
          steps: [{share: 0.1%, hold: 1m, calls: 1}, {share: 7%, hold: 1m, calls: 1}, {share: 30%, hold: 1m, calls: 1}]
          guards: {errors: {absolute: 50%}, rejections: off, latency: off}
        - {kind: ab, weights: {v1: 60%, v2: 40%}, metrics: {feedback: {name: bought}}}
        - {kind: pinned}
state: /nowhere
";

/// Whether that unit has the candidate.
fn has_candidate(strategy: &Strategy, standing: &Standing, number: usize) -> bool {
    let name = http::HeaderName::from_static("x-user");
    let metadata = http::HeaderMap::from_iter([(name, unit(number).parse().unwrap())]);
    let call = Call { metadata: &metadata, parameters: &[], input: None };
    strategy.assign(standing, &call, 0, &|_| true).assignment.variant == 1
}

#[test]
fn no_unit_leaves_the_candidate_from_stage_to_stage() {
    let units: usize = std::env::var("RAMP_UNITS").map_or(20_000, |units| units.parse().unwrap());
    let loaded = config::read("stages.yaml", STAGES, &Environment::default());
    let config = loaded.unwrap_or_else(|errors| panic!("{errors}")).config;
    let model = &config.models[0];
    let strategy = Strategy::new(model, &[0; 32]);
    let mut course = Course::begin(&model.strategy, None, Duration::ZERO).unwrap();
    let (mut had, mut flips, mut seen) = (vec![false; units], 0, Vec::new());
    for hour in 1.. {
        assert!(hour < 60, "{course:?}");
        let standing = course.standing();
        if seen.last().is_none_or(|(last, _): &(Standing, usize)| *last != standing) {
            let mut candidates = 0;
            for (number, had) in had.iter_mut().enumerate() {
                let candidate = has_candidate(&strategy, &standing, number);
                flips += usize::from(*had && !candidate);
                candidates += usize::from(candidate);
                *had = candidate;
            }
            println!("stage {}: {candidates} of {units} units, {flips} left", standing.stage);
            seen.push((standing.clone(), candidates));
        }
        if course.state() == Life::Promoted {
            break;
        }
        let now = Duration::from_secs(3600 * hour);
        let arm = |calls| ArmGain { calls, ..ArmGain::default() };
        course.absorb_copies(&model.strategy, &Copies { calls: 1000, ..Copies::default() }, now);
        let gain = Gain { epoch: standing.epoch, segment: None, arms: vec![arm(100_000), arm(1_000)] };
        course.absorb(&model.strategy, &gain, now);
        // What compares finds nothing out here, so a person ends it.
        if course.look(&model.strategy, &|_| Ok(()), now).is_none() && standing.stage == 2 {
            let promote = verdict::Command::Promote;
            course.command(&model.strategy, &promote, &|_| Ok(()), now).unwrap();
        }
    }
    assert_eq!(flips, 0);
    let mut counts: Vec<usize> = seen.iter().map(|(_, candidates)| *candidates).collect();
    counts.dedup();
    assert_eq!((counts.first(), counts.last()), (Some(&0), Some(&units)), "{seen:?}");
    for (count, share) in counts.iter().zip([0.0, 0.001, 0.07, 0.3, 0.4, 1.0]) {
        let expected = units as f64 * share;
        assert!((*count as f64 - expected).abs() < 6.0 * expected.sqrt() + 1.0, "{share}: {count}");
    }
    assert_eq!(counts.len(), 6, "{seen:?}");
}
