//! What a scenario says: how it begins, what happens, what each guard finds, and how it ended. Pure.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::super::reporter::Reported;
use super::super::scenario::Scenario;
use super::super::server::manner::{Asked, SLOW, Trouble};
use super::super::tally::{Arm, Tally};
use super::{Arrived, Course, Ending, Moves};
use crate::rollout::{AuditRecord, Status};
use crate::strategy::rolling::Place::Serving;
use crate::verdict::{Aim, Finding, Interval, Scale, State, Verdict};

/// Characters of a full bar.
const BAR: usize = 20;
const CANDIDATE: &str = "v2";

/// A moment of the story.
pub(super) struct Now<'a> {
    pub(super) course: &'a Course,
    pub(super) status: &'a Status,
    pub(super) asked: Asked,
}

/// What is going to happen, and with which configuration.
pub(super) fn opening(scenario: Scenario, configuration: &str, file: &Path) -> Vec<String> {
    let mut lines = vec![format!("{}: {}.", scenario.name(), scenario.story()), String::new()];
    let callers: &[&str] = match scenario {
        Scenario::Rolling => &[
            "Four servers of a model that reads handwritten digits serve on loopback, all of",
            "version 1.0.0. Callers send real images through a sidecar, which is given this",
            "configuration:",
        ],
        _ if scenario.has_feedback() => &[
            "Two versions of a model that reads handwritten digits serve on loopback: v1 is",
            "the baseline, v2 the candidate. Callers send real images through a sidecar, and",
            "report whether each answer was right. The sidecar is given this configuration:",
        ],
        _ => &[
            "Two versions of a model that reads handwritten digits serve on loopback: v1 is",
            "the one in use, v2 the new one. Callers send real images through a sidecar,",
            "which is given this configuration:",
        ],
    };
    lines.extend(callers.iter().map(|line| (*line).to_owned()));
    lines.extend([String::new(), configuration.to_owned(), String::new()]);
    lines.push(format!("While the demo runs it stands in {}.", file.display()));
    lines.extend(scenario.beforehand().iter().map(|line| (*line).to_owned()));
    lines.push(String::new());
    lines
}

/// Where to look at it meanwhile.
pub(super) fn meanwhile(program: &str, model: &str, admin: SocketAddr, health: SocketAddr) -> Vec<String> {
    let ctl = |command: &str, what: &str| format!("  {program} ctl {command:<15} --admin {admin}   # {what}");
    vec![
        "In another terminal:".to_owned(),
        ctl(&format!("watch {model}"), "the same, live"),
        ctl(&format!("status {model}"), "how sure it is"),
        ctl(&format!("audit {model}"), "what was decided"),
        format!("  curl http://{health}/metrics"),
        String::new(),
    ]
}

/// One decision, and what it was made on.
pub(super) fn event(course: &Course, record: &AuditRecord) -> Vec<String> {
    let change = &record.change;
    let share = match change.to {
        State::Waiting => String::new(),
        // Who gets calls is told by the server's name.
        _ if course.scenario.min_ready().is_some() => String::new(),
        _ => format!("{CANDIDATE} gets {}: ", percent(change.share, 0)),
    };
    let what = change.action.name().replace('_', " ");
    let mut lines = vec![format!("{} {what:<11} {share}{}", clock(course.began.elapsed()), change.why)];
    lines.extend(change.findings.iter().map(|found| format!("{:4}{}", "", finding(found))));
    lines
}

/// What the demo does to the candidate.
pub(super) fn trouble(elapsed: Duration, trouble: Trouble) -> Vec<String> {
    let what = match trouble {
        Trouble::Fails => "answers every call with INTERNAL".to_owned(),
        Trouble::Slow => format!("takes {} ms longer for every call", SLOW.as_millis()),
    };
    did(elapsed, "trouble", &format!("from now on {CANDIDATE}'s server {what}"))
}

/// Something that happened, in a word and in a sentence.
pub(in crate::demo) fn did(elapsed: Duration, what: &str, sentence: &str) -> Vec<String> {
    vec![format!("{} {what:<11} {sentence}", clock(elapsed))]
}

/// The end, where calls go on.
pub(in crate::demo) fn staying(elapsed: Duration) -> Vec<String> {
    did(elapsed, "stay", "the story is over; calls go on until Ctrl-C")
}

