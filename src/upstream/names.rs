//! Looks DNS names up again while the process runs, so that connections follow a name that moves.
//!
//! A connection to an address which its name no longer has takes no new calls; those that run on it finish.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::dial::resolve;
use super::readiness::{Board, Target};
use crate::config::{Address, Config};

/// Between two look-ups of a name.
const INTERVAL: Duration = Duration::from_secs(5);

/// Keeps the addresses on `board` true to what names resolve to, until `config` has no sender any more.
pub async fn run(mut config: watch::Receiver<Arc<Config>>, board: Arc<Board>) {
    loop {
        let current = Arc::clone(&config.borrow_and_update());
        let targets: HashSet<Target> =
            Target::all(&current).chain(Target::controls(&current)).map(|(_, _, target)| target).collect();
        for target in &targets {
            let Address::Tcp { host, port } = &target.endpoint.address else { continue };
            if host.parse::<std::net::IpAddr>().is_ok() {
                continue;
            }
            // A name server that does not answer says nothing about where the name is.
            if let Ok(found) = resolve(host, *port).await {
                let found: HashSet<SocketAddr> = found.into_iter().collect();
                board.get(target).set_addresses(found);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            changed = config.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}
