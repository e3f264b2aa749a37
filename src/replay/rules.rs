//! How answers are compared, as it is written on the command line: `label=class`, `scores=numeric,absolute=1e-3`. The
//! words are those of `shadows[].compare` in the file, and are checked by the same code.

use serde_json::{Map, Value, json};

use crate::config::Compare;
use crate::config::document::Document;

/// Variants of the model that these rules are checked in.
const VARIANTS: [&str; 2] = ["served", "candidate"];

/// The rules that the texts say.
///
/// # Errors
/// Everything that is wrong with them, for people.
pub(super) fn read(texts: &[String]) -> Result<Vec<Compare>, String> {
    let written: Vec<Value> = texts.iter().map(|text| rule(text)).collect::<Result<_, _>>()?;
    if written.is_empty() {
        return Ok(Vec::new());
    }
    let document = json!({
        "strategy": {"kind": "pinned", "variant": VARIANTS[0]},
        "shadows": [{"variant": VARIANTS[1], "compare": written}],
    });
    // JSON is YAML.
    let mut document =
        Document::of_text("--compare", &document.to_string()).map_err(|wrong| wrong.to_string())?;
    let model = document.model(&["strategy", "shadows"], &VARIANTS);
    document.finish().map_err(|wrong| wrong.to_string().replace("shadows[0].", ""))?;
    let judging = model.and_then(|model| model.shadows.first()?.judging.clone());
    Ok(judging.map(|judging| judging.compare).unwrap_or_default())
}

/// One of them as the file has it.
fn rule(text: &str) -> Result<Value, String> {
    let mut parts = text.split(',').map(|part| part.split_once('='));
    let refused = || {
        format!("--compare {text:?}: write OUTPUT=MEASURE, like label=class or scores=numeric,absolute=1e-3")
    };
    let (output, measure) = parts.next().flatten().ok_or_else(refused)?;
    let mut rule = Map::new();
    rule.insert("output".to_owned(), output.trim().into());
    rule.insert("as".to_owned(), measure.trim().into());
    for part in parts {
        let (key, value) = part.ok_or_else(refused)?;
        // What is neither a number nor true or false is a text.
        let value = value.trim();
        let value = serde_json::from_str(value)
            .ok()
            .filter(|found: &Value| !found.is_null())
            .unwrap_or_else(|| value.into());
        rule.insert(key.trim().to_owned(), value);
    }
    Ok(Value::Object(rule))
}

/// `more` over `known`: one rule for each output.
pub(super) fn over(known: &[Compare], more: Vec<Compare>) -> Vec<Compare> {
    let kept = known.iter().filter(|one| !more.iter().any(|other| other.output == one.output));
    kept.cloned().collect::<Vec<_>>().into_iter().chain(more).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Measure, Numeric};

    fn all(texts: &[&str]) -> Result<Vec<Compare>, String> {
        read(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn rules_are_those_of_the_file() {
        assert_eq!(all(&[]), Ok(Vec::new()));
        let found =
            all(&["label=class", "scores = numeric, absolute=1e-3,equal_nan=false", "rest=ignore"]).unwrap();
        assert_eq!(found.len(), 3);
        assert_eq!((&*found[0].output, found[0].measure), ("label", Measure::Class { top: 5 }));
        let near = Numeric { absolute: Some(1e-3), equal_nan: false, ..Numeric::default() };
        assert_eq!((&*found[1].output, found[1].measure), ("scores", Measure::Numeric(near)));
        let both = over(&found, all(&["label=exact"]).unwrap());
        assert_eq!(
            both.iter().map(|one| one.measure.name()).collect::<Vec<_>>(),
            ["numeric", "ignore", "exact"]
        );
    }

    #[test]
    fn what_is_wrong_is_said_as_the_file_says_it() {
        for (text, part) in [
            ("0.001", "write OUTPUT=MEASURE"),
            ("label", "write OUTPUT=MEASURE"),
            ("label=clas", "did you mean class?"),
            ("label=class,top", "write OUTPUT=MEASURE"),
            ("label=class,tolerance=1", "is no key of `as: class`"),
            ("label=class,depht=1", "depht"),
            ("=class", "is no name of an output"),
            ("s=numeric,absolute=near", "absolute"),
        ] {
            let said = all(&[text]).unwrap_err();
            assert!(said.contains(part), "{text}: {said}");
            assert!(!said.contains("shadows"), "{said}");
        }
        assert!(
            all(&["a=exact", "a=class"]).unwrap_err().contains("declared before"),
            "twice the same output"
        );
    }
}
