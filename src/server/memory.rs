//! Refuses calls before the system kills: from nine tenths of the memory that is allowed on, until it is well below.
//!
//! One task looks, often where it is tight, and every worker reads one flag for each call. What calls under way hold
//! goes on growing for a moment after a call is refused; the last tenth is for that. Where even that is nearly used up,
//! connections are refused too, and calls under way are ended: a few that fail are fewer than all.
//!
//! What the allocator keeps for later counts as used. So before calls are refused, and as long as they are, each thread
//! that holds much is told to give that back: only what is really held may cost a call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::cgroup::{self, Groups, Memory};
use super::heap;
use crate::config::units::Size;
use crate::config::{Config, MemoryLimit};
use crate::failpoint;

/// Calls are refused from here on,
const FULL: f64 = 0.90;
/// and taken again from here down; above it nothing is kept for later.
const CALM: f64 = 0.85;
/// Calls under way are ended from here on.
const DIRE: f64 = 0.97;
/// From here on it is looked at often.
const TIGHT: f64 = 0.60;
const OFTEN: Duration = Duration::from_millis(5);
const SELDOM: Duration = Duration::from_millis(100);
/// How long what was freed may be kept for later where nothing is to be.
const KEPT: Duration = Duration::from_millis(100);

/// How tight memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Calls are taken.
    Fine,
    /// New calls are refused.
    Full,
    /// Calls under way are ended too.
    Dire,
}

/// How tight memory is now: written by one task, read by all workers.
#[derive(Debug, Default)]
pub struct Pressure {
    level: AtomicU8,
    used: AtomicU64,
    /// 0 where nothing is limited.
    limit: AtomicU64,
    /// Times that it became dire; workers end their calls at each.
    dire: watch::Sender<u64>,
    /// Times that threads were told to give back what they keep.
    tidy: watch::Sender<u64>,
}

impl Pressure {
    /// Whether new calls are refused.
    pub fn is_full(&self) -> bool {
        self.level.load(Ordering::Relaxed) != 0
    }

    /// Whether connections are refused.
    pub fn is_dire(&self) -> bool {
        self.level.load(Ordering::Relaxed) == Level::Dire as u8
    }

    /// Used and allowed, where anything is limited.
    pub fn memory(&self) -> Option<Memory> {
        let limit = self.limit.load(Ordering::Relaxed);
        (limit > 0).then(|| Memory { used: self.used.load(Ordering::Relaxed), limit })
    }

    /// Why a call is refused or ended, for its caller.
    pub fn why(&self) -> String {
        let mib = |bytes: u64| bytes >> 20;
        match self.memory() {
            Some(Memory { used, limit }) => {
                let (used, limit) = (mib(used), mib(limit));
                format!("the sidecar uses {used} MiB of {limit} MiB of memory; try again later")
            }
            None => "the sidecar has no memory left; try again later".to_owned(),
        }
    }

    /// Changes each time that it became dire.
    pub fn dire(&self) -> watch::Receiver<u64> {
        self.dire.subscribe()
    }

    /// Changes each time that a thread shall give back what it keeps for later.
    pub fn tidy(&self) -> watch::Receiver<u64> {
        self.tidy.subscribe()
    }

    /// Takes what was read; returns the level before and now.
    fn take(&self, memory: Option<Memory>) -> (Level, Level) {
        let before = match self.level.load(Ordering::Relaxed) {
            0 => Level::Fine,
            1 => Level::Full,
            _ => Level::Dire,
        };
        let now = memory.map_or(Level::Fine, |memory| next(before, memory.share()));
        self.used.store(memory.map_or(0, |memory| memory.used), Ordering::Relaxed);
        self.limit.store(memory.map_or(0, |memory| memory.limit), Ordering::Relaxed);
        self.level.store(now as u8, Ordering::Relaxed);
        if now == Level::Dire {
            // At each look: what was ended may not have been enough.
            self.dire.send_modify(|times| *times += 1);
        }
        (before, now)
    }
}

