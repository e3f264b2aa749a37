//! What the tests stand on: a sidecar, model servers that follow a script, and a caller that sees every frame.

use std::time::Duration;

pub(crate) mod attack;
mod client;
pub(crate) mod oip;
pub(crate) mod process;
mod raw;
mod sidecar;
pub(crate) mod tls;
mod upstream;
mod wire;

pub(crate) use client::{Answer, Call, Client};
pub(crate) use raw::Raw;
pub(crate) use sidecar::Sidecar;
pub(crate) use upstream::{Incoming, Request, Upstream, ok};
pub(crate) use wire::{frame, gzip, pairs, push};

/// The longest that anything may take on a machine with other work to do.
const PATIENCE: Duration = Duration::from_secs(20);

/// `future`, which must not take long.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

/// Waits until `check` gives something, looking again every few milliseconds: for counters, which tell nobody that
/// they changed.
pub(crate) async fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    soon(what, async {
        loop {
            if let Some(found) = check() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// A configuration of model `m` with one variant `v1`, version 1.0, at these endpoints.
pub(crate) fn pinned(endpoints: &[&str]) -> String {
    format!("models: {{m: {{variants: {{v1: {{endpoints: {endpoints:?}, version: \"1.0\"}}}}}}}}\n")
}
