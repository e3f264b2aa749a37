//! The committed scenarios, with fewer runs than `parhelion simulate tests/scenarios/canary/*.yaml` makes of them.

use std::fs;
use std::path::{Path, PathBuf};

use parhelion::simulate;

fn scenarios() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/canary");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_scenario_comes_out_as_expected() {
    let files = scenarios();
    assert!(files.len() >= 17, "{files:?}");
    for file in files {
        let scenario = simulate::read(&file).unwrap_or_else(|errors| panic!("{}: {errors}", file.display()));
        let name = file.file_stem().unwrap().to_string_lossy();
        let summary = scenario.with(Some(scenario.quick()), None).play(&|_, _| {});
        assert_eq!(summary.runs, scenario.quick());
        assert!(summary.broken.is_empty(), "{}", scenario.text(&name, &summary));
    }
}

#[test]
fn a_seed_is_a_world() {
    let scenario = simulate::read(&scenarios()[0]).unwrap().with(Some(3), Some(7));
    let summary = scenario.play(&|_, _| {});
    assert_eq!(scenario.play(&|_, _| {}), summary);
    assert_ne!(scenario.with(None, Some(8)).play(&|_, _| {}), summary);
}

#[test]
fn what_is_wrong_with_a_scenario_is_said_all_at_once() {
    let text = "
strategy:
  kind: canary
  steps: [{share: 5%}, {share: 5%}]
  guards: {error: {relative: 25%}}
world:
  calls: 0
  errors: {rate: 40%, candidate: {times: 3}, outages: {every: 1s, last: 1s, rate: 50%}}
  latency: {median: 20, spread: 0.5}
  weather: fine
until: 0s
";
    let errors = simulate::read_text("bad.yaml", text).unwrap_err();
    let found: Vec<(&str, &str)> =
        errors.0.iter().map(|problem| (&*problem.path, problem.place.as_deref().unwrap_or(""))).collect();
    let expected = [
        ("strategy.steps[1].share", "bad.yaml:4"),
        ("strategy.guards.error", "bad.yaml:5"),
        ("world.calls", "bad.yaml:7"),
        ("world.errors", "bad.yaml:8"),
        ("world.errors.outages", "bad.yaml:8"),
        ("world.latency.median", "bad.yaml:9"),
        ("world.weather", "bad.yaml:10"),
        ("until", "bad.yaml:11"),
    ];
    for problem in expected {
        assert!(found.contains(&problem), "{problem:?} is not among {found:?}\n{errors}");
    }
    const AB: &str = "strategy: {kind: ab, weights: {stable: 50%, next: 50%}}";
    let errors = simulate::read_text("ab.yaml", AB).unwrap_err();
    assert!(errors.to_string().contains("use kind: canary"), "{errors}");
}
