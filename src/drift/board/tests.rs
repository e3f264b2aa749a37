use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use crate::comparison::drift::Values;
use crate::config::{self, Environment};

const NOW: Duration = Duration::from_secs(1_700_000_000);

fn config(reference: &str, version: &str) -> Arc<Config> {
    let yaml = format!(
        "models: {{m: {{variants: {{v1: {{endpoint: \"http://127.0.0.1:8001\", version: \"1\"}}, \
         v2: {{endpoint: \"http://127.0.0.1:8002\", version: \"{version}\"}}}}, unit: [metadata:x-user], \
         strategy: {{kind: ab, baseline: v1, weights: {{v1: 50%, v2: 50%}}}}, drift: {{{reference}}}}}}}\n"
    );
    config::read("test.yaml", &yaml, &Environment::default())
        .unwrap_or_else(|errors| panic!("{errors}"))
        .config
}

/// So many answers of either variant: v1 says cat and dog, v2 cat alone.
fn answers(drifts: &Drifts, config: &Config, count: u64) {
    let model = config.model("m").unwrap();
    let odds = [("v2".into(), 0.5)];
    let mut chance = SmallRng::seed_from_u64(7);
    for number in 0..count {
        for (variant, label) in [("v1", if number % 2 == 0 { "cat" } else { "dog" }), ("v2", "cat")] {
            let values = [("label".into(), Values::Labels(vec![label.into()]))];
            let answered = Answered {
                variant: &variant.into(),
                odds: &odds,
                baseline: variant == "v1",
                values: &values,
                unit: None,
            };
            drifts.count(model, &answered, NOW, || chance.next_u64());
        }
    }
    drifts.look(config, NOW);
}

fn of(drifts: &Drifts, config: &Config) -> Drifting {
    drifts.of(config.model("m").unwrap()).unwrap()
}

#[test]
fn a_drift_is_told_once_and_outlives_the_process() {
    let (drifts, config) = (Drifts::default(), config("", "2"));
    drifts.follow(&config);
    answers(&drifts, &config, 1_000);
    let known = of(&drifts, &config);
    assert_eq!(known.answers, [2_000, 0, 0, 0]);
    let model = config.model("m").unwrap();
    let news = drifts.news(model);
    assert_eq!((news.len(), &*news[0].variant, &*news[0].finding.guard), (1, "v2", "drift label"));
    assert!(news[0].why.contains("label of v2 is distributed otherwise than that of v1"), "{}", news[0].why);
    assert_eq!(drifts.news(model), []);
    let kept: HashMap<String, Vec<u8>> =
        drifts.take_changed().into_iter().map(|(key, value)| (key, value.unwrap())).collect();
    assert!(drifts.take_changed().is_empty());
    let next = Drifts::default();
    assert!(next.restore(&kept, &config).is_empty());
    next.follow(&config);
    assert_eq!(of(&next, &config).reports, known.reports);
    assert_eq!(next.news(model), [], "it was told before");
    // Late, it may be that answers were counted meanwhile: they are not lost.
    let late = Drifts::default();
    late.follow(&config);
    answers(&late, &config, 1);
    late.restore(&kept, &config);
    assert_ne!(of(&late, &config).reports, known.reports);
}

#[test]
fn another_build_begins_anew_and_a_model_that_is_gone_is_forgotten() {
    let drifts = Drifts::default();
    let (before, after) = (config("", "2"), config("", "3"));
    drifts.follow(&before);
    answers(&drifts, &before, 1_000);
    let kept: HashMap<String, Vec<u8>> =
        drifts.take_changed().into_iter().map(|(key, value)| (key, value.unwrap())).collect();
    drifts.follow(&after);
    assert_eq!(of(&drifts, &after).reports, []);
    let next = Drifts::default();
    next.restore(&kept, &after);
    next.follow(&after);
    assert_eq!(of(&next, &after).reports, []);
    let other = "models: {x: {variants: {v1: {endpoint: \"http://127.0.0.1:8001\"}}}}\n";
    let other = config::read("test.yaml", other, &Environment::default()).unwrap().config;
    assert_eq!(drifts.restore(&kept, &other), Changed::from([("drift m".to_owned(), None)]));
    let broken = HashMap::from([("drift m".to_owned(), b"broken".to_vec())]);
    assert!(drifts.restore(&broken, &after).is_empty());
}

#[test]
fn a_reference_is_made_read_and_held_against_what_comes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.json");
    let reference = format!("reference: {}", path.display());
    let (first, second) = (config("", "2"), config(&reference, "2"));
    let drifts = Drifts::default();
    drifts.follow(&first);
    assert_eq!(drifts.file(first.model("m").unwrap(), 0, NOW), None, "too few");
    answers(&drifts, &first, 3_000);
    let file = drifts.file(first.model("m").unwrap(), 0, NOW).unwrap();
    assert_eq!((&*file.variant, file.outputs["label"].values()), ("v1", 2_500));
    // It is not there yet: that is said, and the rest goes on.
    drifts.follow(&second);
    answers(&drifts, &second, 700);
    let known = of(&drifts, &second);
    assert!(known.trouble.as_ref().is_some_and(|why| why.contains("m.json")), "{:?}", known.trouble);
    assert_eq!(known.reports.len(), 1);
    std::fs::write(&path, file.text()).unwrap();
    drifts.follow(&second);
    answers(&drifts, &second, 700);
    let known = of(&drifts, &second);
    let found: Vec<_> = known.reports.iter().filter(|report| report.found.is_some()).collect();
    assert!(known.trouble.is_none() && known.reports.len() == 3, "{known:?}");
    assert!(found.iter().all(|report| &*report.subject.variant == "v2") && found.len() == 2, "{found:?}");
}

#[test]
fn what_cannot_be_read_is_counted_so() {
    let (drifts, config) = (Drifts::default(), config("", "2"));
    drifts.follow(&config);
    let answered = Answered { variant: &"v1".into(), odds: &[], baseline: true, values: &[], unit: None };
    drifts.count(config.model("m").unwrap(), &answered, NOW, || 0);
    assert_eq!(of(&drifts, &config).answers, [0, 0, 1, 0]);
}
