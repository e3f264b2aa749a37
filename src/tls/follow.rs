//! Follows certificate files while the process runs.
//!
//! The folders around the files are watched, for a Secret is swapped by a link beside them; because some file systems
//! tell nothing, the files are also read every second. A change is looked at again after a moment, since a certificate
//! and its key are two files: a pair that does not match then is refused, and the one before goes on.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::server::Server;
use super::{Look, Port, Store};
use crate::config::Config;
use crate::config::watch::tell;
use crate::telemetry::counter::{Counter, Counters};

/// How often files are read where nobody tells of a change.
const POLL: Duration = Duration::from_secs(1);
/// How long files may take to become a whole again.
const SETTLE: Duration = Duration::from_millis(100);

/// Keeps `store` true to the files that `config` names, until `config` has no sender any more.
pub async fn run(mut config: watch::Receiver<Arc<Config>>, store: Arc<Store>, counters: Arc<Counters>) {
    let (told, mut changed) = mpsc::channel(1);
    let mut watched = Watched::default();
    let mut poll = interval(POLL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    watched.follow(&store.files(), &told);
    loop {
        tokio::select! {
            _ = changed.recv() => {}
            _ = poll.tick() => {}
            next = config.changed() => {
                if next.is_err() {
                    return;
                }
                let next = Arc::clone(&config.borrow_and_update());
                if let Err(error) = store.adopt(&next) {
                    tracing::error!(%error, "certificates refused, those before go on");
                }
                watched.follow(&store.files(), &told);
            }
        }
        if store.differs() {
            sleep(SETTLE).await;
            for (used, look) in store.look() {
                note(used, &look, &counters);
            }
        }
    }
}

/// Keeps one port's certificate true to its files, until `stop` is ready. For a process that has no other.
pub async fn one(server: Arc<Server>, counters: Arc<Counters>, stop: impl Future<Output = ()>) {
    let (told, mut changed) = mpsc::channel(1);
    let mut watched = Watched::default();
    watched.follow(&server.files().iter().cloned().collect(), &told);
    let mut poll = interval(POLL);
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return,
            _ = changed.recv() => {}
            _ = poll.tick() => {}
        }
        if server.differs() {
            sleep(SETTLE).await;
            note("port", &server.look(), &counters);
        }
    }
}

fn note(used: &'static str, look: &Look, counters: &Counters) {
    match look {
        Look::Same => {}
        Look::Taken => {
            counters.add(Counter::CertificatesTaken);
            tracing::info!(used, "certificates read again");
        }
        Look::Refused(error) => {
            counters.add(Counter::CertificatesRefused);
            tracing::error!(used, %error, "certificates refused, those before go on");
        }
    }
}

/// Folders that the system tells of changes in.
#[derive(Default)]
struct Watched {
    folders: HashSet<PathBuf>,
    watchers: Vec<notify::RecommendedWatcher>,
}

impl Watched {
    fn follow(&mut self, files: &HashSet<PathBuf>, told: &mpsc::Sender<()>) {
        let folders: HashSet<PathBuf> =
            files.iter().filter_map(|file| file.parent()).map(Path::to_owned).collect();
        if folders == self.folders {
            return;
        }
        self.watchers = folders.iter().filter_map(|folder| tell(folder, told.clone())).collect();
        self.folders = folders;
    }
}

impl Store {
    fn files(&self) -> HashSet<PathBuf> {
        let ports = Port::ALL.into_iter().filter_map(|port| self.port(port));
        let mut files: HashSet<PathBuf> = ports.flat_map(|server| server.files().to_vec()).collect();
        files.extend(self.clients.iter().flat_map(|client| client.files().to_vec()));
        files
    }

    fn differs(&self) -> bool {
        Port::ALL.into_iter().filter_map(|port| self.port(port)).any(|server| server.differs())
            || self.clients.iter().any(|client| client.differs())
    }

    /// Looks at everything again; returns what became of it.
    pub fn look(&self) -> Vec<(&'static str, Look)> {
        let look = |port: Port| Some((port.name(), self.port(port)?.look()));
        let mut looks: Vec<_> = Port::ALL.into_iter().filter_map(look).collect();
        looks.extend(self.clients.iter().map(|client| ("client", client.look())));
        looks
    }
}
