//! What the demo of a fleet says: how it begins, what each replica does, and how it ended. Pure.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::ending::{Ending, Left};
use super::{Course, NAMES};
use crate::demo::play::words::{clock, did, finding, percent};
use crate::demo::scenario::Scenario;
use crate::demo::server::manner::Asked;
use crate::rollout::{AuditRecord, Status};
use crate::verdict::State;

/// A moment of the story.
pub(super) struct Now<'a> {
    pub(super) course: &'a Course,
    pub(super) asked: Asked,
}

/// What is going to happen, and with which configuration.
pub(super) fn opening(configuration: &str, folder: &Path) -> Vec<String> {
    let scenario = Scenario::Fleet;
    let mut lines = vec![format!("{}: {}.", scenario.name(), scenario.story()), String::new()];
    let callers = [
        "Two versions of a model that reads handwritten digits serve on loopback: v1 is",
        "the baseline, v2 the candidate. Callers send real images through three sidecars,",
        "which meet in a redis-server of the demo's own. This is what the first is given:",
    ];
    lines.extend(callers.map(str::to_owned));
    lines.extend([String::new(), configuration.to_owned(), String::new()]);
    lines.push(format!("While the demo runs this and all else is in {}.", folder.display()));
    lines.extend(scenario.beforehand().iter().map(|line| (*line).to_owned()));
    lines.push(String::new());
    lines
}

/// Where to look at it meanwhile: the admin and the health port of each replica.
pub(super) fn meanwhile(program: &str, model: &str, ports: &[(SocketAddr, SocketAddr)]) -> Vec<String> {
    let mut lines = vec!["In another terminal, of any replica:".to_owned()];
    for (name, (admin, _)) in NAMES.iter().zip(ports) {
        lines.push(format!("  {program} ctl status {model} --admin {admin}   # {name}"));
    }
    lines.extend(ports.first().map(|(_, health)| format!("  curl -s http://{health}/metrics | grep fleet")));
    lines.push(String::new());
    lines
}

/// A decision, as that replica told it; `known`: by whom it was told already, and how long ago.
pub(super) fn event(
    elapsed: Duration,
    replica: &str,
    record: &AuditRecord,
    known: Option<(usize, Duration)>,
) -> Vec<String> {
    let change = &record.change;
    let what = change.action.name().replace('_', " ");
    if let Some((first, ago)) = known {
        let told = match (NAMES[first], ago.as_secs_f64()) {
            (_, ..0.005) => format!("{what} too"),
            (first, ago) => format!("{what}, {ago:.2} s after {first}"),
        };
        return did(elapsed, replica, &told);
    }
    let share = match change.to {
        State::Waiting => String::new(),
        _ => format!("v2 gets {}: ", percent(change.share, 0)),
    };
    let mut lines = did(elapsed, replica, &format!("{what}: {share}{}", change.why));
    lines.extend(change.findings.iter().map(|found| format!("{:4}{}", "", finding(found))));
    lines
}

pub(super) fn broken(elapsed: Duration) -> Vec<String> {
    did(elapsed, "trouble", "from now on v2's server answers every call with INTERNAL")
}

pub(super) fn mended(elapsed: Duration, replica: &str) -> Vec<String> {
    did(elapsed, "person", &format!("v2's server is mended; at {replica}: parhelion ctl resume"))
}

pub(super) fn killed(elapsed: Duration) -> Vec<String> {
    did(elapsed, "store", "killed, with all that it held")
}

pub(super) fn restarted(elapsed: Duration) -> Vec<String> {
    did(elapsed, "store", "started again, empty")
}

pub(super) fn agreed(elapsed: Duration, version: u64) -> Vec<String> {
    did(elapsed, "store", &format!("filled again by those who know: plan {version} at every replica"))
}

/// The moment as it is drawn on a terminal.
pub(super) fn block(now: &Now<'_>) -> Vec<String> {
    let Now { course, asked } = now;
    let mut lines = vec![String::new()];
    for (replica, name) in NAMES.iter().enumerate() {
        let tally = &course.tallies[replica];
        let at = course.seen.as_ref().map_or("–".to_owned(), |seen| at(&seen[replica]));
        let (calls, failed) = (tally.calls(), tally.failed);
        let candidate = tally.arms.get("v2").map_or(0, |arm| arm.calls);
        lines.push(format!("  {name}  {at}"));
        lines.push(format!("         {calls} calls, {candidate} answered by v2, {failed} failed"));
    }
    let (failures, of, instead) = (asked.failures, asked.calls, course.fallbacks());
    lines.push(format!(
        "  v2's server failed {failures} of {of} calls, and v1 answered {instead} in its place"
    ));
    lines.push(format!("{} Ctrl-C ends it", clock(course.began.elapsed())));
    lines
}