/// What was found: of a guard how much worse the candidate is, by its interval, of what is allowed; of a metric how much
/// better; of samples whether they came as they were meant.
pub(in crate::demo) fn finding(finding: &Finding) -> String {
    let scale = finding.scale;
    let signed = |part: f64| match scale {
        _ if !part.is_finite() => "any".to_owned(),
        Scale::Share => format!("{:+.1}", part * 100.0),
        Scale::Ratio => format!("{:+.0}", part * 100.0),
        Scale::Mean => format!("{part:+.3}"),
    };
    let allowed = match scale {
        Scale::Share => percent(finding.margin, 1),
        Scale::Ratio => percent(finding.margin, 0),
        Scale::Mean => format!("{:.3}", finding.margin),
    };
    let unknown = || "nothing is known yet".to_owned();
    let told = match (finding.aim, finding.harm) {
        (Aim::Validity, _) => format!("{allowed} was meant"),
        (_, None) => unknown(),
        (Aim::Success, Some(Interval { low, high, .. })) => {
            format!("better by {} to {}, {allowed} is of interest", signed(-high), signed(-low))
        }
        (Aim::Guardrail, Some(harm)) => {
            format!("harm {} to {} of {allowed}", signed(harm.low), signed(harm.high))
        }
    };
    let verdict = match (finding.verdict, finding.missing) {
        (Verdict::NotEnoughData, 1..=1_000_000) => format!("{} to go", finding.missing),
        (Verdict::NotEnoughData, _) => "not yet".to_owned(),
        (verdict, _) => verdict.name().to_owned(),
    };
    let seen = |value: Option<f64>| match (value, scale) {
        (None, _) => "–".to_owned(),
        (Some(value), Scale::Share) => percent(value, 1),
        (Some(value), Scale::Ratio) => format!("{:.1} ms", value * 1e3),
        (Some(value), Scale::Mean) => format!("{value:.3}"),
    };
    let (baseline, candidate) = (seen(finding.baseline.value), seen(finding.candidate.value));
    if let (Some(rate), 0, Scale::Share) = (finding.harm, finding.baseline.n, scale) {
        let (low, high) = (percent(rate.low, 1), percent(rate.high, 1));
        return format!(
            "{:<14} {CANDIDATE} {candidate:>7}: surely {low} to {high}, {allowed} is allowed: {verdict}",
            finding.guard
        );
    }
    format!("{:<14} v1 {baseline:>7}, v2 {candidate:>7}: {told}: {verdict}", finding.guard)
}

/// The moment as it is drawn on a terminal.
pub(super) fn block(now: &Now<'_>) -> Vec<String> {
    let Now { course, status, asked } = now;
    let tally = &course.tally;
    let mut lines = vec![String::new(), format!("  {}{}", at(status), waits(status))];
    for (name, arm) in &tally.arms {
        lines.push(bar(name, arm, tally.answers()));
    }
    lines.push(format!("  callers made {} calls, and {} failed", tally.calls(), tally.failed));
    let (failures, calls) = (asked.failures, asked.calls);
    let server = if course.scenario.min_ready().is_some() { "servers" } else { "server" };
    let failed = format!("  {CANDIDATE}'s {server} failed {failures} of {calls} calls");
    if course.scenario.has_fallback() {
        lines.push(format!("{failed}, and v1 answered {} in its place", tally.fallbacks));
        lines.push(format!("  harm is how much worse {CANDIDATE} is, and of what is allowed:"));
    } else {
        lines.push(failed);
    }
    if course.scenario.users().is_some() {
        lines.push(format!("  {}", moves(&course.moves)));
    }
    lines.extend(status.report.findings.iter().map(|found| format!("  {}", finding(found))));
    lines.push(format!("{} Ctrl-C ends it", clock(course.began.elapsed())));
    lines
}

fn bar(name: &str, arm: &Arm, all: u64) -> String {
    let share = if all == 0 { 0.0 } else { arm.calls as f64 / all as f64 };
    let full = (share * BAR as f64).round() as usize;
    let bar = format!("{}{}", "█".repeat(full), "·".repeat(BAR.saturating_sub(full)));
    let right = arm.accuracy().map_or("–".to_owned(), |share| percent(share, 1));
    let version = &arm.version;
    format!(
        "  {name} {version}  {bar} {:>7}  answered {:>6}, {right} of them right",
        percent(share, 1),
        arm.calls
    )
}

/// The moment in one line.
pub(super) fn line(now: &Now<'_>) -> String {
    let Now { course, status, asked } = now;
    let clock = clock(course.began.elapsed());
    let (calls, failed) = (course.tally.calls(), course.tally.failed);
    let (at, failures, of) = (at(status), asked.failures, asked.calls);
    format!(
        "{clock} {:<11} {at}; {calls} calls, {failed} failed; {CANDIDATE}'s server failed {failures} of {of}",
        ""
    )
}

fn waits(status: &Status) -> String {
    let waits = &status.report.waits_for;
    if waits.is_empty() { String::new() } else { format!("; it waits for {waits}") }
}

