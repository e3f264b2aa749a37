//! Bytes of a message on their way through `h2` to the socket, which are not copied where they are many.
//!
//! `h2` shows whoever writes for it slices, and those must be copied to outlive its call. A [`Piece`] that is looked at
//! also lends what it is made of, so the writer that is given the slice a moment later can hold on to the bytes
//! themselves. What is lent and not taken is given back at the next look.

use std::cell::Cell;

use bytes::{Buf, Bytes};

/// A slice of fewer bytes is cheaper copied than held.
const LEAST: usize = 4 * 1024;

thread_local! {
    static LENT: Cell<Option<Bytes>> = const { Cell::new(None) };
}

/// Some bytes of a message.
#[derive(Debug)]
pub struct Piece(Bytes);

impl From<Bytes> for Piece {
    fn from(bytes: Bytes) -> Self {
        Piece(bytes)
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.0.len()
    }

    fn chunk(&self) -> &[u8] {
        if self.0.len() >= LEAST {
            LENT.set(Some(self.0.clone()));
        }
        &self.0
    }

    fn advance(&mut self, n: usize) {
        self.0.advance(n);
    }
}

/// What `slice` is a part of, if it is large and was lent by the last [`Piece`] that was looked at.
pub(super) fn borrowed(slice: &[u8]) -> Option<Bytes> {
    if slice.len() < LEAST {
        return None;
    }
    let lent = LENT.take()?;
    let (part, whole) = (slice.as_ptr_range(), lent.as_ptr_range());
    let within = whole.start <= part.start && part.end <= whole.end;
    within.then(|| lent.slice_ref(slice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_looked_at_is_borrowed_once_and_only_where_it_is_large() {
        let bytes = Bytes::from(vec![7; 2 * LEAST]);
        let mut piece = Piece::from(bytes.clone());
        piece.advance(3);
        let seen = &piece.chunk()[..LEAST];
        let held = borrowed(seen).unwrap();
        assert_eq!((held.len(), held.as_ptr()), (LEAST, seen.as_ptr()));
        assert_eq!(borrowed(seen), None);
        assert_eq!(borrowed(&piece.chunk()[..LEAST - 1]), None);
        assert_eq!(borrowed(&vec![7; LEAST]), None, "nobody lent it");
        let other = vec![7; LEAST];
        piece.chunk();
        assert_eq!(borrowed(&other), None, "another one was lent");
        let small = Piece::from(Bytes::from(vec![7; LEAST - 1]));
        assert_eq!(borrowed(small.chunk()), None);
    }
}
