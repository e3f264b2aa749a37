//! What a scenario expects, beside what was measured. A share or a median has left its range when the whole of its
//! interval has, so that chance alone seldom breaks a scenario.

use serde::Serialize;

use super::file::{Part, Range, Scenario, ShareRange};
use super::print::number;
use super::tally::{Lengths, Mean, Share, Spread, Summary};

/// One thing that is expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Figure {
    /// Its name under `expect`.
    pub figure: &'static str,
    /// What it must be, in words.
    pub bound: String,
    /// What it was, with its 95 % interval, in words.
    pub measured: String,
    /// Whether it was what it must be.
    pub passed: bool,
}

/// All that `scenario` expects.
pub(super) fn figures(scenario: &Scenario, summary: &Summary) -> Vec<Figure> {
    let expect = &scenario.expect;
    let shares = [
        ("rolled_back", expect.rolled_back, Some(&summary.rolled_back)),
        ("promoted", expect.promoted, Some(&summary.promoted)),
        ("held", expect.held, Some(&summary.held)),
        ("decided", expect.decided, summary.decided.as_ref()),
        ("blocked", expect.blocked, summary.blocked.as_ref()),
        ("covered", expect.covered, summary.covered.as_ref()),
        ("preferred", expect.preferred, summary.preferred.as_ref()),
        ("right", expect.right, summary.right.as_ref()),
        ("naive", expect.naive, summary.naive.as_ref()),
    ];
    let shares = shares.into_iter().filter_map(|(name, range, share)| Some(range?.figure(name, share)));
    let verdict = verdict(summary);
    let failures = summary.until_rolled_back.as_ref().map(|lengths| &lengths.candidate_failures);
    let medians = [
        ("errors_median", expect.errors_median, failures),
        ("calls_median", expect.calls_median, verdict.map(|lengths| &lengths.candidate_calls)),
        ("units_median", expect.units_median, verdict.map(|lengths| &lengths.calls)),
        ("feedback_median", expect.feedback_median, verdict.and_then(|lengths| lengths.feedback.as_ref())),
    ];
    let medians = medians.into_iter().filter_map(|(name, range, spread)| Some(range?.figure(name, spread)));
    let seconds = summary.until_rolled_back.as_ref().map(|lengths| &lengths.seconds);
    let ends = [
        ("errors_p99", expect.errors_p99, failures),
        ("seconds_p99", expect.seconds_p99, seconds),
        ("told_p99", expect.told_p99, summary.until_told.as_ref()),
    ];
    let ends = ends.into_iter().filter_map(|(name, range, spread)| Some(range?.of_end(name, spread)));
    let regret = expect.regret.map(|range| range.of_mean("regret", summary.regret.as_ref()));
    shares
        .chain(medians)
        .chain(ends)
        .chain(regret)
        .chain(expect.announced.map(|within| announced(summary, within)))
        .collect()
}

/// The lengths of the end that most runs had.
fn verdict(summary: &Summary) -> Option<&Lengths> {
    let blocked = summary.blocked.map_or(0, |blocked| blocked.count);
    let ends = [
        (summary.rolled_back.count, &summary.until_rolled_back),
        (summary.promoted.count, &summary.until_promoted),
        (blocked, &summary.until_blocked),
    ];
    let most = ends.into_iter().rev().max_by_key(|(count, _)| *count)?;
    most.1.as_ref()
}

/// The median of calls until promotion, beside those that were announced.
fn announced(summary: &Summary, within: Part) -> Figure {
    let percent = 100.0 * within.0;
    let mut figure = Figure {
        figure: "announced",
        bound: format!("within ± {percent} % of what is announced"),
        measured: "nothing was announced, or nothing was promoted".to_owned(),
        passed: false,
    };
    if let (Some(announced), Some(lengths)) = (summary.announced, &summary.until_promoted) {
        let spread = &lengths.candidate_calls;
        let off = |calls: f64| calls / announced as f64 - 1.0;
        let (median, off_by) = (number(spread.median), 100.0 * off(spread.median));
        figure.bound = format!("{} ± {percent} %", number(announced as f64));
        figure.measured = format!("{median} ({off_by:+.0} %)");
        figure.passed = off(spread.low) <= within.0 && off(spread.high) >= -within.0;
    }
    figure
}

