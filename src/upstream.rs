//! Endpoints of variants: their connections and their readiness.

pub mod probe;
pub mod readiness;
