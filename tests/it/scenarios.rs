//! The committed scenarios, with fewer runs than `parhelion simulate --table tests/scenarios` makes of them.

use std::path::{Path, PathBuf};

use parhelion::simulate;

fn scenarios() -> Vec<PathBuf> {
    simulate::scenarios_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")).unwrap()
}

#[test]
fn every_scenario_comes_out_as_expected() {
    let files = scenarios();
    assert!(files.len() >= 23, "{files:?}");
    for file in files {
        let scenario = simulate::read(&file).unwrap_or_else(|errors| panic!("{}: {errors}", file.display()));
        let name = file.file_stem().unwrap().to_string_lossy();
        let summary = scenario.with(Some(scenario.quick()), None).play(&|_, _| {});
        assert_eq!(summary.runs, scenario.quick());
        assert!(summary.is_as_expected(), "{}", scenario.text(&name, &summary));
    }
}

/// The same two lists and the same people, through the code that is used: merged, and split.
#[test]
fn a_swap_among_the_first_five_needs_a_twentieth_of_the_sessions_that_a_split_needs() {
    let median = |name: &str, runs: u64| {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/interleave").join(name);
        let scenario = simulate::read(&file).unwrap().with(Some(runs), None);
        let summary = scenario.play(&|_, _| {});
        let won = summary.until_promoted.as_ref().map(|lengths| lengths.calls.median);
        won.unwrap_or_else(|| panic!("{}", scenario.text(name, &summary)))
    };
    let (merged, split) = (median("swap.yaml", 40), median("swap-split.yaml", 7));
    assert!(split >= 20.0 * merged, "{merged} sessions merged, {split} split");
}

/// Both are in the same world.
#[test]
fn a_half_life_saves_most_of_what_a_swap_of_the_best_costs() {
    let lost = |name: &str| {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/bandit").join(name);
        let summary = simulate::read(&file).unwrap().with(Some(1), None).play(&|_, _| {});
        summary.regret.unwrap_or_else(|| panic!("{name} tells no regret")).mean
    };
    let (plain, fading) = (lost("swap.yaml"), lost("swap-half-life.yaml"));
    assert!(fading <= 0.4 * plain, "{plain} with all values, {fading} with the newer ones");
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
  strange: {share: 0%, does: [dances]}
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
        ("world.strange.share", "bad.yaml:11"),
        ("world.strange.does[0]", "bad.yaml:11"),
        ("until", "bad.yaml:12"),
    ];
    for problem in expected {
        assert!(found.contains(&problem), "{problem:?} is not among {found:?}\n{errors}");
    }
    const AB: &str = "strategy: {kind: ab, weights: {stable: 50%, next: 50%}}";
    let errors = simulate::read_text("ab.yaml", AB).unwrap_err();
    assert!(errors.to_string().contains("kind: ab with metrics"), "{errors}");
}

#[test]
fn what_replicas_cannot_be_is_said_with_its_place() {
    let of = |text: &str| {
        let canary = "strategy: {kind: canary, steps: [{share: 5%}]}\nworld: {calls: 1}\n";
        simulate::read_text("bad.yaml", &format!("{text}\n{canary}")).unwrap_err().to_string()
    };
    for (text, path, remedy) in [
        ("replicas: 0", "replicas", "write 1 to 10000"),
        ("replicas: 10001", "replicas", "write 1 to 10000"),
        ("replicas: -3", "replicas", "bad.yaml:1"),
        ("replicas: many", "replicas", "bad.yaml:1"),
        ("store: {delay: 5ms}", "store", "replicas: 100"),
        ("replicas: 2\nstore: {delay: 1s}", "store.delay", "250ms or less"),
        ("replicas: 2\nstore: {takes: 1h}", "store.takes", "250ms or less"),
        ("replicas: 2\nstore: {away: {after: 1m}}", "store.away.last", "{after: 1m, last: 5m}"),
        ("replicas: 2\nstore: {lost: true}", "store.lost", "bad.yaml:2"),
        ("expect: {told_p99: {at_most: 2}}", "expect.told_p99", "replicas: 100"),
    ] {
        let errors = of(text);
        assert!(errors.contains(path) && errors.contains(remedy), "{text}: {errors}");
    }
}

