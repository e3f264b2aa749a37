//! Of which answers the distribution is watched, in the words of the file.

use serde_json::{Map, Value, json};

use super::put;
use crate::config::{Compare, Drift};

pub(super) fn drift(drift: &Drift) -> Value {
    let output = |rule: &Compare| json!({"output": *rule.output, "as": rule.measure.name()});
    let mut map = Map::new();
    map.insert("sample".into(), drift.sample.to_string().into());
    map.insert("bytes".into(), drift.bytes.to_string().into());
    map.insert("outputs".into(), drift.outputs.iter().map(output).collect());
    put(&mut map, "reference", drift.reference.as_ref().map(|path| path.display().to_string()));
    map.insert("alpha".into(), super::share(drift.alpha).into());
    Value::Object(map)
}
