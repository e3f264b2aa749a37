//! How answers are distributed, for people and for scripts. Pure.

use serde_json::{Value, json};

use super::json::text as known;
use super::paint::{Hue, Paint};
use super::shadow::drift_json;
use super::text::{self, Cell, table, wrapped};
use crate::config::units::{short_number, write_count};
use crate::pb::v1::{AnswerDrift, Drift, OutputDrift};

/// In one line: `proven of 1 of 3 outputs: label of v2 from the baseline`.
pub(super) fn brief(drift: &AnswerDrift) -> String {
    let found: Vec<String> = drift.outputs.iter().filter(|output| output.then.is_some()).map(name).collect();
    if !drift.reference_trouble.is_empty() {
        return format!("the reference cannot be used: {}", drift.reference_trouble);
    }
    match (found.len(), drift.outputs.len()) {
        (0, 0) => "nothing to compare yet".to_owned(),
        (0, all) => format!("proven of none of {all} outputs"),
        (some, all) => format!("proven of {some} of {all} outputs: {}", found.join(", ")),
    }
}

fn name(output: &OutputDrift) -> String {
    format!("{} of {} from the {}", output.output, output.variant, output.with)
}

/// All that is known.
pub(super) fn lines(drift: &AnswerDrift, paint: Paint) -> Vec<String> {
    let counts = drift.answers.iter().filter(|one| one.count > 0);
    let counts: Vec<String> =
        counts.map(|one| format!("{} {}", write_count(one.count), text::spaced(&one.kind))).collect();
    let counts = if counts.is_empty() { "no answer was looked at yet".to_owned() } else { counts.join(", ") };
    let mut lines = wrapped("  ", &format!("DRIFT of answers: {counts}"));
    if !drift.reference_trouble.is_empty() {
        let line = format!("the reference cannot be used: {}", drift.reference_trouble);
        lines.extend(wrapped("    ", &line));
    }
    if drift.outputs.is_empty() {
        return lines;
    }
    let mut rows = vec![vec![
        Cell::left("OUTPUT"),
        Cell::left("OF"),
        Cell::left("FROM"),
        Cell::right("VALUES"),
        Cell::right("INDEX"),
        Cell::right("LN E"),
        Cell::left("VERDICT"),
    ]];
    for output in &drift.outputs {
        let today = |value: fn(&Drift) -> String| output.today.as_ref().map_or("–".to_owned(), value);
        let verdict = match output.then {
            Some(_) => Cell::left("drifted").hue(Hue::Bad),
            None => Cell::left("not proven").hue(Hue::Good),
        };
        rows.push(vec![
            Cell::left(&output.output).hue(Hue::Strong),
            Cell::left(&output.variant),
            Cell::left(&output.with),
            Cell::right(today(|drift| write_count(drift.candidate))),
            Cell::right(today(|drift| short_number(drift.stability))),
            Cell::right(today(|drift| format!("{:.1}", drift.ln_e))),
            verdict,
        ]);
    }
    let rows = table(rows, &[18, 10, 9, 8, 8, 8, 10], paint);
    lines.extend(rows.into_iter().map(|line| format!("  {line}")));
    for output in &drift.outputs {
        let Some((since, then)) = output.since_unix_ms.zip(output.then.as_ref()) else { continue };
        let line = format!("{}: since {}, {}", name(output), text::time(since), figures(then).join(", "));
        lines.extend(wrapped("    ", &line));
    }
    lines
}

fn figures(drift: &Drift) -> Vec<String> {
    let mut figures = vec![format!("stability index {}", short_number(drift.stability))];
    figures.extend(drift.by_chance.map(|most| format!("by chance {} at most", short_number(most))));
    figures.push(format!("Jensen–Shannon {}", short_number(drift.jensen_shannon)));
    figures.extend(drift.kolmogorov_smirnov.map(|far| format!("Kolmogorov–Smirnov {}", short_number(far))));
    figures.extend(drift.wasserstein.map(|far| format!("Wasserstein {}", short_number(far))));
    figures
}

/// For scripts.
pub(super) fn json(drift: &AnswerDrift) -> Value {
    let answers = drift.answers.iter().map(|one| (one.kind.clone(), Value::from(one.count)));
    json!({
        "outputs": drift.outputs.iter().map(output_json).collect::<Value>(),
        "answers": Value::Object(answers.collect()),
        "reference_trouble": known(&drift.reference_trouble),
    })
}

fn output_json(output: &OutputDrift) -> Value {
    json!({
        "variant": output.variant,
        "output": output.output,
        "with": output.with,
        "drifted": output.then.is_some(),
        "today": output.today.as_ref().map(drift_json),
        "enough": output.enough,
        "since_unix_ms": output.since_unix_ms,
        "then": output.then.as_ref().map(drift_json),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::v1::KindCount;

    fn drift() -> AnswerDrift {
        let today = Drift { ln_e: 12.5, stability: 0.31, candidate: 1_200, ..Drift::default() };
        let label = OutputDrift {
            variant: "v2".into(),
            output: "label".into(),
            with: "baseline".into(),
            today: Some(today),
            enough: 6.7,
            since_unix_ms: Some(1_700_000_000_000),
            then: Some(Drift { by_chance: Some(0.02), wasserstein: Some(1.5), ..today }),
        };
        let quiet = OutputDrift {
            output: "amount".into(),
            with: "reference".into(),
            since_unix_ms: None,
            then: None,
            ..label.clone()
        };
        AnswerDrift {
            outputs: vec![label, quiet],
            answers: vec![
                KindCount { kind: "counted".into(), count: 1_700 },
                KindCount { kind: "no_room".into(), count: 3 },
            ],
            reference_trouble: String::new(),
        }
    }

    #[test]
    fn people_see_what_drifts_since_when_and_by_how_much() {
        let text = lines(&drift(), Paint(false)).join("\n");
        for part in [
            "1,700 counted, 3 no room",
            "drifted",
            "not proven",
            "0.31",
            "label of v2 from the baseline: since",
            "Wasserstein 1.5",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= text::WIDTH), "{text}");
        assert_eq!(brief(&drift()), "proven of 1 of 2 outputs: label of v2 from the baseline");
        let broken = AnswerDrift { reference_trouble: "/x: gone".into(), ..AnswerDrift::default() };
        assert!(lines(&broken, Paint(false)).join("\n").contains("cannot be used: /x: gone"));
    }

    #[test]
    fn scripts_see_words_and_numbers() {
        let value = json(&drift());
        assert_eq!(
            (&value["answers"]["counted"], &value["outputs"][0]["drifted"]),
            (&json!(1_700), &json!(true))
        );
        assert_eq!(value["outputs"][1]["then"], Value::Null);
    }
}
