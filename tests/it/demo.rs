//! `parhelion demo` as a user starts it: its shadow gets its copies, its books are right, and no caller notices.

use crate::support::process::run_to_end;

#[test]
fn every_eligible_call_of_the_demo_is_copied_or_counted() {
    let output = run_to_end(&["demo", "--calls", "600", "--rate", "0", "--json"], &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let said: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&said["calls"], &said["failed"]), (&600.into(), &0.into()), "{text}");
    let shadow = &said["shadow"];
    let count = |value: &serde_json::Value| value.as_u64().unwrap();
    let (eligible, copied) = (count(&shadow["eligible"]), count(&shadow["copied"]));
    let skipped: u64 = shadow["skipped"].as_object().unwrap().values().map(count).sum();
    assert_eq!((eligible, copied + skipped), (600, 600), "{text}");
    // Half of them are drawn; a hundred of 600 would be sixteen standard deviations away.
    assert!(copied > 100 && count(&shadow["skipped"]["sampled_out"]) > 100, "{text}");
    assert_eq!(shadow.as_object().unwrap().len(), 3, "{text}");
}

#[test]
fn a_shadow_that_is_away_changes_nothing_for_callers() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = run_to_end(&["demo", "--calls", "300", "--rate", "0", "--json", "--shadow", &nobody], &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let said: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&said["calls"], &said["failed"]), (&300.into(), &0.into()), "{text}");
    let shadow = &said["shadow"];
    assert_eq!((&shadow["eligible"], &shadow["copied"]), (&300.into(), &0.into()), "{text}");
    let skipped = shadow["skipped"].as_object().unwrap();
    assert_eq!(skipped.values().filter_map(serde_json::Value::as_u64).sum::<u64>(), 300, "{text}");
    assert!(skipped.contains_key("not_ready"), "{text}");
}

#[test]
fn the_text_shows_coverage_latency_answers_and_the_copys_span() {
    let output = run_to_end(&["demo", "--calls", "600", "--rate", "0"], &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    for part in [
        "600 calls, 0 failed",
        " of 600 calls copied (",
        "copies take ",
        "raw answers differ in ",
        "not copied: sampled_out ",
        "shadow span ",
        "in a trace of its own, ",
        "parhelion.role = shadow",
        "parhelion.primary.span_id = ",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}
