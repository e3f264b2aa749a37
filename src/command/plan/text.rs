//! A plan for people, in 80 columns: a table with a bar for each line, whose length is the logarithm of the time.

use std::fmt::Write;
use std::time::Duration;

use super::Traffic;
use super::made::{Better, Plan, Preference, Stage, What};
use crate::config::Source;
use crate::config::units::{write_count, write_duration};
use crate::strategy::canary::plan::Leg;

const BAR: f64 = 22.0;

/// All plans, without a final line end.
pub(super) fn all(plans: &[Plan], traffic: &Traffic) -> String {
    let each = if traffic.units { "units a day" } else { "calls a second" };
    let number = if traffic.units { traffic.rate * 86_400.0 } else { traffic.rate };
    let mut text = String::new();
    for plan in plans {
        let _ = writeln!(text, "{}: {}, at {} {each}", plan.model, plan.kind, short(number));
        for stage in &plan.stages {
            if plan.stages.len() > 1 {
                let _ = writeln!(text, "  stage {}", stage.name);
            }
            one(&mut text, stage, traffic);
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text
}

fn one(text: &mut String, stage: &Stage, traffic: &Traffic) {
    match &stage.what {
        What::Nothing => text.push_str("  it finds nothing out, so there is nothing to wait for\n"),
        What::NoWorse { margins, legs, feedback, limit } => {
            let failing = 100.0 * traffic.failing;
            let _ = writeln!(
                text,
                "  calls of a sound candidate until a guard passes, {} % failing:",
                short(failing)
            );
            for (guard, calls) in margins {
                let calls = calls.map_or_else(|| "never: it allows nothing".to_owned(), write_count);
                let _ = writeln!(text, "    {guard:<20}{calls:>12}");
            }
            match legs {
                Some(legs) => steps(text, legs, *limit),
                None => text.push_str("  it can never be promoted by itself: a guard allows nothing\n"),
            }
            if !feedback.is_empty() {
                let _ = writeln!(
                    text,
                    "  and it waits for feedback, of which nothing is said here: {}",
                    feedback.join(", ")
                );
            }
        }
        What::Better { metrics, limit } => {
            for metric in metrics {
                better(text, metric, *limit, traffic);
            }
            if metrics.is_empty() {
                text.push_str("  no variant can win: it has no metrics, or no split outside of segments\n");
            }
        }
        What::Preferred { rows, limit } => preferred(text, rows, *limit),
    }
    if let Some(time) = stage.time().filter(|_| matches!(stage.what, What::NoWorse { .. })) {
        let _ = writeln!(text, "  ends after {}", spell(time));
    }
}

fn steps(text: &mut String, legs: &[Leg], limit: Duration) {
    let _ = writeln!(text, "    {:<12}{:>20}{:>12}", "share", "of the candidate", "time");
    let most = legs.iter().map(|leg| leg.time).max().unwrap_or_default();
    for leg in legs {
        let late = if leg.time > limit { "  longer than max_step_time" } else { "" };
        let (share, calls) = (leg.share.to_string(), write_count(leg.calls));
        let _ = writeln!(
            text,
            "    {share:<12}{calls:>20}{:>12}  {}{late}",
            spell(leg.time),
            bar(leg.time, most)
        );
    }
}

fn preferred(text: &mut String, rows: &[Preference], limit: Duration) {
    let _ = writeln!(text, "    {:<18}{:>20}{:>12}", "preferred by", "decisive sessions", "time");
    let most = rows.iter().filter_map(|row| row.time).max().unwrap_or_default();
    for Preference { part, sessions, time } in rows {
        let part = format!("{} %", short(100.0 * part));
        let sessions = sessions.map_or_else(|| "never".to_owned(), write_count);
        let spelt = time.map_or_else(|| "never".to_owned(), spell);
        let late = if time.is_none_or(|time| time > limit) { " too long" } else { "" };
        let bar = time.map(|time| bar(time, most)).unwrap_or_default();
        let line = format!("    {part:<18}{sessions:>20}{spelt:>12}  {bar}{late}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

fn better(text: &mut String, better: &Better, limit: Duration, traffic: &Traffic) {
    let _ =
        writeln!(text, "  {} of {}, where the baseline has {}", better.metric, better.variant, has(better));
    let each = if traffic.units { "units in all" } else { "calls in all" };
    let _ = writeln!(text, "    {:<14}{:>14}{each:>16}{:>10}", "difference", "values of it", "time");
    let most = better.rows.iter().filter_map(|row| row.time).max().unwrap_or_default();
    for row in &better.rows {
        let difference = shown(&better.source, row.difference);
        let count = |number: Option<u64>| number.map_or_else(|| "never".to_owned(), write_count);
        let time = row.time.map_or_else(|| "never".to_owned(), spell);
        let late = if row.time.is_none_or(|time| time > limit) { " too long" } else { "" };
        let bar = row.time.map(|time| bar(time, most)).unwrap_or_default();
        let (values, calls) = (count(row.values), count(row.calls));
        let line = format!("    {difference:<14}{values:>14}{calls:>16}{time:>10}  {bar}{late}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let _ = match better.smallest {
        Some(smallest) => writeln!(
            text,
            "    within its max_duration of {} it sees a difference of {}",
            write_duration(limit),
            shown(&better.source, smallest)
        ),
        None => writeln!(text, "    within its max_duration of {} it sees nothing", write_duration(limit)),
    };
}

/// What the baseline's values are like.
fn has(better: &Better) -> String {
    let assumed = if better.assumed { " (assumed)" } else { "" };
    let (mean, deviation) = (better.expected.mean, better.expected.deviation);
    match &better.source {
        Source::Latency => format!("a spread of e^±{}{assumed}", short(deviation)),
        source if is_share(source) => format!("{} %{assumed}", short(100.0 * mean)),
        _ => format!("{} ± {}{assumed}", short(mean), short(deviation)),
    }
}

fn is_share(source: &Source) -> bool {
    matches!(source, Source::Errors | Source::Rejections | Source::Feedback { binary: true, .. })
}

fn shown(source: &Source, difference: f64) -> String {
    match source {
        Source::Latency => format!("{} %", short(100.0 * difference)),
        source if is_share(source) => format!("{} points", short(100.0 * difference)),
        _ => short(difference),
    }
}

/// With as many digits as tell something.
fn short(number: f64) -> String {
    if number >= 1000.0 {
        return write_count(number.round() as u64);
    }
    let text = format!(
        "{number:.*}",
        if number.abs() >= 100.0 {
            0
        } else if number.abs() >= 1.0 {
            2
        } else {
            4
        }
    );
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn bar(time: Duration, most: Duration) -> String {
    let of = |time: Duration| time.as_secs_f64().ln_1p();
    let full = if of(most) > 0.0 { BAR * of(time) / of(most) } else { 0.0 };
    "█".repeat(full.round() as usize)
}

fn spell(time: Duration) -> String {
    match time.as_secs_f64() {
        s if s >= 1e3 * 365.0 * 86_400.0 => "> 1000y".to_owned(),
        s if s >= 2.0 * 365.0 * 86_400.0 => format!("{:.0}y", s / (365.0 * 86_400.0)),
        s if s >= 48.0 * 3600.0 => format!("{:.1}d", s / 86_400.0),
        s if s >= 7200.0 => format!("{:.1}h", s / 3600.0),
        s if s >= 120.0 => format!("{:.0}m", s / 60.0),
        s => format!("{s:.0}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_as_many_digits_as_tell_something() {
        assert_eq!(
            [0.02, 1.5, 10.0, 123.4, 20_000.0, 0.0013].map(short),
            ["0.02", "1.5", "10", "123", "20,000", "0.0013"]
        );
        let times = [30, 600, 10_000, 300_000, 100_000_000, 1 << 40];
        assert_eq!(
            times.map(|time| spell(Duration::from_secs(time))),
            ["30s", "10m", "2.8h", "3.5d", "3y", "> 1000y"]
        );
    }

    #[test]
    fn a_bar_is_as_long_as_the_logarithm() {
        let bar = |time: u64| bar(Duration::from_secs(time), Duration::from_secs(9_999)).chars().count();
        assert_eq!((bar(0), bar(99), bar(9_999)), (0, 11, 22));
    }
}
