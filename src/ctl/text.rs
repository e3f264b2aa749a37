//! Figures and tables as people read them. Pure.

use std::time::{Duration, UNIX_EPOCH};

use super::paint::{Hue, Paint};
use crate::pb::v1::{Guard, Scale, State, Verdict};

/// The columns that everything fits.
pub(super) const WIDTH: usize = 80;

/// `5 %`, `0.125 %`: up to three decimals, of a part of one.
pub(super) fn share(part: f64) -> String {
    format!("{} %", decimals(part * 100.0, 3))
}

/// `2026-11-22T12:00:00Z`.
pub(super) fn time(unix_ms: i64) -> String {
    let millis = u64::try_from(unix_ms).unwrap_or(0);
    crate::admin::rfc3339(UNIX_EPOCH + Duration::from_millis(millis))
}

/// At most so many decimals, and none that are zero.
fn decimals(number: f64, most: usize) -> String {
    let text = format!("{number:.most$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// Three significant digits.
fn three(number: f64) -> String {
    let magnitude = if number == 0.0 { 0.0 } else { number.abs().log10().floor() };
    let places = (2.0 - magnitude).clamp(0.0, 9.0) as usize;
    decimals(number, places)
}

/// What was seen of a variant, in the guard's own unit.
pub(super) fn estimate(guard: &Guard, value: Option<f64>) -> String {
    let Some(value) = value else { return "–".to_owned() };
    match guard.scale() {
        Scale::Share => format!("{} %", three(value * 100.0)),
        Scale::Ratio if guard.name.starts_with("latency") => latency(value),
        Scale::Ratio | Scale::Mean | Scale::Unspecified => three(value),
    }
}

fn latency(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 1e-3 => format!("{} µs", three(seconds * 1e6)),
        seconds if seconds < 1.0 => format!("{} ms", three(seconds * 1e3)),
        seconds => format!("{} s", three(seconds)),
    }
}

/// A difference in a guard's scale, with its sign and without its unit.
pub(super) fn harm(guard: &Guard, value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "∞".to_owned() } else { "-∞".to_owned() };
    }
    let value = match guard.scale() {
        Scale::Share | Scale::Ratio => value * 100.0,
        Scale::Mean | Scale::Unspecified => value,
    };
    let whole = guard.scale() == Scale::Ratio && value.abs() >= 10.0;
    let text = if whole { format!("{value:.0}") } else { three(value) };
    if value > 0.0 && text != "0" { format!("+{text}") } else { text }
}

/// The same without a sign.
pub(super) fn plain(guard: &Guard, value: f64) -> String {
    harm(guard, value.abs()).trim_start_matches('+').to_owned()
}

/// The unit of [`harm`]: percentage points, percent of the baseline's, or the feedback's own.
pub(super) fn unit(guard: &Guard) -> &'static str {
    match guard.scale() {
        Scale::Share => " pp",
        Scale::Ratio => " %",
        Scale::Mean | Scale::Unspecified => "",
    }
}

/// The words of states, verdicts, scales and roles, as in every other place: `rolled_back` of `STATE_ROLLED_BACK`.
pub(super) fn word(name: &str, kind: &str) -> String {
    name.strip_prefix(kind).unwrap_or(name).trim_start_matches('_').to_ascii_lowercase()
}

pub(super) fn state(state: State) -> String {
    word(state.as_str_name(), "STATE")
}

pub(super) fn verdict(verdict: Verdict) -> String {
    word(verdict.as_str_name(), "VERDICT")
}

/// For people: `rolled back`.
pub(super) fn spaced(word: &str) -> String {
    word.replace('_', " ")
}

/// `text` in lines of [`WIDTH`], the first after `label`, the others below its text.
pub(super) fn wrapped(label: &str, text: &str) -> Vec<String> {
    within(WIDTH, label, text)
}

/// The same in lines of `width`; a word that is longer stands on a line of its own.
pub(super) fn within(width: usize, label: &str, text: &str) -> Vec<String> {
    let indent = label.chars().count();
    let mut lines = vec![label.to_owned()];
    let mut used = indent;
    for word in text.split_whitespace() {
        let long = word.chars().count();
        if used > indent && used + 1 + long > width {
            lines.push(" ".repeat(indent));
            used = indent;
        }
        if let Some(line) = lines.last_mut() {
            if used > indent {
                line.push(' ');
                used += 1;
            }
            line.push_str(word);
        }
        used += long;
    }
    lines
}

