//! A reference as a file: the distributions of one variant's outputs, as JSON that people can read.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::evidence::References;

/// Of the file; later ones are not read by this program.
const VERSION: u32 = 1;
/// Larger than any reference of as many outputs as are kept.
const LARGEST: u64 = 16 << 20;

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Which version of the file it is.
    pub parhelion_reference: u32,
    /// Whose answers they were.
    pub model: Arc<str>,
    /// Of which variant.
    pub variant: Arc<str>,
    /// What it was: its digest, or its version and place.
    pub build: Arc<str>,
    /// When it was made, milliseconds since 1970.
    pub made_unix_ms: u64,
    /// By output.
    pub outputs: References,
}

impl File {
    /// Of what a variant answered until `now`, milliseconds since 1970.
    pub fn new(
        (model, variant, build): (&Arc<str>, &Arc<str>, &Arc<str>),
        outputs: References,
        now: u64,
    ) -> Self {
        let (model, variant, build) = (Arc::clone(model), Arc::clone(variant), Arc::clone(build));
        File { parhelion_reference: VERSION, model, variant, build, made_unix_ms: now, outputs }
    }

    /// As it stands in the file.
    pub fn text(&self) -> String {
        format!("{:#}\n", serde_json::to_value(self).unwrap_or_default())
    }
}

/// Reads a file.
///
/// # Errors
/// In words: what the system says, or what is wrong with it and how a right one is made.
pub fn read(path: &Path) -> Result<References, String> {
    let said = |why: String| format!("{}: {why}", path.display());
    let size = std::fs::metadata(path).map_err(|error| said(error.to_string()))?.len();
    if size > LARGEST {
        return Err(said(format!("{size} bytes are more than a reference has")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| said(error.to_string()))?;
    parse(&text).map_err(said)
}

fn parse(text: &str) -> Result<References, String> {
    const REMEDY: &str = "make one with `parhelion ctl reference`";
    let version = serde_json::from_str::<serde_json::Value>(text)
        .map_err(|error| format!("is no JSON ({error}); {REMEDY}"))?
        .get("parhelion_reference")
        .and_then(serde_json::Value::as_u64);
    match version {
        Some(version) if version > u64::from(VERSION) => {
            return Err(format!("is of version {version}, and this program reads {VERSION}"));
        }
        Some(_) => {}
        None => return Err(format!("is no reference; {REMEDY}")),
    }
    let file: File = serde_json::from_str(text).map_err(|error| format!("{error}; {REMEDY}"))?;
    if let Some((output, why)) =
        file.outputs.iter().find_map(|(output, reference)| Some((output, reference.problem()?)))
    {
        return Err(format!("output {output}: {why}; {REMEDY}"));
    }
    if file.outputs.is_empty() {
        return Err(format!("has no output; {REMEDY}"));
    }
    Ok(file.outputs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::drift::Reference;

    fn file() -> File {
        let label = Reference { labels: Some(vec!["cat".into()]), edges: None, counts: vec![900, 100] };
        let outputs = [("label".into(), label)].into_iter().collect();
        File::new((&"fraud".into(), &"v1".into(), &"1.4.0".into()), outputs, 1_700_000_000_000)
    }

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fraud.json");
        std::fs::write(&path, file().text()).unwrap();
        assert_eq!(read(&path).unwrap(), file().outputs);
    }

    #[test]
    fn what_is_none_is_named_with_what_would_be_right() {
        let text = file().text();
        for (broken, part) in [
            ("", "no JSON"),
            ("{}", "no reference"),
            (&*text.replace("\"parhelion_reference\": 1", "\"parhelion_reference\": 2"), "version 2"),
            (&*text.replace("100", "100, 5"), "output label: it has another number"),
            (&*text.replace("\"model\"", "\"modle\""), "modle"),
        ] {
            let why = parse(broken).unwrap_err();
            assert!(why.contains(part), "{why}");
        }
        assert!(read(Path::new("/nowhere/x.json")).unwrap_err().contains("/nowhere/x.json"));
    }
}
