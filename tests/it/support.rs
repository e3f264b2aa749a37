//! What the tests of this binary share.

pub(crate) mod process;
pub(crate) mod raw;
