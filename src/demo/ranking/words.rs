//! What the demo of two rankers says. Pure.

use std::net::SocketAddr;
use std::time::Duration;

use super::Seen;
use crate::demo::play::Ending;
use crate::rollout::{AuditRecord, Status};
use crate::verdict::{Finding, Interval};

/// Columns of the line that shows the preference.
const WIDTH: usize = 41;

pub(super) fn opening(configuration: &str, file: &str) -> Vec<String> {
    let mut lines: Vec<String> = [
        "interleave: two rankers answer every call together, and clicks say whose is better.",
        "",
        "Both rank films on loopback: v1 by how often they are watched, v2 also by what",
        "somebody likes. People ask through a sidecar, see one list made of both, look at it",
        "from the top and may click on one film. The sidecar is given this configuration:",
        "",
    ]
    .map(str::to_owned)
    .into();
    lines.push(configuration.to_owned());
    lines.extend([String::new(), format!("While the demo runs it stands in {file}."), String::new()]);
    lines
}

pub(super) fn meanwhile(program: &str, model: &str, admin: SocketAddr) -> Vec<String> {
    let ctl = |command: &str, what: &str| format!("  {program} ctl {command:<15} --admin {admin}   # {what}");
    vec![
        "In another terminal:".to_owned(),
        ctl(&format!("watch {model}"), "the same, live"),
        ctl(&format!("audit {model}"), "what was decided"),
        String::new(),
    ]
}

/// What the first visitor saw.
pub(super) fn first(titles: &[String]) -> Vec<String> {
    vec![format!("The first list: {}.", titles.join(", ")), String::new()]
}

pub(super) fn event(elapsed: Duration, record: &AuditRecord) -> Vec<String> {
    let change = &record.change;
    let what = change.action.name().replace('_', " ");
    let mut lines = vec![format!("{} {what:<11} {}", clock(elapsed), change.why)];
    lines.extend(change.findings.iter().map(|found| format!("    {}", finding(found))));
    lines
}

/// The moment as it is drawn on a terminal.
pub(super) fn block(seen: &Seen, status: Option<&Status>, elapsed: Duration) -> Vec<String> {
    let mut lines = vec![String::new(), format!("  {}", line(seen, status, elapsed))];
    for found in status.iter().flat_map(|status| &status.report.findings) {
        lines.push(format!("  {}", finding(found)));
        if let Some(harm) = &found.harm {
            lines.push(format!("  v1 {} v2", plot(harm)));
        }
    }
    lines.extend([String::new(), "  Ctrl-C ends it.".to_owned()]);
    lines
}

/// The moment as one line.
pub(super) fn line(seen: &Seen, status: Option<&Status>, elapsed: Duration) -> String {
    let state = status.map_or("–", |status| status.report.state.name());
    let Seen { visits, merged, clicks, failed } = seen;
    format!(
        "{} {state}: {visits} visits, {merged} saw both, {clicks} clicked, {failed} failed",
        clock(elapsed)
    )
}

pub(super) fn closing(seen: &Seen, ending: &Ending, elapsed: Duration) -> Vec<String> {
    let how = match (ending.is_as_named(), &ending.winner) {
        (true, Some(winner)) => format!("{winner} won after {:.1} s, as it should be", elapsed.as_secs_f64()),
        _ => format!("{} after {:.1} s", ending.action.name().replace('_', " "), elapsed.as_secs_f64()),
    };
    let mut lines = vec![String::new(), format!("interleave: {how}.")];
    let Seen { visits, merged, clicks, failed } = seen;
    lines.push(format!(
        "  people     {visits} visits, {merged} of them saw both, {clicks} clicked, {failed} failed"
    ));
    lines.push(format!("  decision   on {} decisive sessions", ending.decided_after_calls));
    lines.extend(ending.evidence.iter().map(|found| format!("  evidence   {}", finding(found))));
    lines.extend(ending.differs.iter().map(|what| format!("  NOT AS IT SHOULD BE: {what}")));
    lines
}

fn clock(elapsed: Duration) -> String {
    format!("{:6.1} s ", elapsed.as_secs_f64())
}

/// Whom sessions prefer, and within what.
fn finding(found: &Finding) -> String {
    let percent = |part: f64| format!("{:.1} %", part * 100.0);
    let part = |value: Option<f64>| value.map_or("–".to_owned(), percent);
    let surely = match &found.harm {
        Some(harm) => {
            let share = |harm: f64| percent((0.5 - 0.5 * harm).clamp(0.0, 1.0));
            format!("v2's share is surely {} to {}", share(harm.high), share(harm.low))
        }
        None => "nothing is known yet".to_owned(),
    };
    format!(
        "of {} decisive sessions v1 {}, v2 {}: {surely}: {}",
        found.candidate.n,
        part(found.baseline.value),
        part(found.candidate.value),
        found.verdict.name().replace('_', " "),
    )
}

/// The interval of v2's share of the decisive sessions, from 0 to 100 %, with one half in the middle.
fn plot(harm: &Interval) -> String {
    let column = |harm: f64| {
        let share = (0.5 - 0.5 * harm).clamp(0.0, 1.0);
        (share * (WIDTH - 1) as f64).round() as usize
    };
    let (low, middle, high) = (column(harm.high), column(harm.middle), column(harm.low));
    let cell = |at: usize| match at {
        _ if at == middle => '●',
        _ if at == low && low < middle => '├',
        _ if at == high && high > middle => '┤',
        _ if at == WIDTH / 2 => '┃',
        _ if (low..=high).contains(&at) => '─',
        _ => '·',
    };
    (0..WIDTH).map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_shows_where_the_share_is() {
        let line = plot(&Interval { low: -0.6, middle: -0.4, high: -0.2 });
        assert_eq!(line.chars().count(), WIDTH);
        let at = |sign: char| line.chars().position(|cell| cell == sign).unwrap();
        assert!(at('┃') < at('├') && at('├') < at('●') && at('●') < at('┤'), "{line}");
        let all = plot(&Interval { low: -1.0, middle: 0.0, high: 1.0 });
        assert!(all.starts_with('├') && all.ends_with('┤') && all.contains('●'), "{all}");
    }
}
