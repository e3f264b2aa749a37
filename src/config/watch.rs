//! Follows the file while the process runs: all or nothing, and the old one goes on where the new one is refused.
//!
//! The directory around the file is watched, not the file: editors replace files and a ConfigMap swaps the symbolic
//! link `..data`. Because some file systems tell nothing, the text is also read every 1.5 s; both ways end in the
//! same look at its hash. A text that is still being written is waited for: two reads 100 ms apart must be equal.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecursiveMode, Watcher};
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::failpoint;
use crate::tls;

use super::{Config, Environment, Errors, Loaded, Problem, accept, effective, environment, source};

/// How often the text is read where nobody tells of a change.
const POLL: Duration = Duration::from_millis(1500);
/// How long a text must stay the same before it counts.
const SETTLE: Duration = Duration::from_millis(100);
/// After so many waits a text that keeps changing is taken as it is.
const PATIENCE: usize = 10;

/// What became of a change.
#[derive(Debug, Clone)]
pub enum Reload {
    /// It is in force.
    Applied(Loaded),
    /// It is not, and the one before goes on.
    Refused(Errors),
}

/// What is in force and what became of the last change, for the admin page and metrics.
#[derive(Debug)]
pub struct State(Mutex<Status>);

/// One moment of [`State`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Of the configuration in force.
    pub revision: Arc<str>,
    /// When it came into force.
    pub loaded: SystemTime,
    /// Changes that came into force since the start.
    pub applied: u64,
    /// Changes that were refused since the start.
    pub refused: u64,
    /// When the last change was refused; `None` where the files say what is in force.
    pub refused_at: Option<SystemTime>,
    /// Why the last change was refused; empty where the files say what is in force.
    pub errors: Vec<Problem>,
    /// Of the configuration in force.
    pub warnings: Vec<Problem>,
}

impl State {
    /// For a process that starts with `loaded`.
    pub fn new(loaded: &Loaded, now: SystemTime) -> Self {
        State(Mutex::new(Status {
            revision: Arc::clone(&loaded.config.revision),
            loaded: now,
            applied: 0,
            refused: 0,
            refused_at: None,
            errors: Vec::new(),
            warnings: loaded.warnings.clone(),
        }))
    }

    /// As it is now.
    pub fn status(&self) -> Status {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes note of what became of a change.
    fn note(&self, reload: &Reload, now: SystemTime) {
        let mut status = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match reload {
            Reload::Applied(loaded) => {
                if status.revision != loaded.config.revision {
                    status.revision = Arc::clone(&loaded.config.revision);
                    status.loaded = now;
                    status.applied += 1;
                }
                status.warnings = loaded.warnings.clone();
                status.errors.clear();
                status.refused_at = None;
            }
            Reload::Refused(errors) => {
                status.refused += 1;
                status.refused_at = Some(now);
                status.errors = errors.0.clone();
            }
        }
    }
}

/// Follows `path` until nobody listens to `publish` any more; `current` is what is in force when it begins.
///
/// Every accepted change is sent to `publish`; what became of each change is noted in `state` and logged.
pub async fn watch(
    path: PathBuf,
    environment: Environment,
    current: Arc<Config>,
    publish: watch::Sender<Arc<Config>>,
    state: Arc<State>,
) {
    let (told, mut changed) = mpsc::channel(1);
    let _watcher = tell(&path, told.clone());
    let mut follower = Follower::new(path, environment, current);
    let mut poll = interval(POLL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = publish.closed() => return,
            _ = changed.recv() => {}
            _ = poll.tick() => {}
        }
        if let Some(reload) = follower.change().await {
            failpoint::panics("reload");
            state.note(&reload, SystemTime::now());
            log(&reload);
            if let Reload::Applied(loaded) = reload {
                publish.send_if_modified(|before| {
                    let differs = before.revision != loaded.config.revision;
                    *before = loaded.config;
                    differs
                });
            }
        }
    }
}

fn log(reload: &Reload) {
    match reload {
        Reload::Applied(loaded) => {
            tracing::info!(revision = %loaded.config.revision, "configuration applied");
            for warning in &loaded.warnings {
                tracing::warn!("configuration: {warning}");
            }
        }
        Reload::Refused(errors) => {
            tracing::error!("configuration refused, the one before goes on:\n{errors}");
        }
    }
}

