//! YAML texts that are edited and stay as their author wrote them: comments, order and style are left alone.
//!
//! A stream is parsed into documents whose nodes know where they stand ([`tree`]); a `change::Change` says in
//! terms of the value what shall be different; [`edit`] turns changes into insertions and deletions in the text.

pub mod change;
pub mod edit;
pub mod render;
pub mod tree;

pub use change::{Change, Path, Step};
pub use tree::{Broken, Document, Node, Shape, parse};
