//! Gives messages another model name on their way, for a variant whose server knows the model by another.
//!
//! The new name is appended, so a message flows through as soon as it is known what to append: only its prefix is
//! held back until then. Compressed messages are held whole, inflated, and go on uncompressed.

use std::collections::VecDeque;

use bytes::Bytes;
use http::HeaderValue;

use crate::protocol::encoding::inflate;
use crate::protocol::frame::{Event, FrameError, Messages, prefix};
use crate::protocol::{Adapter, Peek, RequestScan, ResponseScan};

/// What to do to each message.
#[derive(Debug, Clone)]
pub enum Renaming {
    /// Requests for `asked` shall ask for what `suffix` says; others pass untouched.
    Request {
        /// Who reads the messages.
        adapter: &'static dyn Adapter,
        /// The model that the caller asks for.
        asked: String,
        /// [`Adapter::rename_request`].
        suffix: Bytes,
    },
    /// Responses shall bear what the caller asked for.
    Response {
        /// Who reads the messages.
        adapter: &'static dyn Adapter,
        /// How.
        peek: Peek,
        /// The model that the caller asked for.
        name: String,
        /// The version that the caller asked for, where the variant was asked for another.
        version: Option<String>,
    },
}

/// Renames the messages of one direction of one attempt.
#[derive(Debug)]
pub struct Renamer {
    renaming: Renaming,
    encoding: Option<HeaderValue>,
    limit: usize,
    messages: Messages,
    current: Current,
}

#[derive(Debug)]
enum Current {
    /// What to append is known, and the prefix is out.
    Through(Bytes),
    /// Not known yet.
    Held { flag: u8, length: u32, bytes: Vec<u8>, scan: Box<Scan> },
}

#[derive(Debug)]
enum Scan {
    Request(RequestScan),
    Response(ResponseScan),
    /// It cannot be read, so it is left alone.
    Broken,
}

impl Renamer {
    /// For messages compressed, if at all, by `encoding`, of at most `limit` bytes.
    pub fn new(renaming: Renaming, encoding: Option<HeaderValue>, limit: usize) -> Self {
        Renamer {
            renaming,
            encoding,
            limit,
            messages: Messages::new(limit),
            current: Current::Through(Bytes::new()),
        }
    }

    /// Takes the next chunk; what can leave is put behind `out`.
    ///
    /// # Errors
    /// When a message is over the limit.
    pub fn push(&mut self, chunk: &Bytes, out: &mut VecDeque<Bytes>) -> Result<(), FrameError> {
        let mut rest = &chunk[..];
        while let Some(event) = self.messages.next(&mut rest)? {
            match event {
                Event::Start { compressed, length } => self.begin(compressed, length, out),
                Event::Payload(part) => self.payload(chunk, part, out),
                Event::End => self.end(out),
            }
        }
        Ok(())
    }

    fn begin(&mut self, flag: u8, length: u32, out: &mut VecDeque<Bytes>) {
        let scan = match &self.renaming {
            Renaming::Request { adapter, .. } => Scan::Request(adapter.request_scan(false)),
            Renaming::Response { adapter, peek, .. } => {
                Scan::Response(adapter.response_scan(*peek, length as usize))
            }
        };
        self.current = Current::Held { flag, length, bytes: Vec::new(), scan: Box::new(scan) };
        self.settle(out);
    }

    fn payload(&mut self, chunk: &Bytes, part: &[u8], out: &mut VecDeque<Bytes>) {
        match &mut self.current {
            Current::Through(_) => out.push_back(chunk.slice_ref(part)),
            Current::Held { flag, bytes, scan, .. } => {
                bytes.extend_from_slice(part);
                if *flag == 0 {
                    scan.feed(part);
                    self.settle(out);
                }
            }
        }
    }

    /// Lets an uncompressed message go once it is known what to append.
    fn settle(&mut self, out: &mut VecDeque<Bytes>) {
        let Current::Held { flag: 0, length, bytes, scan } = &mut self.current else { return };
        let Some(suffix) = self.renaming.suffix(scan) else { return };
        // Only a limit of 4 GiB could make the sum too long; then the message keeps its name.
        let (length, suffix) =
            match u32::try_from(suffix.len()).ok().and_then(|more| length.checked_add(more)) {
                Some(longer) => (longer, suffix),
                None => (*length, Bytes::new()),
            };
        out.push_back(Bytes::copy_from_slice(&prefix(0, length)));
        if !bytes.is_empty() {
            out.push_back(Bytes::from(std::mem::take(bytes)));
        }
        self.current = Current::Through(suffix);
    }

    fn end(&mut self, out: &mut VecDeque<Bytes>) {
        if let Current::Held { flag: 0, scan, .. } = &mut self.current {
            scan.finish();
            self.settle(out);
        }
        match std::mem::replace(&mut self.current, Current::Through(Bytes::new())) {
            Current::Through(suffix) if suffix.is_empty() => {}
            Current::Through(suffix) => out.push_back(suffix),
            Current::Held { flag, bytes, scan, .. } => self.inflated(flag, bytes, *scan, out),
        }
    }

    /// Sends a message that was held whole: renamed where it can be read, else as it came.
    fn inflated(&self, flag: u8, bytes: Vec<u8>, mut scan: Scan, out: &mut VecDeque<Bytes>) {
        let plain = match &self.encoding {
            Some(encoding) if flag == 1 => inflate(encoding.as_bytes(), &bytes, self.limit).ok(),
            _ => None,
        };
        let renamed = plain.and_then(|mut plain| {
            if let Scan::Response(known) = &mut scan
                && let Renaming::Response { adapter, peek, .. } = &self.renaming
            {
                *known = adapter.response_scan(*peek, plain.len());
            }
            scan.feed(&plain);
            scan.finish();
            let suffix = self.renaming.suffix(&scan).filter(|suffix| !suffix.is_empty())?;
            plain.extend_from_slice(&suffix);
            u32::try_from(plain.len()).ok().map(|length| (0, length, plain))
        });
        // A held message is never longer than its 32-bit prefix said.
        let (flag, length, bytes) = renamed.unwrap_or((flag, bytes.len() as u32, bytes));
        out.push_back(Bytes::copy_from_slice(&prefix(flag, length)));
        if !bytes.is_empty() {
            out.push_back(Bytes::from(bytes));
        }
    }
}

impl Renaming {
    /// What to append; `None` while that is not known.
    fn suffix(&self, scan: &Scan) -> Option<Bytes> {
        match (self, scan) {
            (Renaming::Request { asked, suffix, .. }, Scan::Request(scan)) => {
                scan.enough().then(|| if scan.head().model == *asked { suffix.clone() } else { Bytes::new() })
            }
            (Renaming::Response { adapter, peek, name, version }, Scan::Response(scan)) => {
                adapter.rename_response(*peek, Some(name), version.as_deref(), scan)
            }
            _ => Some(Bytes::new()),
        }
    }
}

impl Scan {
    fn feed(&mut self, bytes: &[u8]) {
        let read = match self {
            Scan::Request(scan) => scan.feed(bytes),
            Scan::Response(scan) => scan.feed(bytes),
            Scan::Broken => Ok(()),
        };
        if read.is_err() {
            *self = Scan::Broken;
        }
    }

    fn finish(&mut self) {
        let finished = match self {
            Scan::Request(scan) => scan.finish(),
            Scan::Response(scan) => scan.finish(),
            Scan::Broken => Ok(()),
        };
        if finished.is_err() {
            *self = Scan::Broken;
        }
    }
}

#[cfg(test)]
mod tests;