impl ShareRange {
    fn figure(&self, figure: &'static str, share: Option<&Share>) -> Figure {
        // A share as people wrote it: 0.58 is no 57.99999999999999 %.
        let percent = |part: Part| format!("{} %", (1e8 * part.0).round() / 1e6);
        let bound = bound(self.at_least.map(percent), self.at_most.map(percent));
        let Some(share) = share else {
            let measured = "not measured here".to_owned();
            return Figure { figure, bound, measured, passed: false };
        };
        let [middle, low, high] = [share.share, share.low, share.high].map(|part| 100.0 * part);
        let measured = format!("{middle:.2} % ({low:.2} to {high:.2})");
        let passed = self.at_least.is_none_or(|least| share.high >= least.0)
            && self.at_most.is_none_or(|most| share.low <= most.0);
        Figure { figure, bound, measured, passed }
    }
}

impl Range {
    fn figure(&self, figure: &'static str, spread: Option<&Spread>) -> Figure {
        let bound = bound(self.at_least.map(number), self.at_most.map(number));
        let Some(spread) = spread else {
            return Figure { figure, bound, measured: "nothing ended so".to_owned(), passed: false };
        };
        let [median, low, high] = [spread.median, spread.low, spread.high].map(number);
        let measured = format!("{median} ({low} to {high})");
        Figure { figure, bound, measured, passed: self.meets(spread.low, spread.high) }
    }

    /// Of all runs but one of a hundred.
    fn of_end(&self, figure: &'static str, spread: Option<&Spread>) -> Figure {
        let bound = bound(self.at_least.map(plain), self.at_most.map(plain));
        let Some(end) = spread.map(|spread| spread.p99) else {
            return Figure { figure, bound, measured: "nothing ended so".to_owned(), passed: false };
        };
        Figure { figure, bound, measured: plain(end), passed: self.meets(end, end) }
    }

    fn of_mean(&self, figure: &'static str, mean: Option<&Mean>) -> Figure {
        let bound = bound(self.at_least.map(fine), self.at_most.map(fine));
        let Some(Mean { mean, low, high }) = mean else {
            return Figure { figure, bound, measured: "not measured here".to_owned(), passed: false };
        };
        let measured = format!("{} ({} to {})", fine(*mean), fine(*low), fine(*high));
        Figure { figure, bound, measured, passed: self.meets(*low, *high) }
    }

    /// Whether some of that interval is within.
    fn meets(&self, low: f64, high: f64) -> bool {
        self.at_least.is_none_or(|least| high >= least) && self.at_most.is_none_or(|most| low <= most)
    }
}

/// With as many digits behind the point as it needs, at most three.
fn plain(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// With one digit behind the point.
fn fine(value: f64) -> String {
    format!("{value:.1}")
}

fn bound(least: Option<String>, most: Option<String>) -> String {
    let parts = [("at least", least), ("at most", most)];
    let parts = parts.into_iter().filter_map(|(word, bound)| Some(format!("{word} {}", bound?)));
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_out_of_its_range_when_its_whole_interval_is() {
        let share = Share::of(13, 1000);
        let range = ShareRange { at_least: None, at_most: Some(Part(0.005)) };
        let expected = Figure {
            figure: "held",
            bound: "at most 0.5 %".to_owned(),
            measured: "1.30 % (0.76 to 2.21)".to_owned(),
            passed: false,
        };
        assert_eq!(range.figure("held", Some(&share)), expected);
        let range = ShareRange { at_least: Some(Part(0.02)), at_most: Some(Part(0.58)) };
        let figure = range.figure("held", Some(&share));
        assert!(figure.passed && figure.bound == "at least 2 %, at most 58 %", "{figure:?}");
        assert!(!range.figure("naive", None).passed);
        let none = ShareRange { at_least: None, at_most: Some(Part(0.0)) };
        assert!(none.figure("rolled_back", Some(&Share::of(0, 1000))).passed);
        let range = Range { at_least: Some(8.1), at_most: Some(10.9) };
        let figure = range.of_mean("regret", Some(&Mean { mean: 11.4, low: 10.95, high: 11.85 }));
        assert_eq!((&*figure.measured, figure.passed), ("11.4 (10.9 to 11.8)", false));
        assert!(range.of_mean("regret", Some(&Mean { mean: 11.4, low: 10.8, high: 12.0 })).passed);
        assert!(!none.figure("rolled_back", Some(&Share::of(1, 1000))).passed);
    }
}