/// The moment in one line.
pub(super) fn line(now: &Now<'_>) -> String {
    let Now { course, asked } = now;
    let at = |(name, status): (&&str, &Status)| format!("{name} {}", brief(status));
    let all: Vec<String> = course.seen.iter().flat_map(|seen| NAMES.iter().zip(seen).map(at)).collect();
    let (clock, calls, failed) = (clock(course.began.elapsed()), course.calls(), course.failed());
    let (failures, of) = (asked.failures, asked.calls);
    format!(
        "{clock} {:<11} {}; {calls} calls, {failed} failed; v2's server failed {failures} of {of}",
        "",
        all.join(", ")
    )
}

/// `running, v2 gets 25 %`.
fn brief(status: &Status) -> String {
    let share = status.report.shares.get(1).copied().unwrap_or(0.0);
    let state = status.report.state.name().replace('_', " ");
    format!("{state} {}", percent(share, 0))
}

/// The same, with the plan that it serves and how it stands to the others.
fn at(status: &Status) -> String {
    let Some(fleet) = &status.fleet else { return brief(status) };
    let how = match (fleet.parted, fleet.leads) {
        (true, _) => ", parted from the others",
        (_, true) => ", decides",
        _ => "",
    };
    format!("{} to v2, plan {}{how}", brief(status), fleet.version)
}

/// How it ended.
pub(super) fn closing(course: &Course, ending: &Ending, asked: Asked) -> Vec<String> {
    let as_named = if ending.is_as_named() { ", as it should be" } else { "" };
    let mut lines = vec![String::new(), format!("fleet: all left v2 twice{as_named}.")];
    lines.extend(ending.one.differs.iter().map(|what| format!("  It went differently: {what}.")));
    let first = course.tallies.iter().find_map(|tally| tally.first_failure.as_ref());
    lines.extend(first.map(|reason| format!("  The first failure: {reason}")));
    let mut fact = |name: &str, text: String| lines.push(format!("  {name:<10} {text}"));
    fact("callers", format!("{} calls, {} failed", ending.one.calls, ending.one.caller_failures));
    let (failures, of, instead) = (asked.failures, asked.calls, course.fallbacks());
    fact("candidate", format!("failed {failures} of its {of} calls; v1 answered {instead} in its place"));
    fact("together", left(&ending.together));
    fact("alone", left(&ending.alone));
    let version = course.agreed.map_or(0, |(_, version)| version);
    let seconds = ending.agreed_seconds;
    fact("store", format!("{seconds:.2} s after it came back, empty, all had plan {version}, without v2"));
    lines.push("  evidence of the decision that was made together".to_owned());
    lines.extend(ending.one.evidence.iter().map(|found| format!("    {}", finding(found))));
    lines
}

/// How they left it once.
fn left(left: &Left) -> String {
    let Left { decisions, seconds, candidate_failures, calls_after, candidate_calls_after } = left;
    let s = if *decisions == 1 { "" } else { "s" };
    format!(
        "{decisions} decision{s}, {seconds:.2} s from the first failed call to the last replica; {candidate_failures} \
         failed; then {calls_after} calls, {candidate_calls_after} to v2"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::fleet::{example, record};

    #[test]
    fn a_record_is_told_once_as_a_whole_and_then_how_much_later() {
        let second = Duration::from_secs(2);
        let whole = event(second, "pod-b", &record(), None);
        assert_eq!(
            whole,
            ["   2.0 s  pod-b       rolled back: v2 gets 0 %: worse than its margin allows: errors"]
        );
        let later = event(second, "pod-a", &record(), Some((1, Duration::from_millis(40))));
        assert_eq!(later, ["   2.0 s  pod-a       rolled back, 0.04 s after pod-b"]);
        let too = event(second, "pod-a", &record(), Some((1, Duration::from_micros(300))));
        assert_eq!(too, ["   2.0 s  pod-a       rolled back too"]);
    }

    #[test]
    fn a_replica_says_how_it_stands_to_the_others() {
        let mut status = example(State::Running, 4);
        status.report.shares = vec![0.75, 0.25];
        assert_eq!(at(&status), "running 25 % to v2, plan 4");
        status.fleet.as_mut().unwrap().parted = true;
        assert_eq!(at(&status), "running 25 % to v2, plan 4, parted from the others");
    }

    #[test]
    fn every_replica_is_told_where_to_look_at_it() {
        let port = |port| ([127, 0, 0, 1], port).into();
        let said =
            meanwhile("parhelion", "digits", &[(port(1), port(2)), (port(3), port(4)), (port(5), port(6))]);
        assert_eq!(said[2], "  parhelion ctl status digits --admin 127.0.0.1:3   # pod-b");
        assert!(opening("models: {}", Path::new("/tmp/x")).join("\n").contains("\nmodels: {}\n"));
    }
}
