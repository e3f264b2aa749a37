use super::*;
use crate::comparison::{Kind, Output};
use crate::config::{self, Environment};

const NOW: Duration = Duration::from_secs(1_700_000_000);

fn config(version: &str) -> Arc<Config> {
    let yaml = format!(
        "models: {{m: {{variants: {{v1: {{endpoint: \"http://127.0.0.1:8001\", version: \"1\"}}, \
         v2: {{endpoint: \"http://127.0.0.1:8002\", version: \"{version}\"}}}}, shadows: [{{variant: v2}}]}}}}\n"
    );
    config::read("test.yaml", &yaml, &Environment::default())
        .unwrap_or_else(|errors| panic!("{errors}"))
        .config
}

/// So many pairs, which differ by all that a float can.
fn pairs(judges: &Judges, config: &Config, count: u64) -> Option<Judgement> {
    let model = config.model("m").unwrap();
    let judging = model.shadows[0].judging.as_ref().unwrap();
    let output = Output {
        name: "y".into(),
        measure: Some("numeric"),
        inferred: true,
        kind: Some(Kind::Values),
        rows: 1,
        differing: 1,
        distance: f64::INFINITY,
        figures: vec![("max_abs", f64::INFINITY), ("cosine", f64::NAN)],
    };
    let found = Arc::new(Comparison { outputs: vec![output], ..Comparison::default() });
    let offender = || Offender {
        prediction: "p".to_owned(),
        trace: "t".to_owned(),
        at: NOW,
        output: "y".into(),
        how: "values".to_owned(),
        far: (1.0, 1.0),
        served: serde_json::Value::Null,
        shadow: serde_json::Value::Null,
    };
    let mut verdict = None;
    for number in 0..count {
        let of = (Uuid::from_u128(number.into()), &found);
        let took = ([Duration::from_millis(1); 2], false);
        verdict = judges.pair((model, &model.shadows[0], judging), of, took, offender, NOW);
    }
    verdict
}

#[test]
fn what_pairs_proved_outlives_the_process_and_is_told_once() {
    let (judges, config) = (Judges::default(), config("2"));
    assert_eq!(pairs(&judges, &config, 40), Some(Judgement::Different));
    let model = config.model("m").unwrap();
    assert_eq!(judges.news(model).len(), 1);
    let kept: HashMap<String, Vec<u8>> =
        judges.take_changed().into_iter().map(|(key, value)| (key, value.unwrap())).collect();
    assert!(judges.take_changed().is_empty(), "nothing has changed since");
    let next = Judges::default();
    assert!(next.restore(&kept, &config).is_empty());
    let (before, after) = (judges.of(model), next.of(model));
    assert_eq!((after[0].report.pairs, after[0].report.verdict), (40, Judgement::Different));
    assert_eq!(after[0].offenders, before[0].offenders);
    assert_eq!(next.news(model), [], "it was told before");
    assert_eq!(pairs(&next, &config, 1), Some(Judgement::Different));
    assert_eq!(next.of(model)[0].report.pairs, 41);
    // What was learnt before the state could be read is not lost to it.
    next.restore(&kept, &config);
    assert_eq!(next.of(model)[0].report.pairs, 41);
}

#[test]
fn another_build_begins_anew_and_a_shadow_that_is_gone_is_forgotten() {
    let (judges, before) = (Judges::default(), config("2"));
    pairs(&judges, &before, 40);
    let kept: HashMap<String, Vec<u8>> =
        judges.take_changed().into_iter().map(|(key, value)| (key, value.unwrap())).collect();
    let (next, after) = (Judges::default(), config("3"));
    next.restore(&kept, &after);
    assert_eq!(next.of(after.model("m").unwrap())[0].report.pairs, 0);
    let other = "models: {m: {variants: {v1: {endpoint: \"http://127.0.0.1:8001\"}}}}\n";
    let other = config::read("test.yaml", other, &Environment::default()).unwrap().config;
    assert_eq!(next.restore(&kept, &other), Changed::from([("shadow m v2".to_owned(), None)]));
    let broken = HashMap::from([("shadow m v2".to_owned(), b"broken".to_vec())]);
    assert!(Judges::default().restore(&broken, &before).is_empty());
}
