//! The examples that people copy: each loads, without a warning, and does what its comments say.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parhelion::config::{self, Environment, Model, Strategy};

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let folders = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        folders.map(|folder| folder.join("config.yaml")).filter(|file| file.exists()).collect();
    files.sort();
    files
}

#[test]
fn every_example_loads() {
    let examples = examples();
    for file in &examples {
        match config::load(file, &Environment::default()) {
            Ok(loaded) => assert_eq!(loaded.warnings, [], "{}", file.display()),
            Err(errors) => panic!("{}:\n{errors}", file.display()),
        }
    }
    assert_eq!(examples.len(), 13, "an example more or less: {examples:?}");
}

#[test]
fn each_shows_what_it_is_named_after() {
    for file in examples() {
        let loaded = config::load(&file, &Environment::default()).unwrap();
        let secure = loaded.config.tls.listen.is_some();
        let shown = |model: &Arc<Model>| match model.shadows[..] {
            _ if secure => "tls",
            _ if model.drift.is_some() => "drift",
            _ if model.strategy.kind() == "staged" => "staged",
            [] if model.variants.len() > 1 && model.strategy.kind() == "pinned" => "switch",
            [] => Strategy::kind(&model.strategy),
            _ => "shadow",
        };
        let logs = loaded.config.log.is_some();
        let shared = loaded.config.fleet.is_some();
        let shown = |model: &Arc<Model>| match (logs, shared) {
            (true, _) => "log",
            (_, true) => "fleet",
            _ => shown(model),
        };
        let kinds: Vec<&str> = loaded.config.models.iter().map(shown).collect();
        assert_eq!(kinds, [file.parent().unwrap().file_name().unwrap().to_str().unwrap()]);
    }
}
