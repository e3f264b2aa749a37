//! The one integration test binary: a whole sidecar in this process, real sockets on loopback, and peers that do
//! what is asked of them down to the frame. Tests wait for events with generous bounds and never for time to pass.

mod calls;
mod cancel;
mod deadline;
mod endpoints;
mod metadata;
mod retry;
mod streams;
mod support;
