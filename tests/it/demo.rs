//! `parhelion demo` as a user starts it: its shadow gets its copies, its books are right, and no caller notices; and
//! each scenario ends as its name says.

use serde_json::Value;

use crate::support::process::run_to_end;

/// Runs a scenario; the one object on standard output, and the story on standard error.
fn scenario(name: &str) -> (Value, String) {
    let output = run_to_end(&["demo", "--scenario", name, "--json"], &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    let story = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}\n{story}");
    assert_eq!(text.lines().count(), 1, "{text}");
    let said: Value = serde_json::from_str(&text).unwrap();
    let keys: Vec<&str> = said.as_object().unwrap().keys().map(String::as_str).collect();
    let documented = [
        "scenario",
        "verdict",
        "action",
        "winner",
        "calls",
        "caller_failures",
        "candidate_failures",
        "decided_after_calls",
        "evidence",
    ];
    let several = ["ab", "bandit", "interleave"].contains(&name);
    let documented = documented.into_iter().filter(|key| *key != "winner" || several);
    assert_eq!(keys, documented.collect::<Vec<_>>());
    assert_eq!(said["scenario"], name, "{text}");
    // After a switch nobody stands in for the variant that fails; else no caller notices anything.
    let seen = if name == "switch" { said["candidate_failures"].clone() } else { 0.into() };
    assert_eq!(said["caller_failures"], seen, "{text}\n{story}");
    let (decided, calls) = (&said["decided_after_calls"], &said["calls"]);
    assert!(decided.as_u64() > Some(0) && decided.as_u64() <= calls.as_u64(), "{text}");
    (said, story)
}

/// What a guard had found.
fn found<'a>(said: &'a Value, guard: &str) -> &'a Value {
    let evidence = said["evidence"].as_array().unwrap();
    evidence.iter().find(|finding| finding["guard"] == guard).unwrap()
}

#[test]
fn a_good_candidate_walks_its_steps_and_is_promoted() {
    let (said, story) = scenario("canary-good");
    assert_eq!((&said["verdict"], &said["action"]), (&"pass".into(), &"promoted".into()), "{story}");
    assert_eq!(said["candidate_failures"], 0);
    for guard in ["errors", "rejections", "latency p50", "feedback right"] {
        let finding = found(&said, guard);
        assert_eq!(finding["verdict"], "pass", "{finding}");
        assert!(finding["harm"]["high"].as_f64() <= finding["margin"].as_f64(), "{finding}");
    }
    // Every answer was reported on, and the newer version is right more often.
    let right = found(&said, "feedback right");
    assert!(right["candidate"]["value"].as_f64() > right["baseline"]["value"].as_f64(), "{right}");
    let reported = said["calls"].as_u64().unwrap();
    let told = format!("{reported} reports on whether an answer was right, {reported} counted");
    assert!(story.contains(&told), "{told} is not in\n{story}");
    for part in ["v2 gets 25 %: ", "v2 gets 35 %: ", "v2 gets 50 %: ", "v2 gets 100 %: "] {
        assert!(story.contains(part), "{part} is not in\n{story}");
    }
}

#[test]
fn a_broken_candidate_is_gone_and_no_caller_notices() {
    let (said, story) = scenario("canary-broken");
    assert_eq!((&said["verdict"], &said["action"]), (&"fail".into(), &"rolled_back".into()), "{story}");
    assert!(said["candidate_failures"].as_u64() > Some(0), "{said}");
    assert_eq!(found(&said, "errors")["verdict"], "fail");
    assert!(found(&said, "feedback right")["candidate"]["n"].as_u64() > Some(0), "{said}");
    assert!(story.contains("answers every call with INTERNAL"), "{story}");
    assert!(story.contains("ctl status digits   --admin 127.0.0.1:"), "{story}");
}

#[test]
fn a_slow_candidate_is_rolled_back_by_its_latency() {
    let (said, story) = scenario("canary-slow");
    assert_eq!((&said["verdict"], &said["action"]), (&"fail".into(), &"rolled_back".into()), "{story}");
    let latency = found(&said, "latency p50");
    assert_eq!(latency["verdict"], "fail", "{latency}");
    assert!(latency["candidate"]["value"].as_f64() > latency["baseline"]["value"].as_f64(), "{latency}");
    assert_ne!(found(&said, "errors")["verdict"], "fail");
}

#[test]
fn a_switch_is_warmed_flipped_and_taken_back_when_the_new_version_fails() {
    let (said, story) = scenario("switch");
    assert_eq!((&said["verdict"], &said["action"]), (&"fail".into(), &"rolled_back".into()), "{story}");
    assert!(said["caller_failures"].as_u64() > Some(0), "{said}");
    let errors = found(&said, "errors");
    assert_eq!((&errors["verdict"], &errors["baseline"]["n"]), (&"fail".into(), &0.into()), "{errors}");
    let order = [
        "the file says `variant: v2`, no longer `variant: v1`",
        "flipped     v2 gets 100 %: the new variant is ready and warm",
        "answers every call with INTERNAL",
        "rolled back v2 gets 0 %: the new variant breaks its limit: errors",
        " failed: 0 before the trouble, ",
        ", 0 of them to v2, 0 failed",
    ];
    let places: Vec<_> = order.iter().map(|part| story.find(part)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}\n{story}");
}

#[test]
fn stages_lead_from_copies_to_everything_and_no_user_moves_back() {
    let (said, story) = scenario("staged");
    assert_eq!((&said["verdict"], &said["action"]), (&"pass".into(), &"promoted".into()), "{story}");
    assert_eq!(said["candidate_failures"], 0);
    for guard in ["errors", "rejections", "feedback right"] {
        assert_eq!(found(&said, guard)["verdict"], "pass", "{said}");
    }
    let order = [
        "stage copies is passed",
        "v2 gets 25 %: ",
        "v2 gets 50 %: ",
        "promoted    v2 gets 100 %: ",
        "moved to v2, and 0 moved back",
    ];
    let places: Vec<_> = order.iter().map(|part| story.find(part)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}\n{story}");
}

