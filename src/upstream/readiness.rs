//! Which endpoints may get calls: set by the prober, read by every worker, asked for a second look by a worker that
//! saw an endpoint fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dashmap::DashMap;
use tokio::sync::Notify;

use crate::config::Endpoint;

/// What is known of one endpoint of one variant.
#[derive(Debug, Default)]
pub struct Readiness {
    ready: AtomicBool,
    changes: AtomicU64,
    doubted: Notify,
}

impl Readiness {
    /// Whether the endpoint may get calls; false until a probe has succeeded.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Says what a probe found; returns whether that is a change.
    pub fn set(&self, ready: bool) -> bool {
        let changed = self.ready.swap(ready, Ordering::Relaxed) != ready;
        if changed {
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
        changed
    }

    /// How often it changed.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Asks the prober to look at once, for calls to the endpoint fail.
    pub fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// Waits until somebody doubts it.
    pub async fn doubted(&self) {
        self.doubted.notified().await;
    }
}

/// An endpoint as a variant's server: the same address may hold one model and not another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// How it is reached.
    pub endpoint: Endpoint,
    /// What the server calls the model.
    pub model: Arc<str>,
    /// The version it is asked for; empty where none is.
    pub version: Arc<str>,
}

/// Every target's readiness, kept over reloads as long as a target stays in the configuration.
#[derive(Debug, Default)]
pub struct Board(DashMap<Target, Arc<Readiness>>);

impl Board {
    /// The readiness of `target`, new and not ready where it was not known.
    pub fn get(&self, target: &Target) -> Arc<Readiness> {
        if let Some(known) = self.0.get(target) {
            return Arc::clone(&known);
        }
        Arc::clone(&self.0.entry(target.clone()).or_default())
    }

    /// Forgets all targets that `keep` refuses.
    pub fn retain(&self, keep: impl Fn(&Target) -> bool) {
        self.0.retain(|target, _| keep(target));
    }
}
