//! An interval against its margin, as a line of text. Pure.
//!
//! The line reaches from twice the margin below zero to twice the margin above it and stays that wide, so that an
//! interval is seen to shrink as evidence comes in: `·····0··├──●──┼─┤···┃·······`, with zero, the margin, and the
//! interval with its middle. What lies outside is an arrow at the end.

use crate::pb::v1::Guard;

/// Columns at least, for zero and the margin to be told apart.
const LEAST: usize = 9;

/// The line, `width` columns wide; empty where nothing can be said yet.
pub(super) fn line(guard: &Guard, width: usize) -> String {
    let Some(harm) = &guard.harm else { return String::new() };
    let reach = reach(guard);
    let width = width.max(LEAST);
    let column = |value: f64| {
        let part = (value + reach) / (2.0 * reach);
        (part * (width - 1) as f64).round()
    };
    let last = (width - 1) as f64;
    let (low, middle, high) = (column(harm.low), column(harm.middle), column(harm.high));
    let mut cells = vec!['·'; width];
    for (index, cell) in cells.iter_mut().enumerate() {
        let at = index as f64;
        if at == column(0.0) {
            *cell = '0';
        }
        if at >= low && at <= high {
            *cell = if *cell == '0' { '┼' } else { '─' };
        }
        if at == low {
            *cell = '├';
        }
        if at == high {
            *cell = '┤';
        }
        if at == middle {
            *cell = '●';
        }
        if at == column(guard.margin) {
            *cell = '┃';
        }
    }
    if low < 0.0
        && let Some(first) = cells.first_mut()
    {
        *first = '◄';
    }
    if high > last
        && let Some(end) = cells.last_mut()
    {
        *end = '►';
    }
    cells.into_iter().collect()
}

/// How far the line reaches to either side of zero.
fn reach(guard: &Guard) -> f64 {
    if guard.margin > 0.0 {
        return 2.0 * guard.margin;
    }
    let ends = guard.harm.iter().flat_map(|harm| [harm.low.abs(), harm.high.abs()]);
    let most = ends.filter(|end| end.is_finite()).fold(0.0_f64, f64::max);
    if most > 0.0 { most } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::v1::Interval;

    fn guard(low: f64, middle: f64, high: f64, margin: f64) -> Guard {
        Guard { harm: Some(Interval { low, middle, high }), margin, ..Guard::default() }
    }

    #[test]
    fn an_interval_stands_between_zero_and_its_margin() {
        assert_eq!(line(&guard(0.2, 0.4, 0.6, 1.0), 21), "··········0├●┤·┃·····");
        assert_eq!(line(&guard(-0.4, 0.0, 0.4, 1.0), 21), "········├─●─┤··┃·····");
    }

    #[test]
    fn what_is_outside_is_an_arrow() {
        assert_eq!(line(&guard(-9.0, 0.0, f64::INFINITY, 1.0), 11), "◄────●──┃─►");
        assert_eq!(line(&guard(3.0, 4.0, 5.0, 1.0), 11), "·····0··┃·►");
        assert_eq!(line(&guard(-5.0, -4.0, -3.0, 1.0), 11), "◄····0··┃··");
    }

    #[test]
    fn without_a_margin_the_interval_sets_the_width() {
        assert_eq!(line(&guard(-1.0, 0.5, 2.0, 0.0), 9), "··├─┃●──┤");
        assert_eq!(line(&guard(0.0, 0.0, 0.0, 0.0), 9).chars().count(), 9);
        assert_eq!(line(&Guard::default(), 20), "");
    }
}