/// The same world and the same judge: what one sees of all calls, and what many see of their parts of them.
#[test]
fn many_replicas_find_what_one_finds_that_sees_all_calls() {
    let text = "
strategy: {kind: canary, steps: [{share: 20%}], guards: {rejections: off}}
unit: [metadata:x-user-id]
feedback: {liked: {kind: binary, window: 1m}}
world:
  calls: 50
  errors: {rate: 1%, candidate: {times: 8}, burst: 2}
  latency: {median: 20ms, spread: 0.5}
  strange: {share: 5%, callers: 3, does: [rubbish, cancels]}
  feedback: {liked: {share: 10%, mean: 0.5}}
until: 30m
runs: 4
";
    let play = |more: &str| {
        let scenario = simulate::read_text("many.yaml", &format!("{more}{text}"));
        scenario.unwrap_or_else(|errors| panic!("{errors}")).play(&|_, _| {})
    };
    let (one, many) = (play(""), play("replicas: 10"));
    assert_eq!((one.rolled_back.count, many.rolled_back.count), (4, 4), "{many:?}");
    let failures =
        |summary: &simulate::Summary| summary.until_rolled_back.as_ref().unwrap().candidate_failures.median;
    assert!(failures(&many) <= 3.0 * failures(&one), "{many:?}");
    assert_eq!(play("replicas: 10"), many, "a seed is a world");
    assert!(many.until_told.is_some() && one.until_told.is_none());
    // Nobody is told, and nobody answers: each looks by itself.
    let alone = play("replicas: 3\nstore: {channels: false, away: {after: 5s, last: 1h}}");
    assert_eq!(alone.rolled_back.count, 4, "{alone:?}");
}

/// What a bandit's replicas learn from each other.
#[test]
fn a_bandit_among_replicas_finds_the_best() {
    let text = "
replicas: 5
strategy: {kind: bandit, reward: {name: bought}}
feedback: {bought: {kind: binary, window: 1m}}
world: {calls: 20, feedback: {bought: {means: [0.2, 0.6]}}}
until: 20m
runs: 2
";
    let scenario = simulate::read_text("bandit.yaml", text).unwrap_or_else(|errors| panic!("{errors}"));
    let summary = scenario.play(&|_, _| {});
    assert_eq!(summary.right.map(|right| right.count), Some(2), "{summary:?}");
}

#[test]
fn what_a_bandits_world_cannot_be_is_said() {
    let text = "
variants: 9
strategy: {kind: bandit, reward: {name: bought}, policy: lin_ts, context: [{metadata: x-age}]}
feedback: {bought: {kind: binary}, kept: {kind: binary}}
world:
  calls: 1
  errors: {rate: 1%}
  strays: 10%
  feedback:
    bought: {mean: 0.5, means: [0.5, 0.6, 1.7], then: {after: 1m, means: [0.1]}}
    kept: {mean: 0.5, then: {after: 1m, means: [0.1, 0.2]}}
";
    let errors = simulate::read_text("bad.yaml", text).unwrap_err();
    let found: Vec<&str> = errors.0.iter().map(|problem| &*problem.path).collect();
    for path in [
        "variants",
        "strategy.policy",
        "world.errors",
        "world.strays",
        "world.feedback.bought.means",
        "world.feedback.bought.means[2]",
        "world.feedback.bought.then.means",
        "world.feedback.kept.then",
    ] {
        assert!(found.contains(&path), "{path} is not among {found:?}\n{errors}");
    }
    let canary = "variants: 3\nstrategy: {kind: canary, steps: [{share: 5%}]}\nworld: {calls: 1}\n";
    let errors = simulate::read_text("canary.yaml", canary).unwrap_err();
    assert!(errors.to_string().contains("are for kind: bandit"), "{errors}");
}

/// The simulator tells who was given what by the code that serves, so a bandit that learns nothing loses what an even
/// split loses.
#[test]
fn regret_is_what_the_worse_variants_cost() {
    let text = "
variants: 4
strategy: {kind: bandit, reward: {name: stars, better: lower}, min_units: 1000000, stop: off}
feedback: {stars: {kind: bounded, min: 1, max: 5}}
world: {calls: 20, feedback: {stars: {means: [3, 2, 4, 3], spread: 0.5}}}
until: 100s
runs: 10
";
    let scenario = simulate::read_text("even.yaml", text).unwrap_or_else(|errors| panic!("{errors}"));
    let lost = scenario.play(&|_, _| {}).regret.unwrap();
    // 2,000 calls; three of four lose 1, 2 and 1.
    assert!((lost.mean - 2000.0).abs() < 60.0, "{lost:?}");
}

