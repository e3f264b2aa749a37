//! Spans that wait for the collector, as the bytes they leave in, in the batches they leave in.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::time::Instant;

use super::client::Message;
use crate::telemetry::exemplar::{Exemplar, Gathered};
use crate::telemetry::otlp;

/// Bytes in one piece of a batch, more or less a span: large enough to cost nothing, and small enough that the allocator
/// has it at hand again.
const PIECE: usize = 64 << 10;
/// A span is mostly shorter.
const SPAN: usize = 2 << 10;

/// All that waits, oldest first.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    batches: VecDeque<Batch>,
    spans: usize,
}

/// What leaves together.
#[derive(Debug)]
pub(super) struct Batch {
    whole: Vec<Bytes>,
    open: Vec<u8>,
    spans: usize,
    exemplars: Gathered,
    since: Instant,
}

impl Waiting {
    /// How many there are.
    pub(super) fn spans(&self) -> usize {
        self.spans
    }

    /// Adds the span that `write` writes, to a batch with no more than `size`.
    pub(super) fn add(&mut self, size: usize, write: impl FnOnce(&mut Vec<u8>)) {
        if self.batches.back().is_none_or(|batch| batch.spans >= size) {
            self.batches.push_back(Batch::new());
        }
        if let Some(batch) = self.batches.back_mut() {
            batch.add(write);
            self.spans += 1;
        }
    }

    /// Says what the last span may be the exemplar of.
    pub(super) fn explain(&mut self, exemplar: Option<Exemplar>) {
        if let (Some(batch), Some(exemplar)) = (self.batches.back_mut(), exemplar) {
            batch.exemplars.add(exemplar);
        }
    }

    /// Since when the oldest has waited, and how many are in its batch.
    pub(super) fn first(&self) -> Option<(Instant, usize)> {
        self.batches.front().map(|batch| (batch.since, batch.spans))
    }

    /// Takes the oldest batch.
    pub(super) fn take(&mut self) -> Option<Batch> {
        let batch = self.batches.pop_front()?;
        self.spans -= batch.spans;
        Some(batch)
    }
}

impl Batch {
    fn new() -> Self {
        Batch {
            whole: Vec::new(),
            open: Vec::new(),
            spans: 0,
            exemplars: Gathered::default(),
            since: Instant::now(),
        }
    }

    fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.open.capacity() - self.open.len() < SPAN {
            let full = std::mem::replace(&mut self.open, Vec::with_capacity(PIECE));
            self.close(full);
        }
        write(&mut self.open);
        self.spans += 1;
    }

    fn close(&mut self, piece: Vec<u8>) {
        if !piece.is_empty() {
            self.whole.push(piece.into());
        }
    }

    /// How many spans there are, what they explain, and the message that they leave in.
    pub(super) fn leave(mut self, resource: &[u8]) -> (u64, Gathered, Message) {
        let last = std::mem::take(&mut self.open);
        self.close(last);
        let bytes = self.whole.iter().map(Bytes::len).sum();
        let mut message = Message::with_capacity(1 + self.whole.len());
        message.push_back(otlp::front(resource, bytes).into());
        message.extend(self.whole);
        (self.spans as u64, self.exemplars, message)
    }
}
