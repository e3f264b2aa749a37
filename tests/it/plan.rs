//! `parhelion plan` as a user starts it: the same numbers as `check`, times at the traffic that is given, and what is
//! refused.

use serde_json::Value;

use crate::support::process::{file, run_to_end};

const CONFIG: &str = "
models:
  m:
    variants: {a: {endpoint: 'http://127.0.0.1:1', version: '1'}, b: {endpoint: 'http://127.0.0.1:2', version: '2'}}
    unit: [metadata:x-user]
    strategy:
      kind: staged
      baseline: a
      candidate: b
      stages:
        - {kind: canary, steps: [{share: 10%, hold: 10m}, {share: 50%, hold: 10m}], guards: {errors: {absolute: 1%}, rejections: off, latency: off}}
        - {kind: ab, weights: {a: 50%, b: 50%}, metrics: {feedback: {name: bought, relative: 20%}}}
        - {kind: pinned}
    feedback: {bought: {kind: binary}}
state: /nowhere
";

fn plan(path: &str, more: &[&str]) -> std::process::Output {
    run_to_end(&[&["plan", "-c", path], more].concat(), &[])
}

fn data(path: &str, more: &[&str]) -> Value {
    let output = plan(path, &[more, &["--json"]].concat());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_plan_says_how_long_each_stage_takes() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), CONFIG);
    let path = path.to_str().unwrap();
    let said = data(path, &["--rate", "50"]);
    let stages = said["m"]["stages"].as_array().unwrap();
    let [canary, ab, pinned] = &stages[..] else { panic!("{said}") };
    // Five calls of the candidate a second.
    let first = &canary["steps"][0];
    let (calls, seconds) = (first["calls"].as_f64().unwrap(), first["seconds"].as_f64().unwrap());
    assert!(calls >= 3_000.0 && (seconds - (calls / 5.0).max(600.0)).abs() < 1.0, "{canary}");
    // Two points on ten percent, at even shares.
    let metric = &ab["metrics"][0];
    let least = &metric["differences"][0];
    assert_eq!((least["difference"].as_f64(), metric["assumed"].as_bool()), (Some(0.1 * 0.2), Some(true)));
    let all = least["in_all"].as_f64().unwrap();
    assert!((7_000.0..9_500.0).contains(&all), "{ab}");
    assert!((least["seconds"].as_f64().unwrap() - all / 50.0).abs() < 1.0, "{ab}");
    assert_eq!(ab["seconds"], least["seconds"]);
    assert!(metric["smallest_in_time"].as_f64() < Some(0.02), "{ab}");
    assert!(pinned["seconds"].is_null(), "{pinned}");
    let daily = data(path, &["--units", "5000/day", "--mean", "bought=20%"]);
    assert_eq!(
        (&daily["m"]["of"], &daily["m"]["stages"][1]["metrics"][0]["mean"]),
        (&"units".into(), &0.2.into())
    );
    let shown = plan(path, &["--rate", "50"]);
    let text = String::from_utf8(shown.stdout).unwrap();
    for part in
        ["stage canary", "ends after", "feedback bought of b", "2 points", "it sees a difference of", "█"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}

#[test]
fn a_plan_says_how_many_sessions_a_preference_needs() {
    let folder = tempfile::tempdir().unwrap();
    let config = "
models:
  m:
    variants: {a: {endpoint: 'http://127.0.0.1:1', version: '1'}, b: {endpoint: 'http://127.0.0.1:2', version: '2'}}
    unit: [metadata:x-user]
    strategy: {kind: interleave, baseline: a, ranking: {items: items}, credit: {feedback: clicks}, least: 5%}
    feedback: {clicks: {kind: clicks}}
state: /nowhere
";
    let path = file(folder.path(), config);
    let path = path.to_str().unwrap();
    let said = data(path, &["--rate", "2", "--reports", "25%"]);
    let rows = said["m"]["stages"][0]["preferences"].as_array().unwrap();
    // Ten times as much beside the half would be everybody.
    let parts: Vec<f64> = rows.iter().map(|row| row["preferred_by"].as_f64().unwrap()).collect();
    assert_eq!(parts, [0.55, 0.6, 0.75]);
    let sessions = rows[0]["decisive_sessions"].as_f64().unwrap();
    assert!((600.0..1_500.0).contains(&sessions), "{said}");
    assert!((rows[0]["seconds"].as_f64().unwrap() - sessions / 0.5).abs() < 1.0, "{said}");
    let text = String::from_utf8(plan(path, &["--rate", "2"]).stdout).unwrap();
    assert!(text.contains("preferred by") && text.contains("55 %"), "{text}");
}

#[test]
fn what_makes_no_plan_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), CONFIG);
    let path = path.to_str().unwrap();
    for (more, expected) in [
        (&[][..], "--rate"),
        (&["--rate", "0"], "above 0, like 50"),
        (&["--rate", "5", "--model", "n"], "no such model; it has m"),
        (&["--rate", "5", "--mean", "sold=1%"], "the file has bought"),
        (&["--rate", "5", "--mean", "bought=12"], "like bought=12%"),
        (&["--rate", "5", "--deviation", "bought=1"], "follows from their mean"),
        (&["--rate", "5", "--reports", "0%"], "above 0%"),
    ] {
        let output = plan(path, more);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
}