/// Where the rollout stands.
fn at(status: &Status) -> String {
    let report = &status.report;
    if !status.endpoints.is_empty() {
        let (state, total) = (report.state.name().replace('_', " "), status.endpoints.len());
        let version = status.variants.first().and_then(|variant| variant.version.clone()).unwrap_or_default();
        let of = |runs: &Option<_>| status.endpoints.iter().filter(|one| one.runs == *runs).count();
        let serving = status.endpoints.iter().filter(|one| one.place == Serving && one.ready).count();
        let run = of(&Some(version.clone()));
        return format!("{state}: {run} of {total} servers run {version}, {serving} get calls");
    }
    let share = report.shares.get(1).copied().unwrap_or(0.0);
    let at = match (report.state, report.step) {
        (State::Running, Some((step, steps))) => format!("step {} of {steps}", step + 1),
        (state, _) => state.name().replace('_', " "),
    };
    let stage = report.stage.as_ref();
    let stage = stage.map(|stage| format!("stage {} of {}, {}: ", stage.index + 1, stage.of, stage.name));
    format!("{}{at}, {CANDIDATE} gets {}", stage.unwrap_or_default(), percent(share, 0))
}

/// Who went where.
fn moves(moves: &Moves) -> String {
    let (users, over, back) = (moves.users(), moves.over(), moves.back());
    format!("of {users} users {over} moved to {CANDIDATE}, and {back} moved back")
}

/// How it ended.
pub(super) fn closing(course: &Course, ending: &Ending, asked: Asked) -> Vec<String> {
    let Some(decided) = &course.decided else { return Vec::new() };
    let action = ending.action.name().replace('_', " ");
    let as_named = if ending.is_as_named() { ", as it should be" } else { "" };
    let took = decided.at.duration_since(course.began).as_secs_f64();
    let mut lines =
        vec![String::new(), format!("{}: {action} after {took:.1} s{as_named}.", ending.scenario)];
    lines.extend(ending.differs.iter().map(|what| format!("  It went differently: {what}.")));
    if let Some(reason) = &course.tally.first_failure {
        lines.push(format!("  The first failure: {reason}"));
    }
    let mut fact = |name: &str, text: String| lines.push(format!("  {name:<10} {text}"));
    fact("callers", callers(course, ending));
    fact("candidate", candidate(course, asked));
    if let Some((fewest, least)) = course.fewest.zip(course.scenario.min_ready()) {
        fact("servers", format!("never fewer than {fewest} of them got calls; min_ready is {least}"));
    }
    if course.scenario.users().is_some() {
        fact("users", moves(&course.moves));
    }
    let first = asked.first.map(|first| decided.at.saturating_duration_since(first).as_secs_f64());
    let since = first
        .map_or_else(String::new, |first| format!("{first:.2} s after the trouble met its first call, "));
    fact(
        "decision",
        format!("{since}on {} calls: {}", ending.decided_after_calls, decided.record.change.why),
    );
    fact("answers", right(&course.tally));
    if course.scenario.has_feedback() {
        let Reported { received, counted, .. } = &course.reported;
        fact("feedback", format!("{received} reports on whether an answer was right, {counted} counted"));
    }
    if let Some(Arrived { calls, failed, candidate }) = course.arrived {
        let (after, of) = (ending.calls.saturating_sub(calls), asked.calls.saturating_sub(candidate));
        let failed = ending.caller_failures.saturating_sub(failed);
        fact("since then", format!("{after} calls, {of} of them to {CANDIDATE}, {failed} failed"));
    }
    lines.push("  evidence".to_owned());
    lines.extend(ending.evidence.iter().map(|found| format!("    {}", finding(found))));
    lines
}

/// What callers saw.
fn callers(course: &Course, ending: &Ending) -> String {
    let (calls, failed) = (ending.calls, ending.caller_failures);
    match course.failed_before {
        Some(before) if !course.scenario.has_fallback() => format!(
            "{calls} calls, {failed} failed: {before} before the trouble, {} from it to the way back",
            failed.saturating_sub(before)
        ),
        _ => format!("{calls} calls, {failed} failed"),
    }
}

/// What the candidate's server did.
fn candidate(course: &Course, Asked { calls, failures, .. }: Asked) -> String {
    let warmed = match course.scenario {
        Scenario::Switch | Scenario::Rolling => ", those that warmed it included",
        _ => "",
    };
    match (failures, course.scenario.has_fallback()) {
        (0, _) => format!("failed none of its {calls} calls{warmed}"),
        (_, true) => {
            let fallbacks = course.tally.fallbacks;
            format!("failed {failures} of its {calls} calls; v1 answered {fallbacks} in its place")
        }
        (_, false) => format!("failed {failures} of its {calls} calls{warmed}; nobody stands in for it"),
    }
}

