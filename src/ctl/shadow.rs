//! What answers of a shadow prove, for people and for scripts. Pure.

use serde_json::{Value, json};

use super::json::text as known;
use super::paint::{Hue, Paint};
use super::text::{self, Cell, share, table, wrapped};
use crate::config::units::{short_number, write_count};
use crate::pb::v1::{Drift, Offender, Shadow, ShadowOutput, ShadowVerdict};

/// Offenders that are shown.
const SHOWN: usize = 3;
/// Evidence of a drift that is worth a line.
const DRIFTS: f64 = 4.6;

/// In one line: `v3 is different: label disagrees in 4 % of its rows`.
pub(super) fn brief(shadow: &Shadow) -> String {
    format!("{} is {}: {}", shadow.variant, spoken(shadow.verdict()), shadow.why)
}

/// All that is known.
pub(super) fn lines(shadow: &Shadow, paint: Paint) -> Vec<String> {
    titled("SHADOW", shadow, paint)
}

/// The same of a candidate of any kind.
pub(super) fn titled(kind: &str, shadow: &Shadow, paint: Paint) -> Vec<String> {
    let heading = format!(
        "{kind} {}: {} pairs, {} do not agree",
        shadow.variant,
        write_count(shadow.pairs),
        write_count(shadow.disagreeing)
    );
    let beside = match &*shadow.control {
        "" => String::new(),
        control => format!("; {} beside control {control}", write_count(shadow.triples)),
    };
    let mut lines = wrapped("  ", &format!("{heading}{beside}"));
    lines.extend(outputs(shadow, paint));
    for output in &shadow.outputs {
        lines.extend(details(output).into_iter().flat_map(|line| wrapped("    ", &line)));
    }
    for absent in &shadow.absent {
        let line =
            format!("declared, but in no answer: {} ({} pairs)", absent.name, write_count(absent.pairs));
        lines.extend(wrapped("    ", &line));
    }
    if shadow.cut > 0 {
        let line = format!("{} pairs have more outputs than are compared", write_count(shadow.cut));
        lines.extend(wrapped("    ", &line));
    }
    if let [served, served_most, own, own_most] = shadow.latency[..] {
        let millis = |seconds: f64| format!("{:.2} ms", seconds * 1e3);
        let line = format!(
            "latency: half within {}, served {}; 99 % within {}, served {}",
            millis(own),
            millis(served),
            millis(own_most),
            millis(served_most)
        );
        lines.extend(wrapped("    ", &line));
    }
    let worst =
        shadow.offenders.iter().take(SHOWN).map(|one| format!("worst: {} {}", one.prediction, one.how));
    lines.extend(worst.flat_map(|line| wrapped("    ", &line)));
    lines
}

fn outputs(shadow: &Shadow, paint: Paint) -> Vec<String> {
    let mut rows = vec![vec![
        Cell::left("OUTPUT"),
        Cell::left("AS"),
        Cell::right("DISAGREES"),
        Cell::right("CONTROL"),
        Cell::left("HOW"),
        Cell::left("VERDICT"),
    ]];
    for output in &shadow.outputs {
        let measure = match (&*output.measure, output.inferred) {
            ("", _) => "–".to_owned(),
            (measure, true) => format!("{measure} (inferred)"),
            (measure, false) => measure.to_owned(),
        };
        let how = output.kinds.iter().max_by_key(|kind| kind.count);
        let verdict = output.verdict();
        rows.push(vec![
            Cell::left(&output.name).hue(Hue::Strong),
            Cell::left(measure),
            Cell::right(if output.pairs == 0 { "–".to_owned() } else { share(output.disagreement) }),
            Cell::right(output.noise.map_or("–".to_owned(), share)),
            Cell::left(how.map_or("–".to_owned(), |kind| text::spaced(&kind.kind))),
            Cell::left(short(verdict)).hue(hue(verdict)),
        ]);
    }
    let rows = table(rows, &[16, 19, 9, 9, 12, 11], paint);
    rows.into_iter().map(|line| format!("  {line}")).collect()
}

/// What is worth a line beside the table.
fn details(output: &ShadowOutput) -> Vec<String> {
    let mut lines = Vec::new();
    if !output.kinds.is_empty() && !output.figures.is_empty() {
        let figures = output.figures.iter().map(|figure| match figure.name.starts_with("max") {
            true => format!("{} {}", figure.name, short_number(figure.max)),
            false => format!("{} {}", figure.name, short_number(figure.mean)),
        });
        lines.push(format!("{}: {}", output.name, figures.collect::<Vec<_>>().join(", ")));
    }
    if output.verdict() == ShadowVerdict::NotEnoughData
        && let Some(missing) = output.missing.filter(|missing| *missing > 0)
    {
        lines.push(format!("{}: about {} more are needed to be sure", output.name, write_count(missing)));
    }
    if let Some(drift) = output.drift.as_ref().filter(|drift| drift.ln_e >= DRIFTS) {
        lines.push(format!(
            "{}: distributed otherwise than served (stability index {}, Jensen–Shannon {})",
            output.name,
            short_number(drift.stability),
            short_number(drift.jensen_shannon)
        ));
    }
    lines
}

fn spoken(verdict: ShadowVerdict) -> String {
    match verdict {
        ShadowVerdict::NotEnoughData | ShadowVerdict::Unspecified => "not judged yet".to_owned(),
        verdict => word(verdict),
    }
}

fn short(verdict: ShadowVerdict) -> String {
    match verdict {
        ShadowVerdict::NotEnoughData => "not enough".to_owned(),
        verdict => word(verdict),
    }
}

