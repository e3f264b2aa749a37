//! The schema and the page about the file, held against each other and against every file that loads.

use std::collections::BTreeMap;

use super::*;

/// The key under which a strategy has others in it.
const STAGES: &str = ".stages";

/// Follows `$ref`.
fn resolve<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    match schema.get("$ref").and_then(Value::as_str) {
        Some(name) => root.pointer(name.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

/// All keys of the schema with the text about each: `models.*.variants.*.version`, `segments[].match`.
fn keys(schema: &Value, root: &Value, path: &str, found: &mut BTreeMap<String, String>) {
    let schema = resolve(schema, root);
    for choice in schema.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
        keys(choice, root, path, found);
    }
    for (key, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = source::join(path, key);
        let text = inner.get("description").or_else(|| resolve(inner, root).get("description"));
        found.insert(path.clone(), text.map_or_else(String::new, |text| text.as_str().unwrap().to_owned()));
        keys(inner, root, &path, found);
    }
    if let Some(inner) = schema.get("additionalProperties").filter(|inner| inner.is_object()) {
        let path = format!("{path}.*");
        found.entry(path.clone()).or_default();
        keys(inner, root, &path, found);
    }
    // A stage is written as a strategy is.
    if let Some(inner) = schema.get("items").filter(|_| !path.ends_with(STAGES)) {
        keys(inner, root, &format!("{path}[]"), found);
    }
}

fn known() -> BTreeMap<String, String> {
    let schema = schema();
    let mut found = BTreeMap::new();
    keys(&schema, &schema, "", &mut found);
    found
}

/// The keys that a value uses, spelled as [`keys`] does; names are recognised by what the schema says of their map.
fn used(value: &Value, path: &str, known: &BTreeMap<String, String>, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let any = format!("{path}.*");
                let path = if known.contains_key(&any) { any } else { source::join(path, key) };
                found.push(path.clone());
                used(inner, &path, known, found);
            }
        }
        Value::Array(list) => {
            let path = match path.strip_suffix(STAGES) {
                Some(strategy) => strategy.to_owned(),
                None => format!("{path}[]"),
            };
            for inner in list {
                used(inner, &path, known, found);
            }
        }
        _ => {}
    }
}

#[test]
fn the_schema_knows_every_key_of_every_good_file() {
    let known = known();
    let mut seen = Vec::new();
    for (path, text) in good() {
        let name = path.display().to_string();
        let value = source::parse(&[source::File { name: name.clone(), text }]).unwrap().value;
        let mut found = Vec::new();
        used(&value, "", &known, &mut found);
        for key in &found {
            assert!(known.contains_key(key), "{name}: {key}");
        }
        seen.extend(found);
    }
    let never: Vec<&String> = known.keys().filter(|key| !seen.contains(key)).collect();
    assert!(never.is_empty(), "no good file uses {never:?}");
}

#[test]
fn the_schema_says_something_about_every_key_and_allows_no_null() {
    for (key, text) in known() {
        assert!(key.ends_with('*') || !text.is_empty(), "{key}");
    }
    let text = schema().to_string();
    assert!(!text.contains("null"), "{text}");
    let schema = schema();
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["properties"]["listen"]["type"], "string");
    let sample = &resolve(&schema["properties"]["telemetry"], &schema)["properties"]["sample"];
    assert!(sample["pattern"].as_str().unwrap().contains('%'));
}

/// The rows of the tables of `docs/config.md`: key, type, default, meaning.
fn rows() -> Vec<[String; 4]> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [key, kind, default, meaning] = cells[..] else { panic!("four cells: {line}") };
        [key.trim_matches('`'), kind, default.trim_matches('`'), meaning].map(str::to_owned)
    })
    .collect()
}

#[test]
fn the_page_has_every_key_of_the_schema_and_no_other() {
    let mut written: Vec<String> = rows().into_iter().map(|[key, ..]| key).collect();
    written.sort();
    let known: Vec<String> = known().into_keys().collect();
    assert_eq!(written, known);
    assert!(written.len() > 50, "{}", written.len());
}

#[test]
fn the_page_says_the_defaults_that_are_in_force() {
    let config =
        accept_text("models: {m: {variants: {v: {endpoint: \"http://127.0.0.1:8001\"}}}}").unwrap().config;
    let shown = effective(&config);
    let mut compared = 0;
    for [key, _, default, _] in rows() {
        let Some(value) = shown.pointer(&format!("/{}", key.replace('.', "/"))) else { continue };
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Object(_) => continue,
            other => other.to_string(),
        };
        if key != "default" {
            assert_eq!(default, value, "{key}");
            compared += 1;
        }
    }
    assert_eq!(compared, 24);
}

#[test]
fn what_the_pages_show_loads() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (page, least) in [
        ("docs/config.md", 2),
        ("docs/control.md", 1),
        ("docs/shadow.md", 1),
        ("docs/fallback.md", 1),
        ("docs/ab.md", 1),
        ("docs/log.md", 1),
        ("docs/interleave.md", 1),
    ] {
        let text = fs::read_to_string(root.join(page)).unwrap();
        let blocks: Vec<&str> = text
            .split("```yaml\n")
            .skip(1)
            .filter_map(|rest| rest.split("```").next())
            .filter(|block| !block.starts_with("    "))
            .collect();
        assert!(blocks.len() >= least, "{page}: {}", blocks.len());
        for block in blocks {
            accept_text(block).unwrap_or_else(|errors| panic!("{page}:\n{block}\n{errors}"));
        }
    }
}

#[test]
fn the_page_about_shadows_names_every_reason() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/shadow.md")).unwrap();
    let mut written: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|rest| rest.split('`').next())
        .collect();
    written.sort_unstable();
    let mut known: Vec<&str> = crate::shadow::record::Skip::ALL.iter().map(|skip| skip.name()).collect();
    known.sort_unstable();
    assert_eq!(written, known);
}
