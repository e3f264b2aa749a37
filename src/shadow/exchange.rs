//! A copy on the wire: sent once, never again, and its answer read to its end or to the shadow's cap.
//!
//! It yields after every few reads, so that a shadow that floods keeps no live call of the same thread waiting.

use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request};

use super::SHADOW;
use super::copy::Job;
use super::link::{Link, Part, Side, alone};
use super::record::Skip;
use crate::config::OnCancel;
use crate::dispatch::ending::answered_by;
use crate::dispatch::rename::{Renamer, Renaming};
use crate::dispatch::sending::{Sent, Tail, send};
use crate::dispatch::{broken_by, is_refused};
use crate::fault::Code;
use crate::protocol::frame::Messages;
use crate::protocol::{Peek, encoding, timeout};
use crate::upstream::connection::{InFlight, Unopened};
use crate::wire::piece::Piece;

/// Reads between two turns of others.
const TURN: usize = 16;

/// How a copy ended on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The shadow answered, to its last byte.
    Answered(Code),
    /// It never got the call.
    Unreachable,
    /// It broke off.
    Broken(Code),
    /// What it sends are no gRPC messages, or one is over `limits.message`, or more than the one of a unary answer.
    Framing,
    /// Its answer alone is more than all copies together may hold.
    ResponseCap,
    /// The call's side ended it.
    Left(Skip),
    /// Its deadline fell.
    Expired,
}

/// What is known of a copy however it ends.
#[derive(Debug, Default)]
pub struct Facts {
    /// Where it was sent.
    pub endpoint: Option<Arc<str>>,
    /// Whether the whole request was sent, or the shadow wanted no more of it.
    pub whole: bool,
    /// Whether the shadow is what the copy waits for: a connection, or a window to send in.
    pub owed: bool,
    /// Bytes of the answer.
    pub bytes: u64,
    /// Messages of the answer.
    pub messages: u64,
}

/// Sends a copy and reads its answer.
pub(super) async fn exchange(job: &Job, link: &Link, facts: &mut Facts) -> End {
    let Some(endpoint) = job.shadow.upstream.choose(&[], Instant::now(), false).cloned() else {
        return End::Unreachable;
    };
    facts.endpoint = Some(Arc::clone(endpoint.name()));
    facts.owed = true;
    let _load = endpoint.enter();
    let Ok(connection) = endpoint.connection().await else { return End::Unreachable };
    let headers = headers(job, endpoint.target().endpoint.hop);
    let mut request = Request::new(());
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = job.call.uri.clone();
    *request.headers_mut() = headers;
    let (response, stream) = match connection.open(request) {
        Ok(opened) => opened,
        Err(Unopened::TooLarge { .. }) => return End::Left(Skip::TooLarge),
        Err(Unopened::Closed(_)) => return End::Unreachable,
    };
    let id = response.stream_id().as_u32();
    let ahead = connection.ahead();
    let place = connection.enter(id);
    let mut wire = Wire::new(job, link, facts, (response, stream));
    wire.ahead = ahead;
    let end = std::future::poll_fn(|cx| wire.poll(cx)).await;
    wire.finish(end, id, &place)
}

/// The metadata of a copy: the call's, less what is not for the shadow, and its own.
fn headers(job: &Job, hop: bool) -> HeaderMap {
    let mut headers = job.call.headers.clone();
    for name in &job.shadow.config.strip {
        headers.remove(name);
    }
    headers.insert(SHADOW, HeaderValue::from_static("true"));
    let mut rest = timeout::encode(job.until.saturating_duration_since(Instant::now()));
    // Never seen again, so it has no place in the connection's table of headers.
    rest.set_sensitive(true);
    headers.insert(timeout::HEADER.clone(), rest);
    if hop {
        let value = crate::hop::sign(&job.worker.keys, job.call.prediction, job.shadow.name());
        headers.insert(crate::hop::HEADER, value);
    }
    job.worker.recorder.inject(&mut headers, &job.trace, job.trace.span_id);
    headers
}

struct Wire<'a> {
    link: &'a Link,
    facts: &'a mut Facts,
    on_cancel: OnCancel,
    /// Whether its answer is one message.
    unary: bool,
    /// Largest message, largest answer.
    limits: (usize, u64),
    stream: SendStream<Piece>,
    renamer: Option<Renamer>,
    queue: VecDeque<Bytes>,
    tail: Tail,
    /// Bytes that still may go before there is a window.
    ahead: usize,
    down: Down,
}

enum Down {
    Waiting(ResponseFuture),
    /// With the HTTP status, which counts where there is no gRPC one.
    Reading(RecvStream, Messages, u16),
}

impl Drop for Wire<'_> {
    fn drop(&mut self) {
        // Does nothing to a stream that has ended.
        self.stream.send_reset(Reason::CANCEL);
    }
}

