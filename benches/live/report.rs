//! What the rounds of each row came to: a table for people, JSON for scripts. Of each figure the median and the worst.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Options;
use crate::change::{self, plain};
use crate::play::Round;
use crate::rows::{Row, UNDER_WAY};

/// All rounds of one row.
pub(crate) struct Played {
    pub(crate) row: Row,
    pub(crate) rounds: Vec<Round>,
}

/// A figure of several rounds, in milliseconds.
struct Figure {
    median: f64,
    worst: f64,
}

impl Figure {
    /// None where no round has it.
    fn of(values: impl Iterator<Item = Option<Duration>>) -> Option<Figure> {
        let mut all: Vec<f64> = values.flatten().map(|value| value.as_secs_f64() * 1e3).collect();
        all.sort_unstable_by(f64::total_cmp);
        Some(Figure { median: *all.get(all.len() / 2)?, worst: *all.last()? })
    }

    fn text(this: Option<&Figure>, most: Option<Duration>) -> String {
        let most = most.map(|most| format!(" (≤ {})", most.as_millis())).unwrap_or_default();
        this.map_or("–".to_owned(), |figure| format!("{:.0} / {:.0}{most}", figure.median, figure.worst))
    }
}

impl Played {
    pub(crate) fn holds(&self) -> bool {
        self.rounds.iter().all(Round::holds)
    }

    fn sum(&self, of: impl Fn(&Round) -> u64) -> u64 {
        self.rounds.iter().map(of).sum()
    }

    fn decided(&self) -> Option<Figure> {
        Figure::of(self.rounds.iter().map(|round| round.decided_after))
    }

    fn last(&self) -> Option<Figure> {
        Figure::of(self.rounds.iter().map(|round| round.last_after))
    }

    fn longest(&self) -> Option<Figure> {
        Figure::of(self.rounds.iter().map(|round| Some(round.seen.longest)))
    }

    /// The tightest that any round was allowed.
    fn longest_allowed(&self) -> Option<Duration> {
        self.rounds.iter().filter_map(Round::longest_allowed).min()
    }

    /// Calls of strangers, by what they are and how they ended.
    fn strange(&self) -> BTreeMap<&str, u64> {
        let mut all = BTreeMap::new();
        for (how, count) in self.rounds.iter().flat_map(|round| &round.seen.strange) {
            *all.entry(&**how).or_default() += count;
        }
        all
    }

    fn rolled_back(&self) -> (u64, u64) {
        (self.sum(|round| round.rolled_back.into()), self.sum(|round| round.rollouts.into()))
    }

    fn cells(&self) -> Vec<String> {
        let (back, all) = self.rolled_back();
        let failed = self.sum(|round| round.seen.failed());
        let rolls_back = self.row.rolls_back();
        let under_way = rolls_back.then_some(UNDER_WAY);
        let last = if rolls_back { self.last() } else { None };
        vec![
            self.row.title().to_owned(),
            thousands(self.sum(|round| round.seen.calls + round.seen.strangers())),
            if self.row.may_fail() {
                format!("{} (any)", thousands(failed))
            } else {
                format!("{failed} (0)")
            },
            Figure::text(self.decided().as_ref(), self.row.decides_within()),
            Figure::text(last.as_ref(), under_way),
            Figure::text(self.longest().as_ref(), self.longest_allowed()),
            format!("{back} of {all} ({})", if rolls_back { all } else { 0 }),
            if self.holds() { "held" } else { "**not held**" }.to_owned(),
        ]
    }

