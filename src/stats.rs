//! Hashes and numbers that decisions rest on. Pure: no clock, no chance, no input or output.
//!
//! All evidence is e-values: nonnegative numbers whose mean under the hypothesis is at most 1 whenever one stops
//! looking. A verdict at level α falls when one reaches 1/α; they may be looked at after every call.

pub mod best_arm;
pub mod beta_mixture;
pub mod bets;
pub mod bins;
pub mod bounded_mean;
pub mod cdf_band;
pub mod closeness;
pub mod contrast;
pub mod error_share;
pub mod estimates;
pub mod gamma_mixture;
pub mod hash;
pub mod indices;
pub mod mean_difference;
pub mod mixture;
pub mod multiplicity;
pub mod odd_one;
pub mod off_policy;
#[cfg(test)]
pub(crate) mod oracle;
pub mod overlap;
pub mod quadrature;
pub mod quantile;
pub mod ranks;
pub mod rate;
pub mod ridge;
pub mod sample_ratio;
pub mod sign;
pub mod sketch;
pub mod special;
pub mod two_samples;
