//! Everything that needs real sockets, in one binary: one link, and tests that share their support.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod collector;
mod hostile;
mod life;
mod reload;
mod startup;
mod support;
