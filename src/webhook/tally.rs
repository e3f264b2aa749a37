//! What became of reviews, counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::telemetry::shard::Histogram;

/// What became of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The pod gets a sidecar.
    Injected,
    /// It has one.
    Already,
    /// It did not ask.
    NotAsked,
    /// It asked, and cannot have one: a warning says why.
    Refused,
    /// It is about something else than a pod that is made.
    NotAPod,
    /// It is no review.
    Unreadable,
    /// It is one of another version.
    Version,
    /// It is larger than any pod.
    TooLarge,
    /// Its bytes did not come in time, or others were looked at for too long.
    TooSlow,
    /// The webhook failed, and the pod is made without a sidecar.
    Failed,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Verdict; 10] = [
        Verdict::Injected,
        Verdict::Already,
        Verdict::NotAsked,
        Verdict::Refused,
        Verdict::NotAPod,
        Verdict::Unreadable,
        Verdict::Version,
        Verdict::TooLarge,
        Verdict::TooSlow,
        Verdict::Failed,
    ];

    /// As metrics and audit annotations call it.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Injected => "injected",
            Verdict::Already => "already",
            Verdict::NotAsked => "not_asked",
            Verdict::Refused => "refused",
            Verdict::NotAPod => "not_a_pod",
            Verdict::Unreadable => "unreadable",
            Verdict::Version => "version",
            Verdict::TooLarge => "too_large",
            Verdict::TooSlow => "too_slow",
            Verdict::Failed => "failed",
        }
    }
}

/// Reviews of one process; one thread adds.
#[derive(Debug, Default)]
pub struct Tally {
    counts: [AtomicU64; Verdict::ALL.len()],
    /// From a request's headers to its answer.
    pub took: Histogram,
}

impl Tally {
    /// One more.
    pub fn add(&self, verdict: Verdict, took: Duration) {
        self.counts[verdict as usize].fetch_add(1, Ordering::Relaxed);
        self.took.add(took);
    }

    /// How many there were.
    pub fn get(&self, verdict: Verdict) -> u64 {
        self.counts[verdict as usize].load(Ordering::Relaxed)
    }
}
