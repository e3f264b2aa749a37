//! Endpoints of variants: their connections and their readiness.

pub mod readiness;
