//! What the demo's split says while it runs and at its end. Pure.

use super::super::story::Story;
use super::super::tally::{Arm, Summary, Tally};

/// Characters of a full bar.
const BAR: usize = 16;

/// The split as bars, and where the run is.
pub(super) fn block(tally: &Tally, calls: Option<u64>, spans: Option<u64>) -> Vec<String> {
    let mut lines = vec![String::new()];
    lines.extend(tally.arms.iter().map(|(name, arm)| bar(name, arm, tally.answers())));
    lines.extend(tally.shadow.lines());
    let of = calls.map_or_else(String::new, |calls| format!(" of {calls}"));
    let spans = spans.map_or_else(String::new, |spans| format!(", {spans} spans at the collector"));
    lines.push(format!("  {}{of} calls, {} failed{spans}", tally.calls(), tally.failed));
    lines.push("  Ctrl-C ends it".to_owned());
    lines
}

fn bar(name: &str, arm: &Arm, all: u64) -> String {
    let share = share(arm.calls, all);
    let full = (share * BAR as f64).round() as usize;
    let bar = format!("{}{}", "█".repeat(full), "·".repeat(BAR.saturating_sub(full)));
    let facts = facts(arm, share);
    format!("  {name} {version}  {bar}  {facts}", version = arm.version)
}

/// Share, how many answers were right, latency.
fn facts(arm: &Arm, share: f64) -> String {
    let accuracy = arm.accuracy().map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0));
    let p50 = arm.latencies.quantile(0.5);
    let p50 = p50.map_or("-".to_owned(), |p50| format!("{:.2} ms", p50.as_secs_f64() * 1e3));
    format!("{:>5.1} %  {:>6} calls  {accuracy} right  p50 {p50}", share * 100.0, arm.calls)
}

fn share(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { part as f64 / all as f64 }
}

/// The state in one line.
pub(super) fn plain(tally: &Tally, spans: Option<u64>) -> String {
    let arms = tally
        .arms
        .iter()
        .map(|(name, arm)| format!("{name} {:.1} %", share(arm.calls, tally.answers()) * 100.0));
    let arms: Vec<String> = arms.collect();
    let spans = spans.map_or_else(String::new, |spans| format!(", {spans} spans at the collector"));
    let (arms, shadow) = (arms.join(", "), tally.shadow.brief());
    format!("{} calls: {arms}, {} failed, {shadow}{spans}", tally.calls(), tally.failed)
}

/// What is running, and where to look at it meanwhile.
pub(super) fn opening(model: &str, data: &str, health: &str, admin: &str) -> Vec<String> {
    vec![
        format!(
            "One sidecar, two versions of the model `{model}` behind it: 8 x 8 images of handwritten digits."
        ),
        "Version 1.0.0 learnt from 100 images, version 2.0.0 from 1197; each image now sent is new to both."
            .into(),
        "A third, 3.0.0-rc1, is their shadow: it gets copies of half the calls and answers nobody.".into(),
        String::new(),
        "While it runs, in another terminal:".into(),
        format!("  curl http://{health}/metrics     # what is counted, per variant"),
        format!("  curl http://{health}/readyz      # whether the variants are ready"),
        format!("  curl http://{admin}/config      # the configuration in force"),
        format!("The models as callers reach them: gRPC on {data}"),
        String::new(),
    ]
}

/// The story of one prediction under a heading.
pub(super) fn story(story: &Story) -> Vec<String> {
    let mut lines = vec![String::new(), "One prediction, from its id to its spans:".to_owned()];
    lines.extend(story.lines().into_iter().map(|line| format!("  {line}")));
    lines.push(String::new());
    lines
}

