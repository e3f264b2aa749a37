//! From what happened to a row: for each table its fields, and beside them what writes one row in their order.

pub mod change;
pub mod copy;
pub mod prediction;
pub mod report;
#[cfg(test)]
pub(crate) mod sample;
