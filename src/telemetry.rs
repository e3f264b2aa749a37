//! Spans, metrics and logs, all made from one [`crate::outcome::Outcome`] per call, after its response.

pub mod counter;
