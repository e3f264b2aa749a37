//! A comparison of several variants for people: first whether the samples can be trusted, then by variant what it is
//! better or worse at, and what it must not be worse at. Pure.
//!
//! Differences are told as "better by": above zero the variant is better than the baseline, whichever way better is.

use super::paint::{Hue, Paint};
use super::text::{self, Cell, share, table};
use super::{learning, status};
use crate::config::units::write_count;
use crate::pb::v1::{Aim, Estimate, Guard, Interval, Role, Rollout, Verdict};

/// Whether several variants are compared.
pub(super) fn is_one(rollout: &Rollout) -> bool {
    rollout.guards.iter().any(|guard| !guard.variant.is_empty())
}

/// All that was found, with the colour of each line.
pub(super) fn lines(rollout: &Rollout, paint: Paint) -> Vec<(Hue, String)> {
    let baseline = rollout.arms.iter().find(|arm| arm.role() == Role::Baseline);
    let baseline = baseline.map_or("", |arm| &arm.variant);
    let mut lines = learning::lines(rollout, paint);
    lines.extend(samples(rollout, baseline, paint));
    let mut seen: Vec<&str> = Vec::new();
    for guard in &rollout.guards {
        if !seen.contains(&guard.variant.as_str()) {
            seen.push(&guard.variant);
            lines.extend(arm(rollout, &guard.variant, baseline, paint));
        }
    }
    lines
}

/// Whether units and reports came as they were meant.
fn samples(rollout: &Rollout, baseline: &str, paint: Paint) -> Vec<(Hue, String)> {
    let found: Vec<&Guard> = rollout.guards.iter().filter(|guard| guard.aim() == Aim::Validity).collect();
    if found.is_empty() {
        return Vec::new();
    }
    let heading = [Cell::left("SAMPLES"), Cell::left("OF"), Cell::right(baseline.to_uppercase())];
    let mut rows = vec![Vec::from(heading)];
    if let Some(first) = rows.first_mut() {
        first.extend([Cell::right("IT"), Cell::right("HAS"), Cell::right("MEANT"), Cell::left("VERDICT")]);
    }
    for guard in &found {
        let count =
            |estimate: &Option<Estimate>| write_count(estimate.as_ref().map_or(0, |estimate| estimate.n));
        let has = guard.candidate.as_ref().and_then(|estimate| estimate.value);
        let verdict = match guard.verdict() {
            Verdict::Inconclusive => "look at it".to_owned(),
            verdict => short(verdict),
        };
        rows.push(vec![
            Cell::left(&guard.name),
            Cell::left(&guard.variant).hue(Hue::Strong),
            Cell::right(count(&guard.baseline)),
            Cell::right(count(&guard.candidate)),
            Cell::right(has.map_or("–".to_owned(), share)),
            Cell::right(share(guard.margin)),
            Cell::left(verdict).hue(Hue::of_verdict(guard.verdict())),
        ]);
    }
    let hues = std::iter::once(Hue::Faint).chain(found.iter().map(|guard| Hue::of_verdict(guard.verdict())));
    let table = table(rows, &[18, 14, 11, 11, 9, 9, 11], paint);
    hues.zip(table).map(|(hue, line)| (hue, format!("  {line}"))).collect()
}

/// One variant beside the baseline.
fn arm(rollout: &Rollout, name: &str, baseline: &str, paint: Paint) -> Vec<(Hue, String)> {
    let of =
        |aim: Aim| rollout.guards.iter().filter(move |guard| guard.variant == name && guard.aim() == aim);
    let found: Vec<&Guard> = of(Aim::Success).chain(of(Aim::Guardrail)).collect();
    let mut rows = vec![vec![
        Cell::left(name.to_uppercase()),
        Cell::right(baseline.to_uppercase()),
        Cell::right("IT"),
        Cell::left("BETTER BY"),
        Cell::right("BOUND"),
        Cell::left("VERDICT"),
    ]];
    for guard in &found {
        let seen = |estimate: &Option<Estimate>| {
            text::estimate(guard, estimate.as_ref().and_then(|estimate| estimate.value))
        };
        // What is asked of a metric is a gain, of a guard that a loss has its bounds.
        let sign = if guard.aim() == Aim::Success { "±" } else { "-" };
        let bound = format!("{sign}{}{}", text::plain(guard, guard.margin), text::unit(guard));
        rows.push(vec![
            Cell::left(&guard.name),
            Cell::right(seen(&guard.baseline)),
            Cell::right(seen(&guard.candidate)),
            Cell::left(better(guard)).hue(hue(guard)),
            Cell::right(bound),
            Cell::left(said(guard)).hue(Hue::of_verdict(guard.verdict())),
        ]);
    }
    let hues = std::iter::once(Hue::Faint).chain(found.iter().map(|guard| Hue::of_verdict(guard.verdict())));
    let table = table(rows, &[18, 8, 8, 23, 8, 10], paint);
    let lines = hues.zip(table).map(|(hue, line)| (hue, format!("  {line}")));
    std::iter::once((Hue::Plain, String::new())).chain(lines).collect()
}

