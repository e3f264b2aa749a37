//! Many replicas, one rollout.

mod chance;
mod script;
mod seeds;
mod server;
mod world;
