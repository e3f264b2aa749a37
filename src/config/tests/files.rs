//! Files and directories: how they are merged, followed and tried.

use std::os::unix::fs::symlink;
use std::time::{Instant, SystemTime};

use tempfile::TempDir;
use tokio::sync::watch::channel;

use super::*;
use crate::config::watch::{State, Status, watch};

const ONE: &str = "models: {m: {variants: {v1: {endpoint: \"http://127.0.0.1:8001\", version: 1.0.0}}}}\n";
const TWO: &str = "models: {m: {variants: {v1: {endpoint: \"http://127.0.0.1:8001\", version: 2.0.0}}}}\n";

fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn load_directory(files: &[(&str, &str)]) -> Result<Loaded, String> {
    let directory = directory(files);
    let place = format!("{}/", directory.path().display());
    load(directory.path(), &Environment::default()).map_err(|errors| errors.to_string().replace(&place, ""))
}

#[test]
fn a_directory_is_merged() {
    let other = "models: {n: {variants: {v1: {endpoint: \"http://127.0.0.1:8002\"}}}}\nservices: {a.B: n}";
    let files = [
        ("10-base.yaml", "default: m\nservices: {a.A: m}"),
        ("20-m.yml", ONE),
        ("30-n.yaml", other),
        (".hidden.yaml", "broken: ["),
        ("README.md", "broken: ["),
    ];
    let config = load_directory(&files).unwrap().config;
    let names: Vec<&str> = config.models.iter().map(|model| &*model.name).collect();
    assert_eq!(names, ["m", "n"]);
    assert_eq!(config.services.len(), 2);
}

#[test]
fn a_mounted_config_map_is_read_through_its_links() {
    let mount = directory(&[]);
    let path = mount.path();
    fs::create_dir(path.join("..2026")).unwrap();
    fs::write(path.join("..2026/config.yaml"), ONE).unwrap();
    symlink("..2026", path.join("..data")).unwrap();
    symlink("..data/config.yaml", path.join("config.yaml")).unwrap();
    let loaded = load(path, &Environment::default()).unwrap();
    assert_eq!(loaded.config.models.len(), 1);
}

#[test]
fn the_same_key_in_two_files_names_both() {
    let said = load_directory(&[
        ("a.yaml", ONE),
        ("b.yaml", TWO),
        ("c.yaml", "\ndrain: {}"),
        ("d.yaml", "drain: {}"),
    ]);
    let expected = "models.m  (b.yaml:1)
    is given twice, first at a.yaml:1
    → keep one of them
drain  (d.yaml:1)
    is given twice, first at c.yaml:2
    → keep one of them";
    let said = said.unwrap_err();
    let mut lines: Vec<&str> = said.lines().collect();
    let mut wanted: Vec<&str> = expected.lines().collect();
    lines.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(lines, wanted, "{said}");
}

#[test]
fn each_problem_names_its_file() {
    let said = load_directory(&[("a.yaml", ONE), ("b.yaml", "drain: {lag: 5}")]).unwrap_err();
    assert!(said.starts_with("drain.lag  (b.yaml:1)\n"), "{said}");
    let said = load_directory(&[("a.yaml", "x: ["), ("b.yaml", "")]).unwrap_err();
    assert!(said.contains("(a.yaml:") && said.contains("(b.yaml)"), "{said}");
}

#[test]
fn what_is_not_there_is_said() {
    let nowhere = load(Path::new("/nonexistent/config.yaml"), &Environment::default()).unwrap_err();
    assert!(
        nowhere.to_string().contains("/nonexistent/config.yaml: cannot be read: No such file"),
        "{nowhere}"
    );
    let said = load_directory(&[("notes.txt", ONE)]).unwrap_err();
    assert!(said.contains("holds no *.yaml and no *.yml"), "{said}");
    let large = "#".repeat((4 << 20) + 1);
    let said = load_directory(&[("a.yaml", &large)]).unwrap_err();
    assert!(said.contains("more than the 4194304 allowed"), "{said}");
}

#[test]
fn the_revision_is_of_the_text() {
    let revision = |files: &[(&str, &str)]| load_directory(files).unwrap().config.revision.clone();
    assert_eq!(revision(&[("a.yaml", ONE)]), revision(&[("b.yaml", ONE)]));
    assert_ne!(revision(&[("a.yaml", ONE)]), revision(&[("a.yaml", TWO)]));
}

#[test]
fn what_the_surroundings_refuse_is_said() {
    let key = format!("2026a {}\n", "5a".repeat(32));
    let place = directory(&[("file", &key), ("garbled", "# ours\nnothing\n")]);
    let at = |name: &str| place.path().join(name).display().to_string();
    let problems = |state: &str, keys: &str| {
        let loaded = accept_text(&format!("state: {state}\nkeys: {keys}\n{ONE}")).unwrap();
        let problems = check_environment(&loaded.config);
        problems.into_iter().map(|problem| (problem.path, problem.message)).collect::<Vec<_>>()
    };
    assert_eq!(problems(&at("new/deep"), &at("file")), []);
    assert!(!place.path().join("new").exists());
    let said = problems(&at("file/state"), &at("missing"));
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].1.starts_with("cannot be a directory"), "{said:?}");
    assert!(said[1].1.starts_with("cannot be read"), "{said:?}");
    let said = problems(&at("new"), &at("garbled"));
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].1.contains("/garbled:2: "), "{said:?}");
    let said = problems("/proc/self", &at(""));
    assert!(said[0].1.starts_with("cannot be written"), "{said:?}");
    assert_eq!(said[1].1, "is a directory");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2, "a probe was left behind");
}