#[test]
fn what_is_learnt_has_the_mean_that_the_world_says() {
    let text = "
strategy:
  kind: canary
  steps: [{share: 50%}]
  guards: {errors: off, rejections: off, latency: off, feedback: {name: stars, absolute: 0.2}}
feedback:
  stars: {kind: bounded, min: 1, max: 5, window: 1m}
world:
  calls: 20
  feedback:
    stars: {share: 50%, mean: 3, spread: 0.5, candidate: {mean: MEAN}, delay: {median: DELAY}}
until: 70m
runs: 3
";
    let play = |mean: &str, delay: &str| {
        let text = text.replace("MEAN", mean).replace("DELAY", delay);
        simulate::read_text("stars.yaml", &text).unwrap_or_else(|errors| panic!("{errors}")).play(&|_, _| {})
    };
    let worse = play("2.5", "10s");
    assert_eq!(worse.rolled_back.count, 3, "{worse:?}");
    let feedback = worse.until_rolled_back.unwrap().feedback.unwrap();
    assert!(feedback.median > 20.0 && feedback.p99 < 5_000.0, "{feedback:?}");
    let same = play("3", "10s");
    assert_eq!(same.promoted.count, 3, "it is proven to be within its margin: {same:?}");
    let late = play("2.5", "2m");
    assert_eq!(
        (late.held.count, late.rolled_back.count),
        (3, 0),
        "what comes after its window counts nothing"
    );
}

#[test]
fn strange_callers_are_in_the_calls_and_in_no_evidence_but_rubbish() {
    let text = "
strategy:
  kind: canary
  steps: [{share: 50%}]
  guards: {errors: {absolute: 0%}, rejections: {absolute: 0%}, latency: off}
  max_step_time: 2d
unit: [metadata:x-user-id]
world:
  calls: 1
  errors: {rate: 1%}
  strange: {share: 50%, callers: 2, does: DOES}
until: 1d
runs: 10
";
    let play = |does: &str| {
        let scenario = simulate::read_text("strange.yaml", &text.replace("DOES", does));
        scenario.unwrap_or_else(|errors| panic!("{errors}")).play(&|_, _| {})
    };
    assert_eq!(play("[deadlines, cancels]").rolled_back.count, 0);
    // Two units that only one variant refuses are two units, and half of the time one variant has both. They count ever
    // less often, so a day is needed.
    let rubbish = play("[rubbish]");
    assert!((1..=9).contains(&rubbish.rolled_back.count), "{rubbish:?}");
}

#[test]
fn what_is_wrong_with_what_is_learnt_is_said_with_its_place() {
    let text = "
strategy: {kind: canary, steps: [{share: 5%}]}
feedback:
  stars: {kind: bounded, min: 1, max: 5}
  word: {kind: label}
  known: {kind: binary}
  silent: {kind: binary}
world:
  calls: 1
  feedback:
    stars: {mean: 4.9, spread: 0.5, candidate: {mean: 3}}
    word: {mean: 1}
    likes: {mean: 1}
    known: {mean: 0.5, share: 120%, law: lognormal, units: {n: 10}}
";
    let errors = simulate::read_text("bad.yaml", text).unwrap_err();
    let found: Vec<(&str, &str)> =
        errors.0.iter().map(|problem| (&*problem.path, problem.place.as_deref().unwrap_or(""))).collect();
    let expected = [
        ("world.feedback.silent", "bad.yaml:10"),
        ("world.feedback.stars.mean", "bad.yaml:11"),
        ("world.feedback.word", "bad.yaml:12"),
        ("world.feedback.likes", "bad.yaml:13"),
        ("world.feedback.known.units", "bad.yaml:14"),
        ("world.feedback.known.law", "bad.yaml:14"),
        ("world.feedback.known.share", "bad.yaml:14"),
    ];
    assert_eq!(found, expected, "{errors}");
}