/// Asks the system to tell of changes around `path`; without it, polling alone must do.
pub(crate) fn tell(path: &Path, told: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let directory = if path.is_dir() { path } else { path.parent()? };
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let on_event = move |event: notify::Result<notify::Event>| {
        // Reading is an event too, and this process reads after every event.
        let only_read = event.is_ok_and(|event| match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
            kind => kind.is_access(),
        });
        if !only_read {
            // One that waits already is enough.
            let _ = told.try_send(());
        }
    };
    let watcher = notify::recommended_watcher(on_event).and_then(|mut watcher| {
        watcher.watch(directory, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watcher
        .inspect_err(|error| {
            tracing::warn!(%error, "the system does not tell of changes to the configuration; it is read every 1.5s");
        })
        .ok()
}

/// What was read last: the files, or why they cannot be read.
type Text = Result<Vec<source::File>, Problem>;

struct Follower {
    path: PathBuf,
    environment: Environment,
    current: Arc<Config>,
    /// Hash of the text that was judged last, or why there was none.
    seen: Result<String, Problem>,
}

impl Follower {
    fn new(path: PathBuf, environment: Environment, current: Arc<Config>) -> Self {
        let seen = Ok(current.revision.to_string());
        Follower { path, environment, current, seen }
    }

    /// Looks whether there is another text, and judges it once it stays the same.
    async fn change(&mut self) -> Option<Reload> {
        let mut text = self.read();
        for _ in 0..PATIENCE {
            if mark(&text) == self.seen {
                return None;
            }
            sleep(SETTLE).await;
            let again = self.read();
            let settled = again == text;
            text = again;
            if settled {
                break;
            }
        }
        Some(self.judge(text))
    }

    fn read(&self) -> Text {
        source::read(&self.path)
    }

    fn judge(&mut self, text: Text) -> Reload {
        self.seen = mark(&text);
        let loaded = text.map_err(Errors::from).and_then(|files| accept(&files, &self.environment));
        let loaded = loaded.and_then(|loaded| {
            let mut problems = fixed(&self.current, &loaded.config);
            problems.extend(environment::check_keys(&loaded.config));
            problems.extend(tls::check(&loaded.config));
            if problems.is_empty() { Ok(loaded) } else { Err(Errors(problems)) }
        });
        match loaded {
            Ok(loaded) => {
                self.current = Arc::clone(&loaded.config);
                Reload::Applied(loaded)
            }
            Err(errors) => Reload::Refused(errors),
        }
    }
}

fn mark(text: &Text) -> Result<String, Problem> {
    text.as_ref().map(|files| source::revision(files)).map_err(Clone::clone)
}

/// What differs, but is settled when the process starts.
fn fixed(before: &Config, after: &Config) -> Vec<Problem> {
    let (before, after) = (effective::effective(before), effective::effective(after));
    let held =
        ["listen", "admin", "control", "health", "workers", "reuse_port", "state", "fleet", "keys", "log"];
    let differs = |key: &&str| before.get(key) != after.get(key);
    // Another certificate may come, and another list of callers, but no port can begin or cease to speak TLS.
    let speaks = |value: &serde_json::Value, port: &str| value.pointer(&format!("/tls/{port}")).is_some();
    let ports = ["listen", "admin", "health"].into_iter();
    let turned = ports.filter(|port| speaks(&before, port) != speaks(&after, port)).map(|port| {
        let now = if speaks(&before, port) { "speaks TLS" } else { "speaks without TLS" };
        Problem::new(format!("tls.{port}"), format!("cannot change while running; the port {now}"))
            .with_hint("restart to change it, or put it back")
    });
    held.into_iter()
        .filter(differs)
        .map(|key| {
            let show = |value: &serde_json::Value| value.get(key).map_or("none".to_owned(), plain);
            Problem::new(key, format!("cannot change while running; in force is {}", show(&before)))
                .with_value(show(&after))
                .with_hint("restart to change it, or put it back")
        })
        .chain(turned)
        .collect()
}

fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
