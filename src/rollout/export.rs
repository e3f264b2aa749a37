//! A model's part of the file that says what is in force: after a promotion the plan in the file is over, and this is
//! what to write instead.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::Rollouts;
use crate::config::units::Percent;
use crate::config::{self, Ab, Model, Segment, Strategy};
use crate::strategy::{Out, Split};

impl Rollouts {
    /// The model's part of a file that says what is in force: YAML, to stand below `models:`, two spaces in. None: no
    /// such model.
    pub fn export(&self, model: &str) -> Option<String> {
        let live = self.find(model)?;
        let standing = live.standing();
        let inner = live.inner();
        let model = match (&inner.model.strategy, standing.split) {
            (Strategy::Ab(ab), Split::Without(out)) => without(&inner.model, ab, out),
            _ => Model::clone(&inner.model),
        };
        let mut value = config::effective_model(&model);
        if let (Split::Only(variant), Value::Object(map)) = (standing.split, &mut value) {
            let name = &*inner.model.variants.get(variant)?.name;
            let said = map.get_mut("strategy").and_then(Value::as_object_mut);
            match said.filter(|_| matches!(inner.model.strategy, Strategy::Pinned(_))) {
                Some(said) => {
                    said.insert("variant".to_owned(), name.into());
                }
                None => {
                    map.insert("strategy".to_owned(), json!({"kind": "pinned", "variant": name}));
                }
            }
            // Nobody is left that could fail and have another answer.
            map.remove("fallback");
            if !matches!(inner.model.strategy, Strategy::Pinned(_))
                && let Some(Value::Object(variants)) = map.get_mut("variants")
            {
                variants.retain(|known, _| known == name || is_shadow(&inner.model, known));
            }
        }
        let mut text = String::new();
        let whole = Map::from_iter([(inner.model.name.to_string(), value)]);
        block(&mut text, &Value::Object(whole), 1);
        Some(text)
    }
}

/// The same model without variants that were taken out: their shares are the baseline's.
fn without(model: &Model, ab: &Ab, out: Out) -> Model {
    let name = |variant: usize| model.variants.get(variant).map(|variant| Arc::clone(&variant.name));
    let kept: Vec<usize> = (0..model.variants.len()).filter(|variant| !out.has(*variant)).collect();
    let place = |variant: usize| kept.iter().position(|known| *known == variant);
    let fold = |weights: &[(usize, Percent)]| {
        let mut folded: Vec<(usize, Percent)> = Vec::new();
        for (variant, share) in weights {
            let owner = if out.has(*variant) { ab.baseline } else { *variant };
            let Some(owner) = place(owner) else { continue };
            let known = folded.iter_mut().find(|(known, _)| *known == owner);
            let sum = |known: Percent| Percent::from_thousandths(known.thousandths() + share.thousandths());
            match known {
                Some((_, known)) => *known = sum(*known).unwrap_or(*known),
                None => folded.push((owner, *share)),
            }
        }
        folded
    };
    let segments = ab.segments.iter().map(|one| Segment { weights: fold(&one.weights), ..one.clone() });
    let split = Ab {
        baseline: place(ab.baseline).unwrap_or(0),
        weights: fold(&ab.weights),
        segments: segments.collect(),
        ..ab.clone()
    };
    let gone: Vec<Arc<str>> =
        (0..model.variants.len()).filter(|variant| out.has(*variant)).filter_map(name).collect();
    let mut model = Model { strategy: Strategy::Ab(Arc::new(split)), ..model.clone() };
    model.variants.retain(|variant| !gone.contains(&variant.name));
    model
        .shadows
        .iter_mut()
        .for_each(|shadow| shadow.variant = place(shadow.variant).unwrap_or(shadow.variant));
    model
}

fn is_shadow(model: &Model, name: &str) -> bool {
    model.variant(name).is_some_and(|index| model.is_shadow(index))
}

/// Writes a map as YAML, `depth` times two spaces in. What is no map stands on one line, as JSON, which is YAML too.
fn block(text: &mut String, value: &Value, depth: usize) {
    let Value::Object(map) = value else { return };
    for (key, value) in map {
        text.push_str(&"  ".repeat(depth));
        text.push_str(&Value::from(&**key).to_string());
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                text.push_str(":\n");
                block(text, value, depth + 1);
            }
            _ => {
                text.push_str(": ");
                text.push_str(&value.to_string());
                text.push('\n');
            }
        }
    }
}