fn hue(verdict: ShadowVerdict) -> Hue {
    match verdict {
        ShadowVerdict::Equivalent => Hue::Good,
        ShadowVerdict::Different => Hue::Bad,
        ShadowVerdict::NotEnoughData | ShadowVerdict::Unspecified => Hue::Look,
    }
}

/// `not_enough_data`.
fn word(verdict: ShadowVerdict) -> String {
    text::word(verdict.as_str_name(), "SHADOW_VERDICT")
}

/// For scripts.
pub(super) fn json(shadow: &Shadow) -> Value {
    json!({
        "variant": shadow.variant,
        "verdict": word(shadow.verdict()),
        "why": shadow.why,
        "since_unix_ms": shadow.since_unix_ms,
        "pairs": shadow.pairs,
        "disagreeing": shadow.disagreeing,
        "triples": shadow.triples,
        "control": known(&shadow.control),
        "bound": shadow.bound,
        "outputs": shadow.outputs.iter().map(output_json).collect::<Value>(),
        "absent": shadow.absent.iter().map(|one| json!({"name": one.name, "pairs": one.pairs})).collect::<Value>(),
        "offenders": shadow.offenders.iter().map(offender_json).collect::<Value>(),
        "cut": shadow.cut,
        "latency": shadow.latency,
    })
}

fn output_json(output: &ShadowOutput) -> Value {
    let kinds = output.kinds.iter().map(|kind| (kind.kind.clone(), Value::from(kind.count)));
    let figures = output.figures.iter();
    let figures =
        figures.map(|figure| (figure.name.clone(), json!({"mean": figure.mean, "max": figure.max})));
    json!({
        "name": output.name,
        "measure": known(&output.measure),
        "inferred": output.inferred,
        "verdict": word(output.verdict()),
        "pairs": output.pairs,
        "disagreement": output.disagreement,
        "noise": output.noise,
        "ln_e_different": output.ln_e_different,
        "different_at": output.different_at,
        "ln_e_equivalent": output.ln_e_equivalent,
        "equivalent_at": output.equivalent_at,
        "missing": output.missing,
        "kinds": Value::Object(kinds.collect()),
        "first_unix_ms": output.first_unix_ms,
        "last_unix_ms": output.last_unix_ms,
        "distance": output.distance,
        "figures": Value::Object(figures.collect()),
        "drift": output.drift.as_ref().map(drift_json),
    })
}

pub(super) fn drift_json(drift: &Drift) -> Value {
    json!({
        "ln_e": drift.ln_e,
        "stability": drift.stability,
        "by_chance": drift.by_chance,
        "jensen_shannon": drift.jensen_shannon,
        "kolmogorov_smirnov": drift.kolmogorov_smirnov,
        "wasserstein": drift.wasserstein,
        "base": drift.base,
        "candidate": drift.candidate,
    })
}

fn offender_json(offender: &Offender) -> Value {
    // Both answers are JSON already; what is none is told as it is.
    let answer = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    json!({
        "prediction": offender.prediction,
        "trace_id": offender.trace_id,
        "at_unix_ms": offender.at_unix_ms,
        "output": offender.output,
        "how": offender.how,
        "part": offender.part,
        "distance": offender.distance,
        "served": answer(&offender.served),
        "shadow": answer(&offender.shadow),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::v1::{AbsentOutput, Figure, KindCount};

    fn shadow() -> Shadow {
        let label = ShadowOutput {
            name: "label".into(),
            measure: "class".into(),
            inferred: true,
            verdict: ShadowVerdict::Different.into(),
            pairs: 500,
            disagreement: 0.042,
            noise: Some(0.02),
            kinds: vec![KindCount { kind: "values".into(), count: 21 }],
            figures: vec![Figure { name: "flips".into(), mean: 0.042, max: 1.0 }],
            drift: Some(Drift { ln_e: 9.0, stability: 0.2, ..Drift::default() }),
            ..ShadowOutput::default()
        };
        let offender = Offender {
            prediction: "0190-1".into(),
            how: "label: values, 1 of 1 rows".into(),
            served: r#"{"status":"OK"}"#.into(),
            ..Offender::default()
        };
        Shadow {
            variant: "v3".into(),
            verdict: ShadowVerdict::Different.into(),
            why: "label disagrees in 4.20 % of its rows".into(),
            pairs: 500,
            disagreeing: 21,
            triples: 50,
            control: "v1b".into(),
            outputs: vec![label],
            absent: vec![AbsentOutput { name: "scores".into(), pairs: 500 }],
            offenders: vec![offender],
            latency: vec![0.001, 0.002, 0.003, 0.004],
            ..Shadow::default()
        }
    }

    #[test]
    fn people_see_where_and_how_it_differs() {
        let text = lines(&shadow(), Paint(false)).join("\n");
        for part in [
            "500 pairs, 21 do not agree; 50 beside control v1b",
            "class (inferred)",
            "4.2 %",
            "2 %",
            "different",
            "declared, but in no answer: scores",
            "half within 3.00 ms, served 1.00 ms",
            "worst: 0190-1 label: values",
            "distributed otherwise",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= text::WIDTH), "{text}");
        assert_eq!(brief(&shadow()), "v3 is different: label disagrees in 4.20 % of its rows");
    }

    #[test]
    fn scripts_see_words_and_numbers() {
        let value = json(&shadow());
        assert_eq!(
            (&value["verdict"], &value["outputs"][0]["kinds"]["values"]),
            (&json!("different"), &json!(21))
        );
        assert_eq!(value["offenders"][0]["served"]["status"], "OK");
        assert_eq!(json(&Shadow::default())["control"], Value::Null);
    }
}