impl<'a> Wire<'a> {
    fn new(
        job: &Job,
        link: &'a Link,
        facts: &'a mut Facts,
        (response, stream): (ResponseFuture, SendStream<Piece>),
    ) -> Self {
        let encoding = job.call.headers.get(&encoding::HEADER).cloned();
        let renaming = job.call.asked.as_ref().and_then(|asked| {
            let suffix = job.suffix(asked);
            let adapter = job.call.adapter;
            (!suffix.is_empty()).then(|| Renaming::Request { adapter, asked: asked.clone(), suffix })
        });
        Wire {
            link,
            facts,
            on_cancel: job.shadow.config.on_cancel,
            unary: job.call.peek == Some(Peek::Unary),
            limits: (job.call.message, job.shadow.config.bytes.0),
            stream,
            renamer: renaming.map(|renaming| Renamer::new(renaming, encoding, job.call.message)),
            queue: VecDeque::new(),
            tail: Tail::More,
            ahead: 0,
            down: Down::Waiting(response),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.on_cancel == OnCancel::End && self.link.is_cancelled() {
            return Poll::Ready(End::Left(Skip::Cancelled));
        }
        if let Some(end) = self.poll_up(cx) {
            return Poll::Ready(end);
        }
        for _ in 0..TURN {
            if let Some(end) = ready!(self.poll_down(cx)) {
                return Poll::Ready(end);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sends what is there; `Some` where the copy ends by it.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Option<End> {
        self.facts.owed = true;
        while !matches!(self.tail, Tail::Sent) {
            if !self.queue.is_empty() || matches!(self.tail, Tail::End(_)) {
                match send(&mut self.stream, &mut self.queue, &mut self.tail, &mut self.ahead, cx) {
                    // Its answer says why it takes no more.
                    Sent::Closed => self.tail = Tail::Sent,
                    Sent::All => {}
                    Sent::Blocked => return None,
                }
                continue;
            }
            match self.link.poll_part(cx) {
                Poll::Pending => {
                    self.facts.owed = false;
                    return None;
                }
                Poll::Ready(Part::Data(data)) => match &mut self.renamer {
                    Some(renamer) => {
                        if renamer.push(&data, &mut self.queue).is_err() {
                            // A message over the limit, which ends the call itself too.
                            return Some(End::Left(Skip::Incomplete));
                        }
                    }
                    None => self.queue.push_back(data),
                },
                Poll::Ready(Part::End(trailers)) => self.tail = Tail::End(trailers),
                Poll::Ready(Part::Broken(skip)) => return Some(End::Left(skip)),
            }
        }
        self.facts.whole = true;
        // The caller may still give up.
        let _ = self.link.poll_primary(cx);
        None
    }

    /// Reads one piece; `Some` where the copy ends by it.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Option<End>> {
        match &mut self.down {
            Down::Waiting(response) => {
                let response = match ready!(Pin::new(response).poll(cx)) {
                    Ok(response) => response,
                    Err(error) => return Poll::Ready(Some(self.broken(&error))),
                };
                let (head, body) = response.into_parts();
                self.link.encoding(Side::Shadow, head.headers.get(&encoding::HEADER));
                if body.is_end_stream() {
                    let status = answered_by(&head.headers, head.status.as_u16());
                    return Poll::Ready(Some(End::Answered(status)));
                }
                self.down = Down::Reading(body, Messages::new(self.limits.0), head.status.as_u16());
                Poll::Ready(None)
            }
            Down::Reading(body, messages, http) => match ready!(body.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Fails only for a stream that is closed, which then shows at the next read.
                    let _ = body.flow_control().release_capacity(data.len());
                    self.facts.bytes += data.len() as u64;
                    let framed = messages.skip(&data);
                    self.facts.messages = messages.count();
                    let second = messages.count() > 1 || messages.count() == 1 && messages.unfinished();
                    let bad = framed.is_err() || self.unary && second;
                    Poll::Ready(self.keep(&data, bad))
                }
                Some(Err(error)) => Poll::Ready(Some(self.broken(&error))),
                None => {
                    let unfinished = messages.unfinished();
                    let trailers = match ready!(body.poll_trailers(cx)) {
                        Ok(trailers) => trailers,
                        Err(error) => return Poll::Ready(Some(self.broken(&error))),
                    };
                    let http = *http;
                    let status =
                        trailers.map_or(Code::from_http(http), |trailers| answered_by(&trailers, http));
                    let end = if unfinished { End::Framing } else { End::Answered(status) };
                    Poll::Ready(Some(end))
                }
            },
        }
    }

    fn keep(&mut self, data: &Bytes, bad: bool) -> Option<End> {
        if bad {
            return Some(End::Framing);
        }
        if self.facts.bytes > self.limits.1 {
            return Some(End::ResponseCap);
        }
        if self.link.is_comparing() {
            self.link.hold(Side::Shadow, &alone(data));
        }
        None
    }

    fn broken(&self, error: &h2::Error) -> End {
        if is_refused(error) { End::Unreachable } else { End::Broken(broken_by(error)) }
    }

    fn finish(self, end: End, id: u32, place: &InFlight) -> End {
        match end {
            End::Answered(_) if matches!(self.tail, Tail::Sent) => place.complete(),
            End::Broken(_) if place.connection().never_processed(id) => {
                place.complete();
                return End::Unreachable;
            }
            End::Broken(_) | End::Unreachable => place.complete(),
            _ => {}
        }
        end
    }
}

/// A shared link is as good as one of one's own.
pub(super) async fn primary(link: &Rc<Link>) -> Option<super::record::PrimaryEnd> {
    std::future::poll_fn(|cx| link.poll_primary(cx)).await
}
