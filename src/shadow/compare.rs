//! Two answers held against each other, raw: status, number of messages, size, and then byte by byte.
//!
//! Both are as their servers sent them, before any renaming: where servers name the model or its version in their
//! answers, those bytes differ, and that is said. Long answers are compared in pieces, for the thread has calls to
//! serve meanwhile. Pure.

use bytes::Bytes;

use super::record::Comparison;
use crate::fault::Code;

/// What can be said without the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Status.
    pub status: Code,
    /// Whole messages.
    pub messages: u64,
    /// Message bytes, prefixes included.
    pub bytes: u64,
}

impl Shape {
    /// The first difference; `None` where only the bytes can tell.
    pub fn differs(&self, other: &Shape) -> Option<Comparison> {
        if self.status != other.status {
            Some(Comparison::Status)
        } else if self.messages != other.messages {
            Some(Comparison::Messages)
        } else {
            (self.bytes != other.bytes).then_some(Comparison::Size)
        }
    }
}

/// Compares chunks that may be cut at different places.
#[derive(Debug)]
pub struct Walk<'a> {
    one: Chunks<'a>,
    other: Chunks<'a>,
}

#[derive(Debug)]
struct Chunks<'a> {
    rest: &'a [u8],
    next: std::slice::Iter<'a, Bytes>,
}

impl<'a> Chunks<'a> {
    fn new(chunks: &'a [Bytes]) -> Self {
        Chunks { rest: &[], next: chunks.iter() }
    }

    fn fill(&mut self) -> bool {
        while self.rest.is_empty() {
            match self.next.next() {
                Some(chunk) => self.rest = chunk,
                None => return false,
            }
        }
        true
    }
}

impl<'a> Walk<'a> {
    /// Over two answers of equal length.
    pub fn new(one: &'a [Bytes], other: &'a [Bytes]) -> Self {
        Walk { one: Chunks::new(one), other: Chunks::new(other) }
    }

    /// Compares about `bytes` more; `None` where there is more to compare.
    pub fn step(&mut self, bytes: usize) -> Option<Comparison> {
        let mut left = bytes;
        while left > 0 {
            match (self.one.fill(), self.other.fill()) {
                (true, true) => {}
                (false, false) => return Some(Comparison::Same),
                _ => return Some(Comparison::Size),
            }
            let take = self.one.rest.len().min(self.other.rest.len()).min(left);
            let (one, other) = (self.one.rest.split_at(take), self.other.rest.split_at(take));
            if one.0 != other.0 {
                return Some(Comparison::Bytes);
            }
            (self.one.rest, self.other.rest) = (one.1, other.1);
            left -= take;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &'static [u8], size: usize) -> Vec<Bytes> {
        text.chunks(size).map(Bytes::from_static).collect()
    }

    fn walk(one: &[Bytes], other: &[Bytes], step: usize) -> Comparison {
        let mut walk = Walk::new(one, other);
        (0..100).find_map(|_| walk.step(step)).unwrap()
    }

    #[test]
    fn where_chunks_are_cut_does_not_matter() {
        let text = b"the same answer, cut in other places";
        for (one, other, step) in [(1, 7, 3), (5, 36, 100), (2, 2, 1)] {
            assert_eq!(walk(&cut(text, one), &cut(text, other), step), Comparison::Same);
        }
        assert_eq!(walk(&[], &[Bytes::new()], 1), Comparison::Same);
        assert_eq!(walk(&cut(b"abc", 2), &cut(b"abd", 1), 2), Comparison::Bytes);
        assert_eq!(walk(&cut(b"abc", 2), &cut(b"ab", 1), 9), Comparison::Size);
    }

    #[test]
    fn the_first_difference_is_said() {
        let one = Shape { status: Code::OK, messages: 2, bytes: 10 };
        assert_eq!(one.differs(&one), None);
        let other = Shape { status: Code::INTERNAL, messages: 1, bytes: 9 };
        assert_eq!(one.differs(&other), Some(Comparison::Status));
        let other = Shape { status: Code::OK, ..other };
        assert_eq!(one.differs(&other), Some(Comparison::Messages));
        let other = Shape { messages: 2, ..other };
        assert_eq!(one.differs(&other), Some(Comparison::Size));
    }
}