/// How many answers of each version were the true digit.
fn right(tally: &Tally) -> String {
    let arms = tally.arms.iter().filter_map(|(name, arm)| {
        Some(format!("{} of {name}'s {} right", percent(arm.accuracy()?, 1), arm.calls))
    });
    arms.collect::<Vec<_>>().join(", ")
}

/// What a new user may try next; `program` is how this binary was started.
pub(in crate::demo) fn next(program: &str, scenario: Scenario) -> Vec<String> {
    let other = scenario.next();
    let tries = [
        (format!("demo --scenario {}", other.name()), other.story()),
        (format!("demo --scenario {} --stay", scenario.name()), "this one, and time for `ctl` after its end"),
        ("demo --models-only > my.yaml &".to_owned(), "models for a rollout of your own"),
    ];
    let mut lines = vec![String::new(), "What to try next:".to_owned()];
    lines.extend(tries.map(|(command, what)| format!("  {program} {command:<38}# {what}")));
    lines
}

/// Seconds since the beginning.
pub(in crate::demo) fn clock(elapsed: Duration) -> String {
    format!("{:>6.1} s ", elapsed.as_secs_f64())
}

pub(in crate::demo) fn percent(part: f64, places: usize) -> String {
    format!("{:.places$} %", part * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::{Estimate, Interval};

    fn example() -> Finding {
        Finding {
            guard: "errors".into(),
            aim: crate::verdict::Aim::Guardrail,
            variant: std::sync::Arc::default(),
            verdict: Verdict::NotEnoughData,
            baseline: Estimate { n: 900, value: Some(0.001) },
            candidate: Estimate { n: 100, value: Some(0.02) },
            harm: Some(Interval { low: -0.004, middle: 0.019, high: f64::INFINITY }),
            margin: 0.02,
            scale: Scale::Share,
            ln_e: 1.0,
            threshold: 5.0,
            missing: 130,
        }
    }

    #[test]
    fn a_finding_says_interval_margin_and_what_is_missing() {
        let said = finding(&example());
        let expected = "errors         v1   0.1 %, v2   2.0 %: harm -0.4 to any of 2.0 %: 130 to go";
        assert_eq!(said, expected);
        let estimate = |value| Estimate { n: 9, value: Some(value) };
        let slow = Finding {
            guard: "latency p90".into(),
            aim: crate::verdict::Aim::Guardrail,
            variant: std::sync::Arc::default(),
            verdict: Verdict::Fail,
            baseline: estimate(0.0161),
            candidate: estimate(0.0681),
            harm: Some(Interval { low: 0.22, middle: 3.2, high: 3.88 }),
            margin: 1.0,
            scale: Scale::Ratio,
            ..example()
        };
        let expected = "latency p90    v1 16.1 ms, v2 68.1 ms: harm +22 to +388 of 100 %: fail";
        assert_eq!(finding(&slow), expected);
        let unknown = Finding { harm: None, baseline: Estimate::default(), ..slow.clone() };
        assert!(finding(&unknown).contains("v1       –, v2 68.1 ms: nothing is known yet"), "{unknown:?}");
        let right = Finding {
            guard: "feedback right".into(),
            verdict: Verdict::Pass,
            baseline: estimate(0.874),
            candidate: estimate(0.976),
            harm: Some(Interval { low: -0.142, middle: -0.1, high: -0.061 }),
            margin: 0.05,
            scale: Scale::Mean,
            ..example()
        };
        let expected = "feedback right v1   0.874, v2   0.976: harm -0.142 to -0.061 of 0.050: pass";
        assert_eq!(finding(&right), expected);
        let alone = Finding { baseline: Estimate::default(), ..example() };
        let alone = Finding { harm: Some(Interval { low: 0.021, middle: 0.03, high: 0.05 }), ..alone };
        let expected = "errors         v2   2.0 %: surely 2.1 % to 5.0 %, 2.0 % is allowed: 130 to go";
        assert_eq!(finding(&alone), expected);
        assert!([right, slow, example(), alone].iter().all(|found| finding(found).chars().count() <= 77));
    }

    #[test]
    fn every_scenario_says_its_configuration_and_where_to_look() {
        use clap::ValueEnum as _;
        for scenario in Scenario::value_variants().iter().copied() {
            let said = opening(scenario, "models: {}", Path::new("/tmp/x/demo.yaml")).join("\n");
            assert!(said.starts_with(scenario.name()) && said.contains("\nmodels: {}\n"), "{said}");
            assert!(said.contains("/tmp/x/demo.yaml"), "{said}");
            assert!(next("parhelion", scenario)[2].contains(scenario.next().name()));
        }
        let (admin, health) = (([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into());
        let said = meanwhile("parhelion", "digits", admin, health).join("\n");
        assert!(said.contains("parhelion ctl status digits   --admin 127.0.0.1:1"), "{said}");
    }
}
