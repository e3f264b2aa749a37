//! A summary for people: shares as bars, lengths as small histograms.

use std::fmt::Write;

use super::figure::Figure;
use super::tally::{Lengths, Mean, Share, Spread, Summary};
use crate::config::units::{write_count, write_duration};
use std::time::Duration;

const BAR: usize = 30;

/// The whole of it, without a final line end.
pub(super) fn text(name: &str, about: &str, summary: &Summary) -> String {
    let mut text = format!("{name}: {about}\n");
    let shares = [
        (if summary.decided.is_some() { "won" } else { "promoted" }, Some(summary.promoted)),
        ("rolled back", Some(summary.rolled_back)),
        ("held", Some(summary.held)),
        ("still open", Some(summary.open)),
        ("decided", summary.decided),
        ("blocked", summary.blocked),
        ("covered", summary.covered),
        ("preferred", summary.preferred),
        ("right", summary.right),
        ("naive z-test", summary.naive),
    ];
    for (what, share) in shares.iter().filter_map(|(what, share)| Some((what, share.as_ref()?))) {
        let _ = writeln!(text, "  {what:<13}{}", bar(share));
    }
    let lengths = [
        (if summary.decided.is_some() { "won" } else { "promoted" }, &summary.until_promoted),
        ("rolled back", &summary.until_rolled_back),
        ("blocked", &summary.until_blocked),
    ];
    for (what, lengths) in lengths.iter().filter_map(|(what, lengths)| Some((what, lengths.as_ref()?))) {
        let _ = write!(text, "{}", lines(what, lengths));
    }
    if let Some(told) = &summary.until_told {
        let (median, p99) = (seconds(told.median), seconds(told.p99));
        let _ = writeln!(text, "  decisions    served by all replicas within {median}, p99 {p99}");
    }
    if let Some(regret) = &summary.regret {
        let Mean { mean, low, high } = regret;
        let _ = writeln!(text, "  regret       {mean:>8.1}  ({low:.1} to {high:.1})");
    }
    let _ = match summary.announced {
        Some(calls) => {
            writeln!(text, "  announced: {} calls of the candidate until promoted", number(calls as f64))
        }
        None if summary.decided.is_some() => Ok(()),
        None => writeln!(text, "  announced: nothing, for a guard allows nothing or waits for feedback"),
    };
    for Figure { figure, bound, measured, .. } in summary.figures.iter().filter(|figure| !figure.passed) {
        let _ = writeln!(text, "  NOT as expected: {figure}: {measured} is not {bound}");
    }
    if summary.is_as_expected() {
        text.push_str("  as expected");
    }
    text.truncate(text.trim_end().len());
    text
}

/// What was expected of all scenarios, one line for each figure, without a final line end.
pub(super) fn table(rows: &[(String, Summary)]) -> String {
    let head = ["scenario", "runs", "figure", "bound", "measured", ""].map(str::to_owned);
    let mut cells = vec![head];
    for (name, summary) in rows {
        for figure in &summary.figures {
            let passed = if figure.passed { "passed" } else { "FAILED" };
            let runs = number(summary.runs as f64);
            let Figure { figure, bound, measured, .. } = figure;
            cells.push([name, &runs, *figure, bound, measured, passed].map(str::to_owned));
        }
    }
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    cells.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn bar(share: &Share) -> String {
    let full = (share.share * BAR as f64).round() as usize;
    let (low, high) = (100.0 * share.low, 100.0 * share.high);
    let bar = format!("{}{}", "█".repeat(full), "·".repeat(BAR - full.min(BAR)));
    format!("{:>6.2} %  {bar}  {low:.2} to {high:.2}", 100.0 * share.share)
}

/// How a length is written.
type Shown = fn(f64) -> String;

fn lines(what: &str, lengths: &Lengths) -> String {
    let rows: [(&str, Option<&Spread>, Shown); 5] = [
        ("time", Some(&lengths.seconds), seconds),
        ("calls, both arms", Some(&lengths.calls), number),
        ("calls, candidate", Some(&lengths.candidate_calls), number),
        ("failures, candidate", Some(&lengths.candidate_failures), number),
        ("feedback, both arms", lengths.feedback.as_ref(), number),
    ];
    let mut text = format!("  until {what:<20}{:>10}{:>24}{:>12}\n", "median", "95 % of it", "p99");
    for (name, spread, write) in rows.into_iter().filter_map(|row| Some((row.0, row.1?, row.2))) {
        let interval = format!("{} to {}", write(spread.low), write(spread.high));
        let (median, p99) = (write(spread.median), write(spread.p99));
        let _ = writeln!(text, "    {name:<24}{median:>10}{interval:>24}{p99:>12}  {}", plot(&spread.parts));
    }
    text
}

fn plot(parts: &[u64]) -> String {
    const HEIGHTS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = parts.iter().copied().max().unwrap_or(0).max(1);
    parts.iter().map(|part| HEIGHTS[(part * 8).div_ceil(most) as usize]).collect()
}

fn seconds(seconds: f64) -> String {
    match seconds {
        s if s >= 36_000.0 => format!("{:.1}h", s / 3600.0),
        s if s >= 600.0 => format!("{:.0}m", s / 60.0),
        s if s >= 10.0 => format!("{s:.0}s"),
        s => write_duration(Duration::from_millis((s * 1e3).round() as u64)),
    }
}

/// With commas between thousands.
pub(super) fn number(value: f64) -> String {
    write_count(value.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_easy_to_read() {
        assert_eq!([0.0, 999.0, 1000.0, 1_234_567.0].map(number), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.25, 59.6, 1800.0, 90_000.0].map(seconds), ["250ms", "60s", "30m", "25.0h"]);
        assert_eq!(plot(&[0, 1, 8, 4]), " ▁█▄");
    }
}