/// `+2.1 (+0.3 … +3.9) pp`: harm with its sign turned.
pub(super) fn better(guard: &Guard) -> String {
    let turned = guard.harm.map(|harm| Interval { low: -harm.high, middle: -harm.middle, high: -harm.low });
    status::harm(&Guard { harm: turned, ..guard.clone() })
}

/// By the side that the whole interval lies on.
fn hue(guard: &Guard) -> Hue {
    match &guard.harm {
        Some(harm) if harm.high < 0.0 => Hue::Good,
        Some(harm) if harm.low > 0.0 => Hue::Bad,
        _ => Hue::Plain,
    }
}

/// What is said of a metric is that it is better, of a guard that it holds.
fn said(guard: &Guard) -> String {
    match (guard.aim(), guard.verdict()) {
        (Aim::Success, Verdict::Pass) => "better".to_owned(),
        (Aim::Success, Verdict::Fail) => "worse".to_owned(),
        (_, verdict) => short(verdict),
    }
}

fn short(verdict: Verdict) -> String {
    match verdict {
        Verdict::NotEnoughData => "not enough".to_owned(),
        verdict => status::spoken(verdict),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::status::tests::sample;
    use crate::pb::v1::{Arm, Scale, State};

    /// Two variants beside a baseline: one is better, one is not known yet.
    fn compared() -> Rollout {
        let arm =
            |variant: &str, role: Role| Arm { variant: variant.into(), role: role.into(), ..Arm::default() };
        let estimate = |n, value| Some(Estimate { n, value: Some(value) });
        let metric = |variant: &str, verdict: Verdict, harm| Guard {
            name: "feedback approved".into(),
            aim: Aim::Success.into(),
            variant: variant.into(),
            verdict: verdict.into(),
            baseline: estimate(5_000, 0.1),
            candidate: estimate(5_000, 0.13),
            harm: Some(harm),
            margin: 0.002,
            scale: Scale::Mean.into(),
            ..Guard::default()
        };
        let ratio = Guard {
            name: "sample ratio".into(),
            aim: Aim::Validity.into(),
            variant: "v2".into(),
            verdict: Verdict::Pass.into(),
            baseline: estimate(4_980, 0.498),
            candidate: estimate(5_020, 0.502),
            margin: 0.5,
            scale: Scale::Share.into(),
            ..Guard::default()
        };
        let errors = Guard {
            name: "errors".into(),
            aim: Aim::Guardrail.into(),
            variant: "v2".into(),
            verdict: Verdict::Fail.into(),
            baseline: estimate(5_000, 0.001),
            candidate: estimate(5_000, 0.02),
            harm: Some(Interval { low: 0.012, middle: 0.019, high: 0.03 }),
            margin: 0.001,
            scale: Scale::Share.into(),
            ..Guard::default()
        };
        let (won, open) = (
            metric("v2", Verdict::Pass, Interval { low: -0.05, middle: -0.03, high: -0.01 }),
            metric("v3", Verdict::NotEnoughData, Interval { low: -0.02, middle: 0.001, high: 0.022 }),
        );
        Rollout {
            kind: "ab".into(),
            state: State::Running.into(),
            arms: vec![arm("v1", Role::Baseline), arm("v2", Role::Arm), arm("v3", Role::Arm)],
            guards: vec![ratio, won, errors, open],
            ..sample()
        }
    }

    #[test]
    fn a_comparison_at_a_glance() {
        let lines: Vec<String> = lines(&compared(), Paint(false)).into_iter().map(|(_, line)| line).collect();
        let shown = lines.join("\n");
        let has = |words: &[&str]| {
            let line = lines.iter().find(|line| line.trim_start().starts_with(words[0]));
            let line = line.unwrap_or_else(|| panic!("{words:?}\n{shown}"));
            assert!(words.iter().all(|word| line.contains(word)), "{words:?}\n{shown}");
        };
        has(&["sample ratio", "v2", "4,980", "5,020", "50.2 %", "50 %", "pass"]);
        has(&["feedback approved", "0.1", "0.13", "+0.03 (+0.01 … +0.05)", "±0.002", "better"]);
        has(&["errors", "0.1 %", "2 %", "-1.9 (-3 … -1.2) pp", "-0.1 pp", "fail"]);
        assert!(lines.iter().any(|line| line.trim_start().starts_with("V3")), "{shown}");
        assert!(lines.iter().all(|line| line.chars().count() <= text::WIDTH), "{shown}");
    }

    #[test]
    fn sign_and_colour_say_which_way_it_goes() {
        let hues: Vec<Hue> = compared().guards.iter().map(hue).collect();
        assert_eq!(hues, [Hue::Plain, Hue::Good, Hue::Bad, Hue::Plain]);
        assert!(is_one(&compared()) && !is_one(&sample()));
    }
}
