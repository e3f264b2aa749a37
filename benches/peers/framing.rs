//! Counts gRPC messages in bytes that come in pieces cut anywhere.

use crate::message::PREFIX;

/// Where in a sequence of messages the bytes so far end.
#[derive(Default)]
pub(crate) struct Framing {
    prefix: [u8; PREFIX],
    prefix_len: usize,
    /// Bytes that the current message still lacks.
    lacks: usize,
    whole: usize,
}

impl Framing {
    /// Takes the next bytes.
    pub(crate) fn feed(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            let wanted = if self.prefix_len < PREFIX { PREFIX - self.prefix_len } else { self.lacks };
            let (taken, rest) = piece.split_at(wanted.min(piece.len()));
            if self.prefix_len < PREFIX {
                self.prefix[self.prefix_len..self.prefix_len + taken.len()].copy_from_slice(taken);
                self.prefix_len += taken.len();
                let [_, a, b, c, d] = self.prefix;
                self.lacks = u32::from_be_bytes([a, b, c, d]) as usize;
            } else {
                self.lacks -= taken.len();
            }
            if self.prefix_len == PREFIX && self.lacks == 0 {
                self.prefix_len = 0;
                self.whole += 1;
            }
            piece = rest;
        }
    }

    /// Messages that are whole.
    pub(crate) fn whole(&self) -> usize {
        self.whole
    }

    /// Messages in all; `None` where the last one is not whole.
    pub(crate) fn messages(&self) -> Option<usize> {
        (self.prefix_len == 0).then_some(self.whole)
    }
}
