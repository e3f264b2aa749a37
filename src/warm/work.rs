//! One endpoint, until it is warm, goes away, or nobody wants it any more.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::sample::Sample;
use super::send::{PATIENCE, connect, send};
use super::{Started, Warmth, file};
use crate::keys::Keys;
use crate::tls;

/// After a failure, and while there is no sample.
const PAUSE: Duration = Duration::from_millis(100);
/// After a failure when the time is over.
const LATE: Duration = Duration::from_secs(1);

pub(super) async fn run(started: Started, (keys, tls): (Arc<Keys>, Arc<tls::Store>)) {
    let order = &started.order;
    let until = Instant::now() + order.warming.timeout;
    let given = match &order.warming.file {
        None => None,
        Some(path) => Some(match given(&started, path) {
            Ok(samples) => samples,
            Err(why) => {
                tracing::error!(model = %order.model.name, path = %path.display(), why, "no requests to warm with");
                started.said(format!("{}: {why}", path.display()));
                return;
            }
        }),
    };
    let mut turn = 0;
    while started.goes_on() {
        let samples = given.clone().unwrap_or_else(|| started.samples.all());
        if samples.is_empty() {
            if started.ends(until) {
                return;
            }
            started.said("no call was seen yet to keep a sample of".to_owned());
            sleep(PAUSE).await;
            continue;
        }
        if session(&started, &samples, &mut turn, ((&keys, &tls), until)).await {
            return;
        }
        sleep(if Instant::now() < until { PAUSE } else { LATE }).await;
    }
}

/// A small file at the start of a rollout: nobody waits for this runtime meanwhile.
fn given(started: &Started, path: &std::path::Path) -> Result<Vec<Sample>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let target = started.order.target().ok_or("there is no such variant")?;
    file::read(&text, &target.model, &target.version)
}

/// Sends over one connection until the end, which is true, or a failure.
async fn session(
    started: &Started,
    samples: &[Sample],
    turn: &mut usize,
    ((keys, tls), until): ((&Keys, &tls::Store), Instant),
) -> bool {
    let (sender, driver) = match connect(&started.order, tls).await {
        Ok(connected) => connected,
        Err(why) => {
            started.failed(why);
            return started.ends(until);
        }
    };
    let sending = async {
        while started.goes_on() {
            if started.ends(until) {
                return true;
            }
            let Some(sample) = samples.get(*turn % samples.len()) else { return false };
            *turn += 1;
            let left = until.saturating_duration_since(Instant::now()).max(LATE).min(PATIENCE);
            match send(&sender, &started.order, sample, keys, left).await {
                Ok(()) => started.answered(),
                Err(why) => {
                    started.refused(why);
                    return started.ends(until);
                }
            }
        }
        false
    };
    tokio::select! {
        ended = sending => ended,
        result = driver => {
            started.failed(result.err().map_or("the server closed the connection".to_owned(), |error| error.to_string()));
            false
        }
    }
}

impl Started {
    /// Whether anybody still waits for it, and the same server is still there.
    fn goes_on(&self) -> bool {
        self.warming.is_wanted(Instant::now()) && self.readiness.changes() == self.warming.changes
    }

    /// Whether the endpoint is warm, or has to do without.
    fn ends(&self, until: Instant) -> bool {
        let late = Instant::now() >= until;
        let timeout = self.order.warming.timeout;
        self.warming.warmth.send_if_modified(|warmth| settle(warmth, late, timeout));
        self.warming.warmth.borrow().done
    }

    fn answered(&self) {
        self.counts.answered.fetch_add(1, Ordering::Relaxed);
        self.warming.warmth.send_modify(|warmth| {
            warmth.answered += 1;
            warmth.why = None;
        });
    }

    fn refused(&self, why: String) {
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
        self.failed(why);
    }

    fn failed(&self, why: String) {
        self.warming.warmth.send_modify(|warmth| {
            warmth.failed += 1;
            warmth.why = Some(why.into());
        });
    }

    fn said(&self, why: String) {
        self.warming.warmth.send_if_modified(|warmth| {
            let news = warmth.why.as_deref() != Some(&*why);
            warmth.why = Some(why.into());
            news
        });
    }
}

/// Says whether it may be given calls; whether that is news. What failed at every request may not, however late it is.
fn settle(warmth: &mut Warmth, late: bool, timeout: Duration) -> bool {
    if warmth.done {
        return false;
    }
    if warmth.answered >= warmth.of {
        (warmth.done, warmth.why) = (true, None);
    } else if late && (warmth.answered > 0 || warmth.failed == 0) {
        warmth.done = true;
        let why = if warmth.failed == 0 && warmth.answered == 0 {
            "no call was seen to keep a sample of"
        } else {
            "not all were answered"
        };
        let timeout = crate::config::units::write_duration(timeout);
        warmth.why = Some(format!("{why} within {timeout}").into());
    }
    warmth.done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_at_everything_is_never_warm() {
        for (answered, failed, late, done) in [
            (2, 0, false, false),
            (3, 9, false, true),
            (0, 0, true, true),
            (2, 5, true, true),
            (0, 5, true, false),
            (0, 0, false, false),
        ] {
            let mut warmth = Warmth { answered, failed, of: 3, ..Warmth::default() };
            assert_eq!(settle(&mut warmth, late, Duration::from_secs(1)), done, "{warmth:?}");
            assert_eq!(warmth.done, done);
        }
    }
}
