//! The answer on its way down: what one upstream sends, looked at as it passes.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;

use super::exchange::Terms;
use super::rename::Renamer;
use super::sending::Tail;
use crate::protocol::frame::{Event, FrameError, Messages};
use crate::protocol::{Peek, ResponseScan};

/// What was learnt from the response's messages.
#[derive(Debug, Default)]
pub struct Learnt {
    /// Model version that the server named.
    pub reported_version: Option<Box<str>>,
    /// An error that the server said inside an OK stream.
    pub in_band_error: Option<Box<str>>,
}

/// What came back from an upstream.
#[derive(Debug, Default)]
pub struct Received {
    /// Whether response headers went to the caller.
    pub answered: bool,
    /// From the messages.
    pub learnt: Learnt,
    /// Bytes, as they came.
    pub bytes: u64,
    /// Whole messages.
    pub messages: u64,
}

/// One answer.
pub(super) struct Download {
    body: RecvStream,
    /// The response's HTTP status, which counts where there is no gRPC one.
    pub(super) http: u16,
    pub(super) messages: Messages,
    renamer: Option<Renamer>,
    /// What waits for the caller.
    pub(super) queue: VecDeque<Bytes>,
    scan: Option<ResponseScan>,
    /// Whether a further message could tell more.
    curious: bool,
    pub(super) tail: Tail,
}

/// What came next.
pub(super) enum Read {
    /// That many bytes, which are queued.
    Bytes(usize),
    /// The end, with trailers where there are any.
    End(Option<HeaderMap>),
    /// The upstream broke off.
    Broken(h2::Error),
    /// A message is over the limit.
    TooLarge(FrameError),
}

impl Download {
    /// Of the response whose headers said `http`.
    pub(super) fn new(body: RecvStream, http: u16, renamer: Option<Renamer>, terms: &Terms<'_>) -> Self {
        Download {
            body,
            http,
            messages: Messages::new(terms.message),
            renamer,
            queue: VecDeque::new(),
            scan: None,
            curious: terms.reader.is_some(),
            tail: Tail::More,
        }
    }

    /// The next bytes of the upstream, looked at and queued for the caller.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, terms: &mut Terms<'_>) -> Poll<Read> {
        match self.body.poll_data(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(data))) => {
                // Fails only for a stream that is closed, which then shows at the next read.
                let _ = self.body.flow_control().release_capacity(data.len());
                if let Some(tee) = &terms.tee {
                    tee.answer(&data);
                }
                let looked = self.look(&data, terms);
                let renamed = looked.and_then(|()| match &mut self.renamer {
                    Some(renamer) => renamer.push(&data, &mut self.queue),
                    None => {
                        self.queue.push_back(data.clone());
                        Ok(())
                    }
                });
                Poll::Ready(match renamed {
                    Ok(()) => Read::Bytes(data.len()),
                    Err(error) => Read::TooLarge(error),
                })
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Read::Broken(error)),
            Poll::Ready(None) => self.body.poll_trailers(cx).map(|trailers| match trailers {
                Ok(trailers) => Read::End(trailers),
                Err(error) => Read::Broken(error),
            }),
        }
    }

    fn look(&mut self, data: &[u8], terms: &mut Terms<'_>) -> Result<(), FrameError> {
        let Some((adapter, peek)) = terms.reader.filter(|_| self.curious) else {
            return self.messages.skip(data);
        };
        let (scan, curious) = (&mut self.scan, &mut self.curious);
        let learnt = &mut terms.received.learnt;
        self.messages.walk(data, |event| match event {
            // A compressed answer is not inflated only to be looked at.
            Event::Start { compressed: 0, length } => {
                *scan = Some(adapter.response_scan(peek, length as usize))
            }
            Event::Start { .. } => *scan = None,
            Event::Payload(part) => {
                // An answer that cannot be read passes as it is; nothing is learnt from it.
                let _ = scan.as_mut().map(|scan| scan.feed(part));
            }
            Event::End => {
                if let Some(mut scan) = scan.take() {
                    let _ = scan.finish();
                    learnt.take(&scan);
                }
                *curious = peek == Peek::Stream;
            }
        })
    }
}

impl Learnt {
    fn take(&mut self, scan: &ResponseScan) {
        if self.reported_version.is_none() {
            self.reported_version = scan.reported_version().map(Into::into);
        }
        if let Some(error) = scan.in_band_error() {
            self.in_band_error = Some(error.into());
        }
    }
}
