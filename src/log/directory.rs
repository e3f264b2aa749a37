//! A log's directory as one process holds it: locked, and of a version that this program may write to.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::spool;
use super::table::{Table, VERSION};

/// Which version wrote here, and what its fields mean.
pub const SCHEMA: &str = "schema.json";
/// Held by the process that writes.
const LOCK: &str = "lock";

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The system.
    #[error("{path}: {error}", path = path.display())]
    Disk {
        /// Which file or folder.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
    /// Another process.
    #[error("{path} is written to by another process; give each sidecar a directory of its own", path = .0.display())]
    Taken(PathBuf),
    /// A newer version.
    #[error("{path} is of schema {version}, and this program writes {VERSION}; name another directory, or run the newer version", path = path.display())]
    Newer {
        /// Its `schema.json`.
        path: PathBuf,
        /// What it says.
        version: u64,
    },
    /// Something else.
    #[error("{path} is none of a prediction log; name a directory that nothing else uses", path = .0.display())]
    Foreign(PathBuf),
}

/// A directory that this process holds, until it is dropped.
#[derive(Debug)]
pub struct Held {
    _lock: File,
}

/// Takes the directory: makes it where it is not there, and says in it which version writes.
///
/// # Errors
/// See [`Refused`].
pub fn take(directory: &Path) -> Result<Held, Refused> {
    let disk = |path: &Path| {
        let path = path.to_owned();
        move |error| Refused::Disk { path, error }
    };
    if let Some(refused) = check(directory) {
        return Err(refused);
    }
    spool::make_folders(directory).map_err(disk(directory))?;
    let path = directory.join(LOCK);
    let lock = File::create(&path).map_err(disk(&path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Refused::Taken(directory.to_owned())),
        Err(TryLockError::Error(error)) => return Err(disk(&path)(error)),
    }
    let path = directory.join(SCHEMA);
    let text = format!("{:#}\n", describe());
    if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
        let new = directory.join("schema.json.tmp");
        let write = || {
            fs::write(&new, &text)?;
            File::open(&new)?.sync_all()?;
            fs::rename(&new, &path)
        };
        write().map_err(disk(&path))?;
    }
    Ok(Held { _lock: lock })
}

/// Whether what lies there is a log's of a version that this program may write to; leaves nothing behind.
pub fn check(directory: &Path) -> Option<Refused> {
    let path = directory.join(SCHEMA);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return None;
        }
        Err(error) => return Some(Refused::Disk { path, error }),
    };
    let said: Option<Value> = serde_json::from_str(&text).ok();
    match said.as_ref().and_then(|said| said.get("parhelion_log")).and_then(Value::as_u64) {
        Some(version) if version > u64::from(VERSION) => Some(Refused::Newer { path, version }),
        Some(_) => None,
        None => Some(Refused::Foreign(path)),
    }
}

/// The tables in words, as they stand in the directory.
fn describe() -> Value {
    let fields = |table: Table| -> Value {
        let each = table.fields().iter();
        let each =
            each.map(|field| (field.name.to_owned(), json!({"type": field.kind.name(), "text": field.text})));
        Value::Object(each.collect())
    };
    let tables = Table::ALL.iter().map(|table| (table.name().to_owned(), fields(*table)));
    json!({"parhelion_log": VERSION, "tables": Value::Object(tables.collect())})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_holds_a_directory_and_says_what_is_in_it() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("log");
        let held = take(&directory).unwrap();
        assert!(matches!(take(&directory), Err(Refused::Taken(_))));
        drop(held);
        take(&directory).unwrap();
        let text = fs::read_to_string(directory.join(SCHEMA)).unwrap();
        assert!(text.contains("prediction_uuid") && text.contains(&format!("\"parhelion_log\": {VERSION}")));
    }

    #[test]
    fn a_directory_of_a_newer_version_or_of_something_else_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        for (text, newer) in [(r#"{"parhelion_log": 7}"#, true), ("{}", false), ("garbage", false)] {
            fs::write(root.path().join(SCHEMA), text).unwrap();
            let refused = take(root.path()).unwrap_err();
            assert_eq!(matches!(refused, Refused::Newer { version: 7, .. }), newer, "{refused}");
            assert_eq!(fs::read_to_string(root.path().join(SCHEMA)).unwrap(), text);
            assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        let refused = take(&root.path().join("file")).unwrap_err();
        assert!(refused.to_string().contains("file"), "{refused}");
    }
}
