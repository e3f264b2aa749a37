use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;

const NOW: Duration = Duration::from_secs(1_700_000_000);

fn output(name: &str, differing: u64, rows: u64) -> Output {
    Output {
        name: name.into(),
        measure: Some("class"),
        inferred: true,
        kind: (differing > 0).then_some(Kind::Values),
        rows,
        differing,
        distance: differing as f64 / rows as f64,
        figures: vec![("flips", differing as f64 / rows as f64)],
    }
}

fn found(differs: bool) -> Comparison {
    Comparison { outputs: vec![output("label", u64::from(differs), 1)], ..Comparison::default() }
}

fn terms(control: bool, bound: Option<f64>) -> Terms {
    Terms { alpha: 0.01, bound, control }
}

fn pair(judge: &mut Judge, terms: &Terms, found: &Comparison) {
    let took = Duration::from_millis(3);
    judge.pair(found, [took, took * 2], terms, NOW + Duration::from_secs(judge.pairs));
}

/// The verdict after at most `most` calls, and after how many.
fn judged(seed: u64, terms: &Terms, (candidate, noise): (f64, f64), most: u64) -> (Judgement, u64) {
    let mut chance = SmallRng::seed_from_u64(seed);
    let mut judge = Judge::default();
    for calls in 1..=most {
        let (raw, own) = (chance.random::<f64>() < candidate, chance.random::<f64>() < noise);
        pair(&mut judge, terms, &found(raw));
        if terms.control {
            judge.control(&found(raw), &found(own), terms, NOW);
        }
        if judge.verdict(terms) != Judgement::NotEnoughData {
            return (judge.verdict(terms), calls);
        }
    }
    (Judgement::NotEnoughData, most)
}

#[test]
fn who_always_agrees_is_equivalent_and_who_flips_is_different() {
    for control in [false, true] {
        let (verdict, after) = judged(1, &terms(control, None), (0.0, 0.0), 2_000);
        assert!(verdict == Judgement::Equivalent && after < 800, "{verdict:?} {after}");
        let (verdict, after) = judged(1, &terms(control, None), (0.2, 0.0), 2_000);
        assert!(verdict == Judgement::Different && after < 200, "{verdict:?} {after}");
    }
}

#[test]
fn noise_that_both_have_is_taken_off() {
    let count = |rates, wanted| {
        (0..40).filter(|seed| judged(*seed, &terms(true, None), rates, 20_000).0 == wanted).count()
    };
    assert_eq!(count((0.05, 0.05), Judgement::Different), 0);
    assert!(count((0.02, 0.02), Judgement::Equivalent) >= 36);
    assert!(count((0.1, 0.05), Judgement::Different) >= 38);
    // Without a control nobody can know that it is noise.
    assert_eq!(judged(1, &terms(false, None), (0.05, 0.05), 5_000).0, Judgement::Different);
}

#[test]
fn a_bound_allows_what_is_within_it() {
    for control in [false, true] {
        let allowed = terms(control, Some(0.05));
        assert_eq!(judged(3, &allowed, (0.02, 0.0), 20_000).0, Judgement::Equivalent);
        assert_eq!(judged(3, &allowed, (0.12, 0.0), 20_000).0, Judgement::Different);
    }
}

#[test]
fn a_difference_stays_and_says_since_when_and_where() {
    let terms = terms(false, None);
    let mut judge = Judge::default();
    let mut differing = found(true);
    differing.outputs.push(output("score", 0, 4));
    (0..10).for_each(|_| pair(&mut judge, &terms, &differing));
    (0..5_000).for_each(|_| pair(&mut judge, &terms, &found(false)));
    let report = judge.report(&terms);
    assert_eq!((report.verdict, report.pairs, report.disagreeing), (Judgement::Different, 5_010, 10));
    assert!(report.since.is_some_and(|since| since < NOW + Duration::from_secs(10)));
    assert!(
        report.why.contains("label disagrees in 0.20 %") && report.why.contains("values"),
        "{}",
        report.why
    );
    let label = report.outputs.iter().find(|output| &*output.name == "label").unwrap();
    assert_eq!((label.kinds.as_slice(), label.inferred), (&[(Kind::Values, 10)][..], true));
    assert_eq!(label.seen.map(|(first, _)| first), Some(NOW));
    let latency = report.latency.unwrap();
    assert!((latency[1][0] / latency[0][0] - 2.0).abs() < 0.05);
}

#[test]
fn what_differs_as_a_whole_counts_for_the_answer() {
    let terms = terms(false, None);
    let mut judge = Judge::default();
    let status = Comparison { kind: Some(Kind::Status), ..Comparison::default() };
    (0..10).for_each(|_| pair(&mut judge, &terms, &status));
    let report = judge.report(&terms);
    assert_eq!((report.verdict, &*report.outputs[0].name), (Judgement::Different, ANSWER));
    assert!(report.why.contains("status"), "{}", report.why);
}

#[test]
fn outputs_that_never_come_are_named_and_too_many_are_not_kept() {
    let terms = terms(false, None);
    let mut judge = Judge::default();
    let mut found = Comparison { absent: vec!["scores".into()], ..Comparison::default() };
    found.outputs = (0..200).map(|at| output(&format!("o{at}"), 0, 1)).collect();
    found.outputs.push(output(&"x".repeat(1_000), 1, 1));
    pair(&mut judge, &terms, &found);
    let report = judge.report(&terms);
    assert_eq!(report.absent, [("scores".into(), 1)]);
    assert_eq!(report.outputs.len(), 1 + OUTPUTS);
}

#[test]
fn it_is_remembered_as_it_was() {
    let mut judge = Judge::default();
    let terms = terms(true, Some(0.02));
    pair(&mut judge, &terms, &found(true));
    judge.control(&found(true), &found(false), &terms, NOW);
    judge.values(Side::Base, 0.5, &[("label".into(), Values::Labels(vec!["cat".into()]))]);
    let text = serde_json::to_string(&judge).unwrap();
    assert!(!text.contains("cat"), "what was answered is not written down");
    let mut read: Judge = serde_json::from_str(&text).unwrap();
    // Logarithms come back as they were but for their last digit.
    for (read, known) in read.outputs.iter_mut().zip(&judge.outputs) {
        assert!((read.over.ln_e() - known.over.ln_e()).abs() < 1e-12);
        (read.over, read.under) = (known.over, known.under);
    }
    assert_eq!(read, judge);
}