#[test]
fn the_better_of_two_versions_is_found_by_what_callers_report() {
    let (said, story) = scenario("ab");
    assert_eq!((&said["verdict"], &said["action"]), (&"pass".into(), &"promoted".into()), "{story}");
    let right = found(&said, "feedback right");
    assert_eq!((&right["aim"], &right["verdict"]), (&"success".into(), &"pass".into()), "{right}");
    // Better by so much at least that chance explains none of it.
    assert!(right["harm"]["high"].as_f64() < Some(0.0), "{right}");
    for guard in ["errors", "rejections", "latency p50", "sample ratio", "reports right"] {
        assert_eq!(found(&said, guard)["verdict"], "pass", "{said}");
    }
    let order = ["the comparison begins", "v2 gets 100 %: v2 is better: feedback right", ": better by +"];
    let places: Vec<_> = order.iter().map(|part| story.find(part)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}\n{story}");
}

#[test]
fn a_bandit_gives_ever_more_to_the_better_version_and_everything_in_the_end() {
    let (said, story) = scenario("bandit");
    assert_eq!((&said["verdict"], &said["action"]), (&"pass".into(), &"promoted".into()), "{story}");
    assert_eq!(said["winner"], "v2", "{said}");
    let right = found(&said, "feedback right");
    assert_eq!((&right["aim"], &right["verdict"]), (&"success".into(), &"pass".into()), "{right}");
    assert!(right["harm"]["high"].as_f64() < Some(0.0), "{right}");
    let order = ["it begins to learn", "v2 gets 100 %: v2 is the best: more of right"];
    let places: Vec<_> = order.iter().map(|part| story.find(part)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}\n{story}");
}

#[test]
fn servers_are_replaced_one_by_one_and_no_caller_notices() {
    let (said, story) = scenario("rolling");
    assert_eq!((&said["verdict"], &said["action"]), (&"pass".into(), &"promoted".into()), "{story}");
    assert_eq!(said["candidate_failures"], 0);
    assert_eq!(found(&said, "errors")["verdict"], "pass", "{said}");
    assert_eq!(story.matches("is drained: replace its server by version 2.0.0").count(), 4, "{story}");
    assert_eq!(story.matches("runs version 2.0.0, is ready and warm").count(), 4, "{story}");
    let order = [
        "every endpoint runs version 1.0.0 already",
        "the file says `version: 2.0.0`, no longer `version: 1.0.0`",
        "whoever runs the servers ends 127.0.0.1:",
        "and starts version 2.0.0 there",
        "promoted    every endpoint runs version 2.0.0",
        "never fewer than 3 of them got calls; min_ready is 3",
        "of v2's ",
    ];
    let places: Vec<_> = order.iter().map(|part| story.find(part)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}\n{story}");
}

#[test]
fn shadows_are_told_for_what_they_are_by_their_answers() {
    let output = run_to_end(&["demo", "--scenario", "shadow", "--json"], &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    let story = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}\n{story}");
    let said: Value = serde_json::from_str(&text).unwrap();
    let verdict = |name: &str| said["shadows"][name]["verdict"].as_str().unwrap().to_owned();
    assert_eq!(
        [verdict("twin"), verdict("jitters"), verdict("flips")],
        ["equivalent", "equivalent", "different"]
    );
    // It jitters as much as the served version does, and that is seen.
    let scores = &said["shadows"]["jitters"]["outputs"]["probabilities"];
    assert!(scores["disagreement"].as_f64() > Some(0.0) && scores["noise"].as_f64() > Some(0.0), "{text}");
    assert_eq!(said["shadows"]["flips"]["outputs"]["label"]["inferred"], true, "{text}");
    assert_eq!(said["failed"], 0, "{text}");
}

#[test]
fn of_two_rankers_the_one_that_people_click_on_is_promoted() {
    let (said, story) = scenario("interleave");
    assert_eq!((&said["verdict"], &said["action"]), (&"pass".into(), &"promoted".into()), "{story}");
    assert_eq!(said["winner"], "v2", "{said}\n{story}");
    let finding = &said["evidence"][0];
    assert!(finding["candidate"]["value"].as_f64() > finding["baseline"]["value"].as_f64(), "{finding}");
    assert!(finding["harm"]["high"].as_f64() < Some(0.0), "{finding}");
    assert_eq!(finding["candidate"]["n"], said["decided_after_calls"], "{finding}");
}

#[test]
fn every_eligible_call_of_the_demo_is_copied_or_counted() {
    let output = run_to_end(&["demo", "--calls", "600", "--rate", "0", "--json"], &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let said: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&said["calls"], &said["failed"]), (&600.into(), &0.into()), "{text}");
    let shadow = &said["shadow"];
    let count = |value: &Value| value.as_u64().unwrap();
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
    let said: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&said["calls"], &said["failed"]), (&300.into(), &0.into()), "{text}");
    let shadow = &said["shadow"];
    assert_eq!((&shadow["eligible"], &shadow["copied"]), (&300.into(), &0.into()), "{text}");
    let skipped = shadow["skipped"].as_object().unwrap();
    assert_eq!(skipped.values().filter_map(Value::as_u64).sum::<u64>(), 300, "{text}");
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
        "answers differ in ",
        "not copied: sampled_out ",
        "shadow span ",
        "in a trace of its own, ",
        "parhelion.role = shadow",
        "parhelion.primary.span_id = ",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}