/// A cell: its text, its colour, and whether it stands at the right of its column.
pub(super) struct Cell {
    text: String,
    hue: Hue,
    right: bool,
}

impl Cell {
    pub(super) fn left(text: impl Into<String>) -> Self {
        Cell { text: text.into(), hue: Hue::Plain, right: false }
    }

    pub(super) fn right(text: impl Into<String>) -> Self {
        Cell { right: true, ..Cell::left(text) }
    }

    pub(super) fn hue(self, hue: Hue) -> Self {
        Cell { hue, ..self }
    }
}

/// Columns as wide as their widest cell, two spaces apart; the first row is the heading. Texts that are too long for
/// their column are cut where `most` says so, by column.
pub(super) fn table(rows: Vec<Vec<Cell>>, most: &[usize], paint: Paint) -> Vec<String> {
    let mut rows = rows;
    for row in &mut rows {
        for (cell, most) in row.iter_mut().zip(most) {
            cut(&mut cell.text, *most);
        }
    }
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let lengths = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.chars().count());
        lengths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |(index, row): (usize, &Vec<Cell>)| {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = " ".repeat(width - cell.text.chars().count());
            let text = paint.text(if index == 0 { Hue::Faint } else { cell.hue }, &cell.text);
            let space = if column == 0 { "" } else { "  " };
            line.push_str(&if cell.right {
                format!("{space}{gap}{text}")
            } else {
                format!("{space}{text}{gap}")
            });
        }
        line.trim_end().to_owned()
    };
    rows.iter().enumerate().map(line).collect()
}

/// Cuts a text, and says so.
pub(super) fn cut(text: &mut String, most: usize) {
    if text.chars().count() > most {
        *text = text.chars().take(most.saturating_sub(1)).chain(['…']).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_people_write_them() {
        assert_eq!(
            (share(0.05), share(0.00125), share(1.0)),
            ("5 %".into(), "0.125 %".into(), "100 %".into())
        );
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(
            (three(0.000_123_4), three(123_456.0), three(-0.0)),
            ("0.000123".into(), "123456".into(), "0".into())
        );
    }

    #[test]
    fn harm_has_its_scale() {
        let of =
            |name: &str, scale: Scale| Guard { name: name.into(), scale: scale.into(), ..Guard::default() };
        let (errors, latency, feedback) =
            (of("errors", Scale::Share), of("latency p99", Scale::Ratio), of("feedback ok", Scale::Mean));
        assert_eq!(harm(&errors, 0.0012), "+0.12");
        assert_eq!(harm(&latency, -0.1), "-10");
        assert_eq!(harm(&feedback, 0.0), "0");
        assert_eq!(harm(&feedback, f64::INFINITY), "∞");
        assert_eq!(estimate(&errors, Some(0.001)), "0.1 %");
        assert_eq!(estimate(&latency, Some(0.0123)), "12.3 ms");
        assert_eq!(estimate(&feedback, None), "–");
        assert_eq!(
            (state(State::RolledBack), verdict(Verdict::NotEnoughData)),
            ("rolled_back".into(), "not_enough_data".into())
        );
    }

    #[test]
    fn long_texts_hang_below_their_label() {
        let lines = wrapped("  waits   ", &"word ".repeat(30));
        assert!(lines.len() == 3 && lines.iter().all(|line| line.chars().count() <= WIDTH), "{lines:?}");
        assert!(
            lines[0].starts_with("  waits   word") && lines[1].starts_with("          word"),
            "{lines:?}"
        );
    }

    #[test]
    fn columns_line_up_with_and_without_colour() {
        let rows = || {
            vec![
                vec![Cell::left("NAME"), Cell::right("CALLS")],
                vec![Cell::left("a-very-long-name").hue(Hue::Good), Cell::right("1")],
            ]
        };
        assert_eq!(table(rows(), &[8, 80], Paint(false)), ["NAME      CALLS", "a-very-…      1"]);
        assert_eq!(table(rows(), &[8, 80], Paint(true))[1], "\x1b[32ma-very-…\x1b[0m      1");
    }
}
