//! What a bandit knows of its variants, for people: a line each, with a bar of its share. Pure.

use super::paint::{Hue, Paint};
use super::text::{Cell, share, table};
use crate::config::units::write_count;
use crate::pb::v1::{Learning, Learnt, Rollout, Worth};

/// Columns of a full bar.
const BAR: usize = 12;

/// What is known, with the colour of each line; nothing for other kinds.
pub(super) fn lines(rollout: &Rollout, paint: Paint) -> Vec<(Hue, String)> {
    let Some(learning) = &rollout.learning else { return Vec::new() };
    let given = |arm: &Learnt| {
        let known = rollout.arms.iter().find(|known| known.variant == arm.variant);
        if learning.apprentice { arm.wished } else { known.map_or(0.0, |known| known.share) }
    };
    let head = if learning.apprentice { "WOULD GIVE" } else { "GIVES" };
    let mut rows = vec![vec![
        Cell::left(learning.policy.to_uppercase()),
        Cell::left(head),
        Cell::right(""),
        Cell::right("BEST"),
        Cell::right("VALUES"),
        Cell::right(learning.reward.to_uppercase()),
    ]];
    let best = learning.arms.iter().map(|arm| arm.best).fold(0.0, f64::max);
    for arm in &learning.arms {
        let hue = if arm.best >= best && best > 0.0 { Hue::Good } else { Hue::Plain };
        let mean = arm.mean.map_or("–".to_owned(), |mean| sure(mean, arm.error));
        rows.push(vec![
            Cell::left(&arm.variant).hue(Hue::Strong),
            Cell::left(if arm.out { "taken out".to_owned() } else { bar(given(arm)) }),
            Cell::right(share(given(arm))),
            Cell::right(share((arm.best * 1e3).round() / 1e3)).hue(hue),
            Cell::right(write_count(arm.values)),
            Cell::right(mean),
        ]);
    }
    let table = table(rows, &[16, BAR, 9, 9, 11, 18], paint).into_iter();
    let hues = std::iter::once(Hue::Faint).chain(std::iter::repeat(Hue::Plain));
    let mut lines: Vec<(Hue, String)> =
        hues.zip(table).map(|(hue, line)| (hue, format!("  {line}"))).collect();
    lines.extend(sentences(learning).into_iter().map(|line| (Hue::Faint, format!("  {line}"))));
    lines
}

/// What could still be gained, and what an apprentice is worth.
fn sentences(learning: &Learning) -> Vec<String> {
    let mut said = Vec::new();
    if let Some(remaining) = learning.remaining {
        let part = share((remaining * 1e4).round() / 1e4);
        said.push(format!("with 95 % none is better than the best by more than {part} of it"));
    }
    if let (Some(own), Some(baseline)) = (&learning.own, &learning.baseline) {
        let told = |worth: &Worth| sure(worth.value, worth.error);
        said.push(format!(
            "{} a call by its choices, {} by the baseline, of {}",
            told(own),
            told(baseline),
            write_count(own.values)
        ));
    }
    said
}

fn bar(share: f64) -> String {
    let full = (share * BAR as f64).round().clamp(0.0, BAR as f64) as usize;
    format!("{}{}", "█".repeat(full), "·".repeat(BAR - full))
}

/// `0.134 ±0.010`: with three digits that count, and two standard errors.
fn sure(value: f64, error: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        size if size >= 0.1 || size == 0.0 => 3,
        _ => 4,
    };
    format!("{value:.digits$} ±{:.digits$}", 2.0 * error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::status::tests::sample;
    use crate::ctl::text::WIDTH;
    use crate::pb::v1::Arm;

    fn rollout(apprentice: bool) -> Rollout {
        let arm = |variant: &str, best, values, mean, out| Learnt {
            variant: variant.into(),
            values,
            counted: 10.0,
            mean: Some(mean),
            error: 0.005,
            best,
            wished: best,
            out,
        };
        let worth = |value| Some(Worth { value, error: 0.01, values: 12_000 });
        let given = |variant: &str, share| Arm { variant: variant.into(), share, ..Arm::default() };
        Rollout {
            arms: vec![given("v1", 0.25), given("v2", 0.75), given("v3", 0.0)],
            learning: Some(Learning {
                policy: "thompson".into(),
                reward: "approved".into(),
                apprentice,
                arms: vec![
                    arm("v1", 0.004, 1_204, 0.101, false),
                    arm("v2", 0.996, 40_100, 0.134, false),
                    arm("v3", 0.0, 90, 0.09, true),
                ],
                own: apprentice.then(|| worth(0.133)).flatten(),
                baseline: apprentice.then(|| worth(0.1)).flatten(),
                remaining: Some(0.0042),
            }),
            ..sample()
        }
    }

    #[test]
    fn a_bandit_at_a_glance() {
        let shown: Vec<String> =
            lines(&rollout(false), Paint(false)).into_iter().map(|(_, line)| line).collect();
        let text = shown.join("\n");
        let has = |words: &[&str]| {
            let line = shown.iter().find(|line| line.trim_start().starts_with(words[0]));
            let line = line.unwrap_or_else(|| panic!("{words:?}\n{text}"));
            assert!(words.iter().all(|word| line.contains(word)), "{words:?}\n{text}");
        };
        has(&["THOMPSON", "GIVES", "BEST", "VALUES", "APPROVED"]);
        has(&["v1", "███·········", "25 %", "0.4 %", "1,204", "0.101 ±0.010"]);
        has(&["v2", "█████████···", "75 %", "99.6 %", "40,100"]);
        has(&["v3", "taken out"]);
        has(&["with 95 %", "0.42 % of it"]);
        assert!(shown.iter().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(lines(&sample(), Paint(false)).is_empty());
    }

    #[test]
    fn an_apprentice_says_what_it_would_do_and_what_that_is_worth() {
        let shown: Vec<String> =
            lines(&rollout(true), Paint(false)).into_iter().map(|(_, line)| line).collect();
        let text = shown.join("\n");
        assert!(text.contains("WOULD GIVE") && text.contains("0.4 %"), "{text}");
        assert!(text.contains("0.133 ±0.020 a call by its choices, 0.100 ±0.020 by the baseline"), "{text}");
        assert!(shown.iter().all(|line| line.chars().count() <= WIDTH), "{text}");
    }
}
