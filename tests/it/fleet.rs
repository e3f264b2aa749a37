//! Many replicas, one rollout.

mod seeds;
mod world;
