//! gRPC's framing: finds the messages in a stream of chunks that are cut anywhere.
//!
//! A message is a prefix of 5 bytes (a flag, and its length, big-endian) and that many bytes. A length over the
//! limit is refused at the prefix, and nothing is ever allocated by a length that a peer declares. The flag is given
//! as it came: what it means is for whoever reads the message.

/// Bytes of a prefix.
pub const PREFIX: usize = 5;

/// A step through a stream of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A prefix was read.
    Start {
        /// The flag as it came: 0 is as it is, 1 is compressed by `grpc-encoding`, and others do not exist.
        compressed: u8,
        /// Bytes that follow.
        length: u32,
    },
    /// Some of a message's bytes, never none.
    Payload(&'a [u8]),
    /// The message is complete.
    End,
}

/// Why a stream of messages cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A message is longer than allowed.
    #[error("a message of {length} bytes is over the limit of {limit}")]
    TooLarge {
        /// Bytes that its prefix declares.
        length: u32,
        /// Bytes that it may have.
        limit: usize,
    },
}

/// The messages of one direction of one call.
#[derive(Debug, Clone)]
pub struct Messages {
    limit: usize,
    state: State,
    count: u64,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Prefix { bytes: [u8; PREFIX], have: usize },
    Body { left: u32 },
}

const BETWEEN: State = State::Prefix { bytes: [0; PREFIX], have: 0 };

impl Messages {
    /// Takes messages of up to `limit` bytes, prefix not counted.
    pub fn new(limit: usize) -> Self {
        Messages { limit, state: BETWEEN, count: 0 }
    }

    /// Gives every event of `chunk` to `visit`, in order.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] at the prefix of such a message, and again at every later call.
    #[inline]
    pub fn walk<'a>(
        &mut self,
        mut chunk: &'a [u8],
        mut visit: impl FnMut(Event<'a>),
    ) -> Result<(), FrameError> {
        while let Some(event) = self.next(&mut chunk)? {
            visit(event);
        }
        Ok(())
    }

    /// Goes over `chunk` with the same checks where nobody looks at the messages.
    ///
    /// # Errors
    /// As [`Messages::walk`].
    pub fn skip(&mut self, chunk: &[u8]) -> Result<(), FrameError> {
        self.walk(chunk, |_| {})
    }

    /// The next event of `chunk`, which is shortened by what was read; `None` where it is used up.
    ///
    /// # Errors
    /// As [`Messages::walk`].
    #[inline]
    pub fn next<'a>(&mut self, chunk: &mut &'a [u8]) -> Result<Option<Event<'a>>, FrameError> {
        match &mut self.state {
            State::Prefix { bytes, have } => {
                let take = chunk.len().min(PREFIX - *have);
                let (part, rest) = chunk.split_at(take);
                bytes[*have..*have + take].copy_from_slice(part);
                *have += take;
                *chunk = rest;
                if *have < PREFIX {
                    return Ok(None);
                }
                let [compressed, length @ ..] = *bytes;
                let length = u32::from_be_bytes(length);
                if length as usize > self.limit {
                    return Err(FrameError::TooLarge { length, limit: self.limit });
                }
                self.state = State::Body { left: length };
                Ok(Some(Event::Start { compressed, length }))
            }
            State::Body { left: 0 } => {
                self.state = BETWEEN;
                self.count += 1;
                Ok(Some(Event::End))
            }
            State::Body { left } => {
                let take = chunk.len().min(*left as usize);
                let (part, rest) = chunk.split_at(take);
                *left -= take as u32;
                *chunk = rest;
                Ok((!part.is_empty()).then_some(Event::Payload(part)))
            }
        }
    }

    /// Messages that have ended.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether the stream may end here: between two messages.
    pub fn is_between(&self) -> bool {
        matches!(self.state, State::Prefix { have: 0, .. })
    }

    /// Whether a message has begun, be it with one byte of its prefix, and not ended.
    pub fn unfinished(&self) -> bool {
        !self.is_between()
    }
}

/// A message's prefix.
pub fn prefix(flag: u8, length: u32) -> [u8; PREFIX] {
    let [a, b, c, d] = length.to_be_bytes();
    [flag, a, b, c, d]
}

#[cfg(test)]
mod tests;