/// The result in words.
pub(super) fn closing(tally: &Tally, summary: &Summary) -> Vec<String> {
    let mut lines = vec![String::new(), format!("{} calls, {} failed", summary.calls, summary.failed)];
    if let Some(reason) = &tally.first_failure {
        lines.push(format!("  the first failure: {reason}"));
    }
    for (name, arm) in &tally.arms {
        let facts = facts(arm, share(arm.calls, tally.answers()));
        lines.push(format!("  {name} {version}  {facts}", version = arm.version));
    }
    lines.extend(tally.shadow.lines());
    lines.push(format!("spans: {} exported, {} dropped", summary.spans.exported, summary.spans.dropped));
    if let (Some(p50), Some(p99)) = (summary.added_latency_ms.p50, summary.added_latency_ms.p99) {
        lines.push(format!(
            "added by the sidecar, against direct calls in between: p50 {p50} ms, p99 {p99} ms"
        ));
    }
    lines
}

/// What a new user may try next; `program` is how this binary was started, `example` a further configuration.
pub(super) fn next(program: &str, example: Option<&str>) -> Vec<String> {
    let check = example.map(|path| (format!("check {path}"), "more that a split can do"));
    let tries = [
        ("demo --users 20", "20 users, each of whom keeps a variant"),
        ("demo --models-only > my.yaml &", "the models, and a configuration for them"),
        ("check my.yaml", "what is wrong with a configuration, all at once"),
        ("run -c my.yaml", "a sidecar of your own; change the weights while it runs"),
    ];
    let tries = tries.map(|(command, what)| (command.to_owned(), what)).into_iter().chain(check);
    let mut lines = vec![String::new(), "What to try next:".to_owned()];
    lines.extend(tries.map(|(command, what)| format!("  {program} {command:<32}# {what}")));
    lines
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::caller::Answer;
    use super::super::super::shadow::{Copies, Shadow};
    use super::super::super::tally::SpanCounts;
    use super::*;

    fn tally() -> Tally {
        let copies = Copies { eligible: 10, copied: 5, ..Copies::default() };
        let shadow = Shadow { name: "v3".into(), version: "3.0.0-rc1".into(), copies };
        let mut tally = Tally::new([("v1", "1.0.0"), ("v2", "2.0.0")], shadow);
        for number in 0..10 {
            let variant = if number < 7 { "v1" } else { "v2" };
            let direct = Some(Duration::from_micros(300));
            tally.add(Ok(Answer { variant: variant.into(), direct, ..Answer::example() }));
        }
        tally
    }

    #[test]
    fn bars_show_the_split() {
        let lines = block(&tally(), Some(20), Some(18));
        assert!(lines[1].starts_with("  v1 1.0.0  ███████████·····   70.0 %"), "{}", lines[1]);
        assert!(lines[2].contains("█████···········   30.0 %       3 calls"), "{}", lines[2]);
        assert!(lines[2].ends_with("100.0 % right  p50 0.40 ms"), "{}", lines[2]);
        let shadow = "  v3 3.0.0-rc1  shadow, answers nobody: 5 of 10 calls copied (50.0 %)";
        assert_eq!(lines[3], shadow);
        assert_eq!(lines[4], "  10 of 20 calls, 0 failed, 18 spans at the collector");
        assert!(
            block(&Tally::new([("v1", "1")], Shadow::default()), None, None)[1].ends_with("- right  p50 -")
        );
    }

    #[test]
    fn only_files_that_are_there_are_named() {
        assert!(!next("parhelion", None).join("\n").contains("more that a split"));
        let lines = next("target/release/parhelion", Some("some.yaml"));
        let last = "  target/release/parhelion check some.yaml                 # more that a split can do";
        assert_eq!(lines.last().unwrap(), last);
    }

    #[test]
    fn the_end_says_what_went_wrong() {
        let mut tally = tally();
        tally.add(Err("UNAVAILABLE: gone".into()));
        let text = closing(&tally, &tally.summary(SpanCounts { exported: 4, dropped: 2 })).join("\n");
        for part in [
            "11 calls, 1 failed",
            "first failure: UNAVAILABLE: gone",
            "4 exported, 2 dropped",
            "p50 0.1 ms",
            "5 of 10 calls copied",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }
}
