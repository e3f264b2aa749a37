//! Hashes and numbers that decisions rest on. Pure: no clock, no chance, no input or output.

pub mod hash;
