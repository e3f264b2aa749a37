//! Hashes and numbers that decisions rest on. Pure: no clock, no chance, no input or output.

pub mod error_share;
pub mod hash;
pub mod mixture;
#[cfg(test)]
mod oracle;
pub mod overlap;
pub mod quantile;
pub mod special;
