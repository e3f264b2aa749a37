//! The JSON Schema of the file, made from the same types that read it: an editor that knows it completes keys and
//! shows their meaning.
//!
//! The types let every key be absent and some entries be null, for their own bookkeeping; the file may not say null
//! anywhere, so the schema does not offer it.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::raw;

/// JSON Schema, draft 2020-12.
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<raw::File>().to_value();
    forbid_null(&mut schema);
    schema
}

fn forbid_null(schema: &mut Value) {
    match schema {
        Value::Array(schemas) => schemas.iter_mut().for_each(forbid_null),
        Value::Object(map) => {
            map.values_mut().for_each(forbid_null);
            if let Some(kinds) = map.get_mut("type")
                && let Some(list) = kinds.as_array_mut()
            {
                list.retain(|kind| kind != "null");
                if let [only] = list.as_slice() {
                    *kinds = only.clone();
                }
            }
            if let Some(choices) = map.get_mut("anyOf").and_then(Value::as_array_mut) {
                choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
                if let [Value::Object(only)] = choices.as_slice() {
                    let only = only.clone();
                    map.shift_remove("anyOf");
                    for (key, value) in only {
                        map.entry(key).or_insert(value);
                    }
                }
            }
        }
        _ => {}
    }
}