/// A configuration that is followed, and what became of it.
struct Followed {
    state: Arc<State>,
    current: tokio::sync::watch::Receiver<Arc<Config>>,
}

impl Followed {
    async fn until(&self, what: &str, holds: impl Fn(&Status) -> bool) -> Status {
        let begin = Instant::now();
        loop {
            let status = self.state.status();
            if holds(&status) {
                return status;
            }
            assert!(begin.elapsed() < Duration::from_secs(10), "never {what}: {status:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn version(&self) -> String {
        self.current.borrow().models[0].variants[0].version.as_deref().unwrap().to_owned()
    }
}

/// Puts a text in place at once, so that no half of it can be seen.
fn put(path: &Path, text: &str) {
    let beside = path.with_extension("tmp");
    fs::write(&beside, text).unwrap();
    fs::rename(&beside, path).unwrap();
}

/// Runs `script` beside a watcher of `path`.
fn follow<F: Future<Output = ()>>(path: &Path, script: impl FnOnce(Followed) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let loaded = load(path, &Environment::default()).unwrap();
        let state = Arc::new(State::new(&loaded, SystemTime::now()));
        let (publish, current) = channel(Arc::clone(&loaded.config));
        let followed = Followed { state: Arc::clone(&state), current };
        let watcher = watch(path.to_owned(), Environment::default(), loaded.config, publish, state);
        let script = async {
            // The watcher must be there before the first change.
            tokio::time::sleep(Duration::from_millis(50)).await;
            script(followed).await;
        };
        // The script drops its receiver at the end, which ends the watcher.
        tokio::join!(watcher, script);
    });
}

#[test]
fn a_change_is_applied_within_two_seconds() {
    let place = directory(&[("config.yaml", ONE)]);
    let path = place.path().join("config.yaml");
    follow(&path, async |followed| {
        let begin = Instant::now();
        fs::write(&path, TWO).unwrap();
        followed.until("applied", |status| status.applied == 1).await;
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
        assert_eq!(followed.version(), "2.0.0");
        assert_eq!(followed.state.status().revision, followed.current.borrow().revision);
    });
}

#[test]
fn a_file_that_is_replaced_is_followed() {
    let place = directory(&[("config.yaml", ONE)]);
    let path = place.path().join("config.yaml");
    follow(&path, async |followed| {
        for (count, text) in [(1, TWO), (2, ONE), (3, TWO)] {
            put(&path, text);
            followed.until("applied", |status| status.applied == count).await;
        }
        assert_eq!(followed.version(), "2.0.0");
    });
}

#[test]
fn a_config_map_swap_is_followed() {
    let mount = directory(&[]);
    let root = mount.path();
    for (name, text) in [("..1", ONE), ("..2", TWO)] {
        fs::create_dir(root.join(name)).unwrap();
        fs::write(root.join(name).join("config.yaml"), text).unwrap();
    }
    symlink("..1", root.join("..data")).unwrap();
    symlink("..data/config.yaml", root.join("config.yaml")).unwrap();
    follow(root, async |followed| {
        symlink("..2", root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
        followed.until("applied", |status| status.applied == 1).await;
        assert_eq!(followed.version(), "2.0.0");
    });
}

#[test]
fn what_is_refused_leaves_the_old_one_in_force() {
    let place = directory(&[("config.yaml", ONE)]);
    let path = place.path().join("config.yaml");
    follow(&path, async |followed| {
        let revision = followed.state.status().revision;
        let (mut refused, mut reasons) = (0, Vec::new());
        for bad in ["models: [", "", "models: {}", &format!("listen: 0.0.0.0:1\nworkers: 2\n{TWO}")] {
            put(&path, bad);
            refused += 1;
            let status = followed.until("refused", |status| status.refused == refused).await;
            reasons.push(
                status.errors.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>().join("; "),
            );
        }
        assert!(reasons[0].starts_with("no valid YAML"), "{reasons:?}");
        assert_eq!(reasons[1..3], ["is empty", "names no model"]);
        let fixed = "cannot change while running; in force is 0.0.0.0:9000; cannot change while running; in force is 1";
        assert_eq!(reasons[3], fixed);
        fs::remove_file(&path).unwrap();
        let status = followed.until("refused", |status| status.refused == refused + 1).await;
        assert!(status.errors[0].message.starts_with("cannot be read"), "{status:?}");
        assert_eq!((status.applied, &status.revision), (0, &revision));
        assert_eq!(followed.version(), "1.0.0");

        // What was in force all along clears the errors, and the next change is applied again.
        put(&path, ONE);
        let status = followed.until("cleared", |status| status.errors.is_empty()).await;
        assert_eq!((status.applied, &status.revision), (0, &revision));
        assert!(!followed.current.has_changed().unwrap());
        put(&path, TWO);
        followed.until("applied", |status| status.applied == 1).await;
    });
}

#[test]
fn the_same_text_again_is_no_event() {
    let place = directory(&[("config.yaml", ONE)]);
    let path = place.path().join("config.yaml");
    follow(&path, async |followed| {
        let before = followed.state.status();
        put(&path, ONE);
        fs::write(place.path().join("other.txt"), "noise").unwrap();
        // Long enough for the events and for a poll.
        tokio::time::sleep(Duration::from_millis(1800)).await;
        assert_eq!(followed.state.status(), before);
        assert!(!followed.current.has_changed().unwrap());
    });
}
