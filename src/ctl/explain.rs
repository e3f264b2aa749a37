//! Why a call gets its variant, for people. Pure.

use super::paint::{Hue, Paint};
use super::text::{self, share, wrapped};
use crate::config::units::write_count;
use crate::pb::v1::{Explanation, Range};

/// Columns of the line that shows who owns which places.
const RULER: usize = 60;
/// All places.
const PLACES: u32 = 100_000;

pub(super) fn lines(explained: &Explanation, paint: Paint) -> Vec<String> {
    let mut lines = vec![title(explained, paint)];
    lines.extend(wrapped("  why     ", &explained.why));
    if explained.place.is_none() && explained.unit.is_empty() && !explained.keys.is_empty() {
        let keys = explained.keys.join(", ");
        lines.extend(wrapped("  unit    ", &format!("none: looked for in {keys}")));
    }
    if !explained.wished.is_empty() {
        lines.extend(wrapped("  wished  ", &format!("{}, were the bandit let loose", explained.wished)));
    }
    if !explained.unit.is_empty() {
        lines.extend(wrapped("  unit    ", &format!("{} as spans have it, a keyed hash", explained.unit)));
    }
    if let Some(place) = explained.place {
        let place = format!("{} of {}", write_count(place.into()), write_count(PLACES.into()));
        lines.extend(wrapped("  place   ", &place));
    }
    lines.extend(ruler(&explained.ranges, explained.place));
    for range in &explained.ranges {
        let (from, to) = (write_count(range.from.into()), write_count(range.to.saturating_sub(1).into()));
        lines.push(format!("            {from} – {to}  {}", range.variant));
    }
    let state = text::spaced(&text::state(explained.state()));
    let (revision, epoch) = (&explained.revision, explained.epoch);
    lines.extend(wrapped("  holds   ", &format!("while the rollout is {state}, revision {revision}, epoch {epoch}, and the same variants are ready")));
    if explained.place.is_some() {
        let hash = format!("(murmur3_x86_32(seed 0, {:?} + unit) × 100000) >> 32", explained.salt);
        lines.extend(wrapped("  replay  ", &hash));
    }
    lines
}

fn title(explained: &Explanation, paint: Paint) -> String {
    let (model, reason) = (&explained.model, text::spaced(&explained.reason));
    if explained.variant.is_empty() {
        return format!("{model}: any of them, by {reason}");
    }
    let (variant, likely) = (paint.text(Hue::Strong, &explained.variant), share(explained.propensity));
    format!("{model}: {variant}, by {reason}, with probability {likely}")
}

/// Who owns which part, by turns of two shades, and a mark at the place.
fn ruler(ranges: &[Range], place: Option<u32>) -> Vec<String> {
    if ranges.is_empty() {
        return Vec::new();
    }
    let column = |place: u32| (place as usize * RULER / PLACES as usize).min(RULER - 1);
    let owner = |index: usize| {
        // The middle of the column.
        let at = ((2 * index + 1) * PLACES as usize / (2 * RULER)) as u32;
        ranges.iter().position(|range| (range.from..range.to).contains(&at)).unwrap_or(0)
    };
    let shades = ['█', '░', '▓', '▒'];
    let bar: String = (0..RULER).map(|index| shades[owner(index) % shades.len()]).collect();
    let mut lines = vec![format!("          {bar}")];
    lines.extend(place.map(|place| format!("          {}▲", " ".repeat(column(place)))));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::v1::State;

    fn explanation() -> Explanation {
        let range = |variant: &str, from, to| Range { variant: variant.into(), from, to };
        Explanation {
            model: "fraud".into(),
            variant: "v2".into(),
            reason: "split".into(),
            why: "the unit's hash falls on a place that is v2's".into(),
            propensity: 0.05,
            keys: vec!["metadata:x-user-id".into()],
            place: Some(4_211),
            ranges: vec![range("v2", 0, 5_000), range("v1", 5_000, 100_000)],
            state: State::Running.into(),
            revision: "9f3a01c2".into(),
            epoch: 3,
            salt: "fraud/2.0.0".into(),
            unit: "00ff00ff00ff00ff".into(),
            segment: String::new(),
            wished: String::new(),
        }
    }

    #[test]
    fn it_says_which_why_and_where() {
        let text = lines(&explanation(), Paint(false)).join("\n");
        for want in [
            "fraud: v2, by split, with probability 5 %",
            "4,211 of 100,000",
            "0 – 4,999  v2",
            "5,000 – 99,999  v1",
            "epoch 3",
            "murmur3_x86_32(seed 0, \"fraud/2.0.0\" + unit)",
        ] {
            assert!(text.contains(want), "{want}:\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= text::WIDTH), "{text}");
        let ruler: Vec<&str> = text.lines().filter(|line| line.contains('█') || line.contains('▲')).collect();
        assert!(ruler[0].trim().starts_with("███░") && ruler[1].trim() == "▲", "{ruler:?}");
    }

    #[test]
    fn a_call_without_a_unit_says_where_one_was_looked_for() {
        let drawn = Explanation { place: None, unit: String::new(), ..explanation() };
        let text = lines(&drawn, Paint(false)).join("\n");
        assert!(
            text.contains("none: looked for in metadata:x-user-id") && !text.contains("replay"),
            "{text}"
        );
    }
}