    fn json(&self) -> Value {
        let figure =
            |figure: Option<Figure>| figure.map(|one| json!({"median": one.median, "worst": one.worst}));
        let (back, all) = self.rolled_back();
        let millis = |most: Duration| most.as_secs_f64() * 1e3;
        json!({
            "row": self.row.name(),
            "rounds": self.rounds.len(),
            "calls": self.sum(|round| round.seen.calls),
            "strange_calls": self.strange(),
            "failed": self.sum(|round| round.seen.failed()),
            "fell_back": self.sum(|round| round.seen.fell_back),
            "candidate_calls": self.sum(|round| round.candidate_calls),
            "candidate_failures": self.sum(|round| round.candidate_failures),
            "decided_after_ms": figure(self.decided()),
            "last_call_after_decision_ms": figure(self.last()),
            "longest_wait_ms": figure(self.longest()),
            "rollouts": all,
            "rolled_back": back,
            "bounds": {
                "failed": (!self.row.may_fail()).then_some(0),
                "decided_after_ms": self.row.decides_within().map(millis),
                "last_call_after_decision_ms": self.row.rolls_back().then(|| millis(UNDER_WAY)),
                "longest_wait_ms": self.longest_allowed().map(millis),
                "rolled_back": if self.row.rolls_back() { all } else { 0 },
            },
            "broken": self.rounds.iter().flat_map(Round::broken).collect::<Vec<_>>(),
            "holds": self.holds(),
        })
    }
}

/// All rounds of a change that somebody asks for.
pub(crate) struct Changed {
    pub(crate) row: Row,
    pub(crate) rounds: Vec<change::Round>,
}

impl Changed {
    pub(crate) fn holds(&self) -> bool {
        self.rounds.iter().all(change::Round::holds)
    }

    fn json(&self) -> Value {
        json!({
            "row": self.row.name(),
            "rounds": self.rounds.iter().map(change::Round::json).collect::<Value>(),
            "holds": self.holds(),
        })
    }

    /// A line for each figure: median and worst, and its bound.
    fn table(&self) -> String {
        let words = self.rounds.first().map_or(&[][..], |round| &round.figures);
        let mut rows = vec![[self.row.title(), "median", "worst", "at most"].map(str::to_owned).to_vec()];
        for (place, first) in words.iter().enumerate() {
            let mut values: Vec<f64> = self.rounds.iter().map(|round| round.figures[place].value).collect();
            values.sort_unstable_by(f64::total_cmp);
            let most = first.most.map_or("–".to_owned(), plain);
            rows.push(vec![
                first.words.to_owned(),
                plain(values[values.len() / 2]),
                plain(values[values.len() - 1]),
                most,
            ]);
        }
        aligned(&rows)
    }
}

/// Everything, as one object.
pub(crate) fn json(played: &[Played], changed: &[Changed], options: &Options) -> Value {
    let rows = played.iter().map(Played::json).chain(changed.iter().map(Changed::json));
    json!({
        "rate": options.rate,
        "share_percent": options.share,
        "rows": rows.collect::<Value>(),
        "holds": played.iter().all(Played::holds) && changed.iter().all(Changed::holds),
    })
}

/// Everything, as Markdown whose columns line up. Milliseconds, median and worst; bounds in brackets.
pub(crate) fn tables(played: &[Played], changed: &[Changed]) -> String {
    let mut all = Vec::new();
    if !played.is_empty() {
        all.push(table(played));
    }
    all.extend(changed.iter().map(Changed::table));
    all.join("\n")
}

/// Troubles side by side.
fn table(played: &[Played]) -> String {
    let head = [
        "the candidate",
        "calls",
        "failed",
        "first failure → rolled back, ms",
        "last call after that, ms",
        "longest wait, ms",
        "rolled back",
        "",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(played.iter().map(Played::cells));
    aligned(&rows)
}

/// Rows of as many cells each, the first of them the head.
fn aligned(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let line = |row: &[String]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!(" {cell:<width$} |"));
        format!("|{}\n", cells.collect::<String>())
    };
    let rule = format!(
        "|{}\n",
        widths.iter().map(|width| format!("{}|", "-".repeat(width + 2))).collect::<String>()
    );
    let mut text = line(&rows[0]);
    text.push_str(&rule);
    rows[1..].iter().for_each(|row| text.push_str(&line(row)));
    text
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| str::from_utf8(group).ok()).collect();
    groups.join(",")
}
