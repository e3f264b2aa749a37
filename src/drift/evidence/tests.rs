use rand::rngs::SmallRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

use super::*;

const NOW: Duration = Duration::from_secs(1_700_000_000);
const ALPHA: f64 = 0.01;
/// Of streams that tell false alarms, so that there are enough to count.
const LOOSE: f64 = 0.05;

/// One model with a baseline, a candidate that gets a fifth of the calls, and what both answer.
struct World {
    evidence: Evidence,
    references: References,
    chance: SmallRng,
    calls: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let chance = SmallRng::seed_from_u64(seed);
        World { evidence: Evidence::default(), references: References::new(), chance, calls: 0 }
    }

    /// So many calls, a second apart, in which the candidate's numbers are moved by `shift`.
    fn calls(&mut self, count: u64, shift: f64) {
        for _ in 0..count {
            self.call(shift, None);
        }
    }

    fn call(&mut self, shift: f64, unit: Option<u64>) -> bool {
        self.call_at(0.2, shift, unit)
    }

    fn call_at(&mut self, share: f64, shift: f64, unit: Option<u64>) -> bool {
        let baseline = self.chance.random::<f64>() >= share;
        let variant: Arc<str> = if baseline { "v1".into() } else { "v2".into() };
        let number = self.chance.random::<f64>() + if baseline { 0.0 } else { shift };
        let values = [("y".into(), Values::Numbers(vec![number]))];
        let odds = [("v2".into(), share)];
        let answered = Answered { variant: &variant, odds: &odds, baseline, values: &values, unit };
        let now = NOW + Duration::from_secs(self.calls);
        self.calls += 1;
        let World { evidence, references, chance, .. } = self;
        let counted = evidence.add(&answered, references, now, || chance.next_u64());
        evidence.look(ALPHA, now);
        counted
    }

    fn found(&self) -> Vec<(String, With)> {
        let reports = self.evidence.reports(ALPHA);
        let found = reports.into_iter().filter(|report| report.found.is_some());
        found.map(|report| (report.subject.variant.to_string(), report.subject.with)).collect()
    }
}

#[test]
fn what_chance_tells_apart_is_found_and_what_it_does_not_is_left_alone() {
    let mut world = World::new(1);
    world.calls(20_000, 0.0);
    assert_eq!(world.found(), []);
    let report = &world.evidence.reports(ALPHA)[0];
    let today = report.today.unwrap();
    assert!(today.base > 14_000 && (3_000..5_000).contains(&today.candidate), "{today:?}");
    let mut world = World::new(2);
    world.calls(3_000, 0.3);
    assert_eq!(world.found(), [("v2".to_owned(), With::Baseline)]);
    let (since, then) = world.evidence.reports(ALPHA)[0].found.unwrap();
    assert!(since > NOW && then.stability > 0.1 && then.candidate < 300, "{then:?}");
    // What was proven stays.
    world.calls(10_000, 0.0);
    assert_eq!(world.evidence.reports(ALPHA)[0].found.unwrap().0, since);
}

/// Whether the evidence of one law on both sides is ever enough, while the share grows from step to step and days pass,
/// looked at after each answer.
fn ever_enough(seed: u64, answers: u64) -> bool {
    let mut world = World::new(seed);
    (0..answers).any(|number| {
        let share = [0.05, 0.2, 0.5][(number * 3 / answers) as usize];
        // Three days and a bit.
        world.calls = number * 260_000 / answers;
        world.call_at(share, 0.0, None);
        let enough = world.evidence.enough(LOOSE);
        world.evidence.beside.iter().any(|(_, drift)| drift.ln_e() >= enough)
    })
}

#[test]
fn who_answers_alike_is_seldom_accused() {
    let wrong = (0..60).filter(|seed| ever_enough(*seed, 2_000)).count();
    assert!(wrong <= 3, "{wrong} of 60 at 5 %");
}

#[test]
#[ignore = "a figure of a release: cargo test --release --lib drift -- --ignored --nocapture"]
fn who_answers_alike_is_accused_in_five_percent_at_most() {
    let wrong = (0..2_000).filter(|seed| ever_enough(*seed, 20_000)).count();
    eprintln!("false alarms at 5 %: {wrong} of 2,000 streams of 20,000 answers over three days");
    assert!(wrong <= 100, "{wrong}");
}

#[test]
fn a_difference_too_small_to_matter_is_no_alarm_however_sure_it_is() {
    let mut world = World::new(3);
    world.calls(60_000, 0.05);
    let report = &world.evidence.reports(ALPHA)[0];
    assert!(report.today.unwrap().ln_e > report.enough, "{report:?}");
    assert_eq!(world.found(), []);
}

#[test]
fn it_is_found_on_the_day_that_it_comes() {
    let mut world = World::new(4);
    for _ in 0..3 {
        world.calls(6_000, 0.0);
        world.calls = (world.calls / 86_400 + 1) * 86_400;
    }
    assert_eq!(world.found(), []);
    world.calls(3_000, 0.3);
    assert_eq!(world.found(), [("v2".to_owned(), With::Baseline)]);
    let enough = world.evidence.reports(ALPHA)[0].enough;
    assert!((enough - (20.0_f64 / ALPHA).ln()).abs() < 1e-12, "the fourth day asks for more: {enough}");
}

#[test]
fn a_unit_counts_once_a_day() {
    let mut world = World::new(5);
    assert!(world.call(0.0, Some(7)) && !world.call(0.0, Some(7)) && world.call(0.0, Some(8)));
    world.calls = 90_000;
    assert!(world.call(0.0, Some(7)));
}

#[test]
fn a_reference_is_made_of_what_was_served_and_others_are_held_against_it() {
    let mut world = World::new(6);
    world.calls(8_000, 0.0);
    let references = world.evidence.references("v1");
    assert!(references["y"].values() > 5_000, "{references:?}");
    assert!(world.evidence.references("v9").is_empty());
    let mut later = World::new(7);
    later.references = references;
    later.calls(10_000, 0.4);
    assert_eq!(later.found(), [("v2".to_owned(), With::Baseline), ("v2".to_owned(), With::Reference)]);
}

#[test]
fn it_is_remembered_as_it_was() {
    let mut world = World::new(8);
    world.calls(2_000, 0.3);
    world.call(0.0, Some(7));
    let text = serde_json::to_string(&world.evidence).unwrap();
    assert_eq!(serde_json::from_str::<Evidence>(&text).unwrap(), world.evidence);
    assert!(text.len() < 64 << 10, "{} bytes", text.len());
}

#[test]
fn too_many_outputs_are_not_kept() {
    let mut evidence = Evidence::default();
    let values: Vec<(Arc<str>, Values)> =
        (0..200).map(|at| (format!("o{at}").into(), Values::Numbers(vec![1.0]))).collect();
    let odds = [("v2".into(), 0.5)];
    let variant = "v1".into();
    let answered = Answered { variant: &variant, odds: &odds, baseline: true, values: &values, unit: None };
    evidence.add(&answered, &References::new(), NOW, || 0);
    assert_eq!(evidence.reports(ALPHA).len(), OUTPUTS);
}
