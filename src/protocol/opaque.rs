//! Everything that no other adapter knows: passed on, never looked into.

use super::Adapter;

/// Any gRPC service.
#[derive(Debug, Clone, Copy)]
pub struct Opaque;

impl Adapter for Opaque {
    fn name(&self) -> &'static str {
        "opaque"
    }
}
