//! How the answers of a model's variants are distributed: beside the baseline's, where nobody answers the same call
//! twice, and beside a reference that was made before.
//!
//! Of a sampled share of the calls the answer is held as it passes, by references, and put into a queue that nobody
//! waits for. A task of the control runtime reads it down to the values of its tensors, counts one row of each output,
//! and forgets it. Without `drift` in the file no call sees anything of it.
//!
//! | file | what it holds |
//! |---|---|
//! | [`watch`] | the call's side: one answer as it passes |
//! | [`evidence`] | what all answers prove; pure |
//! | [`units`] | which units were counted; pure |
//! | [`kept`] | a reference as a file |
//! | [`board`] | what is known of every model, for whoever asks |
//! | [`counter`] | the task that counts |

pub mod board;
pub mod counter;
pub mod evidence;
pub mod kept;
pub mod units;
pub mod watch;

pub use board::{Drifting, Drifts};
pub use watch::{Seen, Watch, Watching};
