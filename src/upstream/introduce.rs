//! Lets a configuration come into force only once its endpoints were looked at.
//!
//! An endpoint that is new is not ready until its first probe, so calls given to it at once would fail though its
//! server runs. The one before goes on meanwhile, for a second at most: a server that does not answer holds nothing up.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::readiness::{Board, Target};
use crate::config::Config;

/// How long a first look may hold a configuration up.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// Sends each configuration that was `accepted` to `publish`, once the prober, which follows `accepted` too, knows
/// something of all its endpoints; until `accepted` has no sender any more.
pub async fn run(
    mut accepted: watch::Receiver<Arc<Config>>,
    publish: watch::Sender<Arc<Config>>,
    board: Arc<Board>,
) {
    while accepted.changed().await.is_ok() {
        let next = Arc::clone(&accepted.borrow_and_update());
        // Late or not, it comes into force now.
        let _ = timeout(FIRST_LOOK, looked_at(&next, &board)).await;
        publish.send_replace(next);
    }
}

async fn looked_at(config: &Config, board: &Board) {
    let mut changes = board.watch();
    let known = |target: &Target| board.find(target).is_some_and(|readiness| readiness.why().is_some());
    while !Target::all(config).chain(Target::controls(config)).all(|(_, _, target)| known(&target)) {
        // The board outlives this: it always has a sender.
        let _ = changes.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::readiness::sample;
    use super::*;
    use crate::config::Address;

    #[tokio::test]
    async fn a_configuration_waits_for_a_first_look_but_not_for_ever() {
        let address = Address::Tcp { host: "127.0.0.1".into(), port: 9 };
        let config = sample::config(vec![("m", vec![sample::variant("v1", address)])]);
        let (accept, accepted) = watch::channel(Arc::clone(&config));
        let (publish, mut published) = watch::channel(Arc::clone(&config));
        let board = Arc::new(Board::default());
        let introducing = run(accepted, publish, Arc::clone(&board));
        let test = async {
            accept.send_replace(Arc::clone(&config));
            let early = timeout(FIRST_LOOK / 10, published.changed()).await;
            assert!(early.is_err(), "nobody has looked yet");
            for (_, _, target) in Target::all(&config).chain(Target::controls(&config)) {
                board.get(&target).explain("looked at");
            }
            board.announce();
            assert!(timeout(FIRST_LOOK / 2, published.changed()).await.is_ok());
            board.retain(|_| false);
            accept.send_replace(config);
            assert!(timeout(FIRST_LOOK * 10, published.changed()).await.is_ok());
            drop(accept);
        };
        tokio::join!(introducing, test);
    }
}
