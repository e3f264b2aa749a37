//! What is read of a log that is written meanwhile: the newest rows, one prediction's story, and what matches.

use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::config::units::{Percent, Size};
use crate::config::{Full, Log as Config};
use crate::log::Log;
use crate::log::rows::sample;

fn config(directory: &std::path::Path) -> Config {
    Config {
        dir: directory.to_owned(),
        sample: Percent::ALL,
        flush: Duration::from_millis(10),
        seal_size: Size(1 << 20),
        seal_every: Duration::from_secs(600),
        disk: Size(1 << 30),
        full: Full::DropOldest,
        upload: None,
        payloads: None,
        cloudevents: None,
    }
}

/// The story of the sample call, of which `calls` come, the last with its copy, a report and a change before.
async fn written(calls: u128) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let log = Log::start(&config(root.path()), 1).unwrap();
    let (door, rest) = (log.door(0).unwrap(), log.door(1).unwrap());
    rest.change(&std::sync::Arc::new(sample::record()));
    let seen = sample::seen(0);
    for number in 0..calls {
        let prediction = match number + 1 == calls {
            true => seen.prediction.uuid,
            false => Uuid::from_u128(number),
        };
        let started = sample::outcome().started + Duration::from_millis(number as u64);
        door.call(crate::outcome::Outcome { prediction, started, ..sample::outcome() });
    }
    let copy = crate::shadow::record::CopyOutcome { prediction: seen.prediction.uuid, ..sample::copy() };
    door.copy(&copy);
    let output = crate::comparison::Output {
        name: "label".into(),
        measure: Some("class"),
        inferred: true,
        kind: Some(crate::comparison::Kind::Values),
        rows: 4,
        differing: 1,
        distance: 0.25,
        figures: vec![("flips", 0.25)],
    };
    let found = crate::comparison::Comparison { outputs: vec![output], ..Default::default() };
    let verdict = Some(crate::comparison::judge::Judgement::NotEnoughData);
    door.copy(&crate::shadow::record::CopyOutcome { comparison: Some(found.into()), verdict, ..copy });
    rest.report(&seen);
    log.close(Duration::from_secs(20)).await;
    root
}

fn arguments<T: clap::FromArgMatches + Args>(words: &[&str]) -> T {
    let command = T::augment_args(clap::Command::new("x"));
    T::from_arg_matches(&command.get_matches_from(std::iter::once(&"x").chain(words))).unwrap()
}

fn place(root: &tempfile::TempDir) -> String {
    root.path().display().to_string()
}

#[tokio::test]
async fn a_prediction_has_one_story() {
    let root = written(3).await;
    let seen = sample::seen(0);
    let mut out = Vec::new();
    let options: show::Options = arguments(&["--log", &place(&root), &seen.prediction.uuid.to_string()]);
    assert_eq!(show::run(&options, &mut out).unwrap(), Ended::Done);
    let told = String::from_utf8(out).unwrap();
    for part in [
        "of fraud",
        "assigned  v2 by ab: split, propensity 0.5 (v1 0.5, v2 0.5), unit 000000000000beef",
        "answered  v2 2.0.0 at 10.0.0.7:8001 in attempt 1, its server says 2",
        "status    OK, blame nobody; 12.0 ms",
        "trace     00000000000000000000000000000abc span 0000000000000011 (sampled)",
        "rollout   held by operator",
        "copy      v2 2.0.0 at 10.0.0.7:8001: DEADLINE_EXCEEDED in 2.0 s; beside the answer: status",
        "beside the answer: values",
        "label (class): values, 1 of 4 rows; flips 0.25",
        "the verdict then: not enough data",
        "feedback  approved = 1, 60.0 s later (first, evidence now)",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
    let mut out = Vec::new();
    let options: show::Options =
        arguments(&["--log", &place(&root), "--json", "00000000000000000000000000000abc"]);
    show::run(&options, &mut out).unwrap();
    let json: Value = serde_json::from_slice(&out).unwrap();
    assert!(json["prediction"]["prediction_uuid"].is_string(), "by its trace");
    let options: show::Options = arguments(&["--log", &place(&root), &Uuid::from_u128(99).to_string()]);
    assert_eq!(show::run(&options, &mut Vec::new()).unwrap(), Ended::Nothing);
    let options: show::Options = arguments(&["--log", "/nowhere", &Uuid::from_u128(99).to_string()]);
    assert_eq!(show::run(&options, &mut Vec::new()).unwrap(), Ended::Refused);
}

#[tokio::test]
async fn the_newest_come_last_and_no_more_than_asked() {
    let root = written(30).await;
    let mut out = Vec::new();
    let options: tail::Options = arguments(&["--log", &place(&root), "-n", "3"]);
    assert_eq!(tail::run(&options, &mut out).unwrap(), Ended::Done);
    let lines = String::from_utf8(out).unwrap();
    let times: Vec<&str> = lines.lines().map(|line| &line[..26]).collect();
    assert_eq!(times.len(), 3, "{lines}");
    assert!(times.is_sorted() && times[2] == "2023-11-14 22:13:20.029000", "{lines}");
}

#[tokio::test]
async fn conditions_choose_rows_and_unknown_fields_are_named() {
    let root = written(5).await;
    let now = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_100);
    let run = |words: &[&str]| {
        let mut out = Vec::new();
        let words: Vec<&str> =
            ["--log", root.path().to_str().unwrap()].iter().chain(words).copied().collect();
        let options: query::Options = arguments(&words);
        let ended = query::run(&options, now, &mut out).unwrap();
        (ended, String::from_utf8(out).unwrap())
    };
    let (ended, all) =
        run(&["--where", "variant=v2", "--since", "1h", "--json", "--fields", "variant,model"]);
    assert_eq!((ended, all.lines().count()), (Ended::Done, 5));
    assert_eq!(all.lines().next(), Some(r#"{"variant":"v2","model":"fraud"}"#));
    assert_eq!(run(&["--where", "variant=v1"]).0, Ended::Nothing);
    assert_eq!(run(&["--since", "30s"]).0, Ended::Nothing);
    assert_eq!(run(&["--where", "varian=v2"]).0, Ended::Refused);
    let (_, table) = run(&["--table", "audit"]);
    assert!(table.starts_with("time ") && table.contains("no verdict in time"), "{table}");
    assert_eq!(run(&["--limit", "2", "--json"]).1.lines().count(), 2);
}