/// The level at a share, after another: what is full stays so until it is calm.
fn next(before: Level, share: f64) -> Level {
    match () {
        () if share >= DIRE => Level::Dire,
        () if share >= FULL || (before > Level::Fine && share >= CALM) => Level::Full,
        () => Level::Fine,
    }
}

/// Whether what is kept for later is given back, at a share and so long after it last was.
fn is_due(share: f64, since: Option<Duration>) -> bool {
    share >= CALM && since.is_none_or(|since| since >= KEPT)
}

/// Keeps `pressure` true, until `config` has no sender any more.
pub async fn run(mut config: watch::Receiver<Arc<Config>>, pressure: Arc<Pressure>) {
    let groups = Groups::of_process();
    let mut tidied: Option<Instant> = None;
    loop {
        failpoint::panics("memory");
        let limit = config.borrow_and_update().limits.memory;
        let read = || match limit {
            MemoryLimit::Off => None,
            MemoryLimit::Auto => groups.read(),
            MemoryLimit::At(Size(limit)) => cgroup::resident().map(|used| Memory { used, limit }),
        };
        let mut memory = read();
        if memory.is_some_and(|memory| is_due(memory.share(), tidied.map(|at| at.elapsed()))) {
            tidied = Some(Instant::now());
            pressure.tidy.send_modify(|times| *times += 1);
            heap::give_back();
            memory = read();
        }
        let (before, now) = pressure.take(memory);
        tell(before, now, memory);
        let tight = memory.is_some_and(|memory| memory.share() >= TIGHT);
        let due = Instant::now() + if tight { OFTEN } else { SELDOM };
        tokio::select! {
            () = sleep_until(due) => {}
            changed = config.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

fn tell(before: Level, now: Level, memory: Option<Memory>) {
    let (used, limit) = memory.map_or((0, 0), |memory| (memory.used, memory.limit));
    match (before, now) {
        (Level::Fine, Level::Full | Level::Dire) => {
            tracing::warn!(used, limit, "memory is nearly used up: new calls are refused");
        }
        (Level::Full, Level::Dire) => {
            tracing::error!(used, limit, "memory is used up: calls under way are ended");
        }
        (Level::Full | Level::Dire, Level::Fine) => {
            tracing::info!(used, limit, "memory is free again: calls are taken");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(used: u64) -> Option<Memory> {
        Some(Memory { used, limit: 100 })
    }

    #[test]
    fn calls_are_refused_from_nine_tenths_until_it_is_calm() {
        let pressure = Pressure::default();
        let levels: Vec<(u64, bool, bool)> = [50, 89, 90, 96, 97, 99, 96, 89, 85, 84, 89]
            .into_iter()
            .map(|used| {
                pressure.take(memory(used));
                (used, pressure.is_full(), pressure.is_dire())
            })
            .collect();
        let full: Vec<u64> = levels.iter().filter(|level| level.1).map(|level| level.0).collect();
        let dire: Vec<u64> = levels.iter().filter(|level| level.2).map(|level| level.0).collect();
        assert_eq!((full, dire), (vec![90, 96, 97, 99, 96, 89, 85], vec![97, 99]));
        assert_eq!(*pressure.dire().borrow(), 2);
    }

    #[test]
    fn before_a_call_is_refused_and_as_long_as_any_is_nothing_is_kept_for_later() {
        let (long, short) = (Some(KEPT), Some(KEPT / 2));
        assert!(!is_due(0.84, None) && !is_due(0.84, long));
        for share in [CALM, FULL, DIRE, 1.2] {
            assert!(is_due(share, None) && is_due(share, long) && !is_due(share, short), "{share}");
        }
    }

    #[test]
    fn without_a_limit_nothing_is_refused() {
        let pressure = Pressure::default();
        pressure.take(memory(95));
        pressure.take(None);
        assert!(!pressure.is_full() && pressure.memory().is_none());
    }
}
