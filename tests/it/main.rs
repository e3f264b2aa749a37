//! The one integration test binary: a whole sidecar in this process, real sockets on loopback, and peers that do
//! what is asked of them down to the frame. Tests wait for events with generous bounds and never for time to pass.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod ab;
mod bandit;
mod bandit_world;
mod calls;
mod canary;
mod cancel;
mod collector;
mod control;
mod corpus;
mod deadline;
mod demo;
mod endpoints;
mod fallback;
mod feedback;
mod floors;
mod hop;
mod hostile;
mod house;
mod inject;
mod intercept;
mod interleave;
mod life;
mod log;
mod metadata;
mod plan;
mod ramp;
mod reload;
mod rename;
mod resources;
mod retry;
mod rolling;
mod routing;
mod scenarios;
mod shadow;
mod shed;
mod staged;
mod startup;
mod state;
mod streams;
mod support;
mod switch;
mod tags;
mod tls;
