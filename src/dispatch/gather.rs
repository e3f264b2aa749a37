//! Asks several variants at once for the whole answer to one message, for who makes one answer of theirs.
//!
//! Each is one stream of its own, made again elsewhere only where a server provably never processed it. Whoever is late
//! is broken off; until the first good answer there is, nobody is late but by the call's own deadline. Answers are held
//! whole, each at most `limits.message`.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request};
use tokio::time::timeout_at;

use super::ending::answered_by;
use super::rename::Renamer;
use super::sending::{Sent, Tail, send};
use super::{ATTEMPTS, Answering, Shipment, broken_by, is_refused};
use crate::fault::{Blame, Code, Failure};
use crate::outcome::Attempt;
use crate::protocol::encoding::{self, inflate};
use crate::protocol::frame::{Messages, PREFIX};
use crate::protocol::timeout;
use crate::server::respond::{GRPC_MESSAGE, percent_decode};
use crate::upstream::connection::InFlight;
use crate::upstream::endpoint::Endpoint;
use crate::wire::piece::Piece;

/// A variant's whole answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Its headers.
    pub head: HeaderMap,
    /// Its trailers; none where it is headers only.
    pub trailers: Option<HeaderMap>,
    /// As it says.
    pub status: Code,
    /// Its bytes as they came, prefix and all.
    pub body: Vec<Bytes>,
}

/// Why there is no answer of a variant.
#[derive(Debug, Clone)]
pub enum Miss {
    /// It has no endpoint that is ready.
    NotReady(String),
    /// It broke off, or could not be reached.
    Broken(Code, String),
    /// Its answer is too long, or none.
    Framing(String),
    /// Others had answered when its time was over.
    Late(Duration),
}

/// What became of one variant that was asked.
#[derive(Debug)]
pub struct Asked {
    /// Index into the model's variants.
    pub variant: usize,
    /// What it answered.
    pub reply: Result<Reply, Miss>,
    /// What was sent to it; the last of them is the one that counts.
    pub attempts: Vec<Attempt>,
}

/// What is under way; none where it has ended.
type Open<'a, T> = Vec<Option<Pin<Box<dyn Future<Output = T> + 'a>>>>;

/// Attempts of one variant that are under way.
type Sending = RefCell<Vec<Attempt>>;

impl Reply {
    /// Whether it says OK and is one whole message.
    pub fn is_good(&self) -> bool {
        self.status == Code::OK && !self.body.is_empty()
    }

    /// For people, where it failed.
    pub fn said(&self) -> Option<Box<str>> {
        let last = self.trailers.as_ref().unwrap_or(&self.head);
        last.get(&GRPC_MESSAGE).map(|said| percent_decode(said.as_bytes()).into())
    }

    /// Its message without the prefix, inflated to at most `limit` bytes where it is compressed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn message(&self, limit: usize) -> Result<Bytes, String> {
        let whole = match &self.body[..] {
            [one] => one.clone(),
            several => several.concat().into(),
        };
        let Some(([flag, ..], _)) = whole.split_first_chunk::<PREFIX>() else {
            return Err("it is no message".to_owned());
        };
        let compressed = *flag == 1;
        let message = whole.slice(PREFIX..);
        if !compressed {
            return Ok(message);
        }
        let encoding = self.head.get(&encoding::HEADER).map_or(&b""[..], HeaderValue::as_bytes);
        inflate(encoding, &message, limit).map(Bytes::from).map_err(|error| error.to_string())
    }
}

impl Shipment<'_> {
    /// Sends `message` to all of `variants` and waits for their answers. Whoever has not answered when `patience` is over
    /// is late, once another's answer is `good`.
    pub async fn gather(
        &self,
        variants: &[usize],
        message: &[Bytes],
        patience: Option<Duration>,
        mut good: impl FnMut(&Asked) -> bool,
    ) -> Vec<Asked> {
        let sendings: Vec<Sending> = variants.iter().map(|_| Sending::default()).collect();
        let mut open: Open<'_, Result<Reply, Miss>> = Vec::new();
        for (variant, sending) in variants.iter().zip(&sendings) {
            open.push(Some(Box::pin(self.ask(*variant, message, sending))));
        }
        let mut asked: Vec<Option<Asked>> = variants.iter().map(|_| None).collect();
        let (begun, mut has_good) = (Instant::now(), false);
        let until = patience.and_then(|patience| begun.checked_add(patience));
        let mut late = false;
        loop {
            let next = std::future::poll_fn(|cx| poll_any(&mut open, cx));
            let ended = match until.filter(|_| !late) {
                Some(until) => timeout_at(until.into(), next).await.ok(),
                None => Some(next.await),
            };
            match ended {
                Some(Some((index, reply))) => {
                    let attempts = sendings[index].take();
                    let one = Asked { variant: variants[index], reply, attempts };
                    has_good |= good(&one);
                    asked[index] = Some(one);
                }
                Some(None) => break,
                None => late = true,
            }
            if late && has_good {
                break;
            }
        }
        // Dropping them breaks their streams off.
        drop(open);
        let told = asked.into_iter().enumerate().map(|(index, asked)| {
            let late = || self.late(variants[index], begun.elapsed(), sendings[index].take());
            asked.unwrap_or_else(late)
        });
        told.collect()
    }

    /// What the caller is told where nobody has an answer for it.
    pub fn failure(&self, asked: &Asked) -> Failure {
        let model = &self.rollout.model;
        let variant = model.variants.get(asked.variant).map_or("", |variant| &*variant.name);
        let endpoint = asked.attempts.last().map_or("", |attempt| &*attempt.endpoint);
        let (code, why) = match &asked.reply {
            Err(Miss::NotReady(why)) => (Code::UNAVAILABLE, why.clone()),
            Err(Miss::Broken(code, why)) => (*code, why.clone()),
            Err(Miss::Framing(why)) => (Code::INTERNAL, why.clone()),
            Err(Miss::Late(took)) => (Code::DEADLINE_EXCEEDED, format!("no answer within {took:?}")),
            Ok(reply) => (reply.status, reply.said().unwrap_or_default().into()),
        };
        let place = if endpoint.is_empty() { String::new() } else { format!(", endpoint {endpoint}") };
        Failure::upstream(code, format!("model {}, variant {variant}{place}: {why}", model.name))
    }

    /// One that had not answered when its time was over.
    fn late(&self, variant: usize, took: Duration, mut attempts: Vec<Attempt>) -> Asked {
        let had_time = took >= self.limits.min_deadline;
        if let Some(last) = attempts.last_mut() {
            last.status = Code::DEADLINE_EXCEEDED;
            last.blame = if had_time { Blame::Upstream } else { Blame::Nobody };
            last.elapsed = self.arrived.elapsed().saturating_sub(last.offset);
            let endpoints = self.rollout.variants[variant].upstream.endpoints();
            let endpoint = endpoints.iter().find(|endpoint| *endpoint.name() == last.endpoint);
            if let Some(endpoint) = endpoint.filter(|_| had_time) {
                endpoint.report(true, Instant::now());
            }
        }
        Asked { variant, reply: Err(Miss::Late(took)), attempts }
    }

    /// Asks one variant until a server has processed the call.
    async fn ask(&self, variant: usize, message: &[Bytes], sending: &Sending) -> Result<Reply, Miss> {
        let mut tried: Vec<Arc<str>> = Vec::new();
        loop {
            let upstream = &self.rollout.variants[variant].upstream;
            let Some(endpoint) = upstream.choose(&tried, Instant::now(), false).cloned() else {
                return Err(Miss::NotReady(upstream.why()));
            };
            let load = endpoint.enter();
            let answering = Answering { variant, instead_of: None };
            let own = Shipment { answering, ..*self };
            let (outcome, processed) = own.ask_at(&endpoint, message, sending).await;
            drop(load);
            if processed || tried.len() + 1 >= ATTEMPTS || upstream.endpoints().len() <= tried.len() {
                return outcome;
            }
            tried.push(Arc::clone(endpoint.name()));
        }
    }

    /// One attempt; and whether a server may have processed it.
    async fn ask_at(
        &self,
        endpoint: &Rc<Endpoint>,
        message: &[Bytes],
        sending: &Sending,
    ) -> (Result<Reply, Miss>, bool) {
        let renaming = self.origin.renaming(self.answering.variant).map(|(up, _)| up);
        let mut headers = self.metadata(renaming.is_some());
        sending.borrow_mut().push(Attempt {
            span: self.origin.trace(&mut headers),
            variant: self.answering.variant,
            endpoint: Arc::clone(endpoint.name()),
            runs: self.rollout.runs(self.answering.variant, endpoint),
            offset: self.arrived.elapsed(),
            elapsed: Duration::ZERO,
            status: Code::CANCELLED,
            blame: Blame::Nobody,
        });
        let (reply, processed) = match self.exchange(endpoint, headers, renaming, message).await {
            Ok(reply) => (Ok(reply), true),
            Err((miss, processed)) => (Err(miss), processed),
        };
        let status = match &reply {
            Ok(reply) => reply.status,
            Err(Miss::Broken(code, _)) => *code,
            Err(Miss::Framing(_)) => Code::INTERNAL,
            Err(Miss::NotReady(_) | Miss::Late(_)) => Code::UNAVAILABLE,
        };
        let misframed = reply.as_ref().is_ok_and(|reply| reply.status == Code::OK && !reply.is_good());
        let blame = match &reply {
            _ if misframed => Blame::Upstream,
            Ok(_) => status.blame(true),
            Err(_) => Blame::Upstream,
        };
        let gray = reply.is_err() || matches!(status, Code::UNAVAILABLE | Code::DEADLINE_EXCEEDED);
        let gray = gray && blame == Blame::Upstream;
        endpoint.report(gray, Instant::now());
        if !gray {
            endpoint.answered();
        }
        if let Some(attempt) = sending.borrow_mut().last_mut() {
            attempt.status = status;
            attempt.blame = blame;
            attempt.elapsed = self.arrived.elapsed().saturating_sub(attempt.offset);
        }
        (reply, processed)
    }

    /// Sends and receives; an error says whether a server may have processed the call.
    async fn exchange(
        &self,
        endpoint: &Rc<Endpoint>,
        mut headers: HeaderMap,
        renaming: Option<super::rename::Renaming>,
        message: &[Bytes],
    ) -> Result<Reply, (Miss, bool)> {
        let unreached = |why: String| (Miss::Broken(Code::UNAVAILABLE, why), false);
        let connection = endpoint.connection().await.map_err(unreached)?;
        if let Some(deadline) = self.deadline {
            let mut rest = timeout::encode(deadline.saturating_duration_since(Instant::now()));
            // Hardly seen again: not for the HPACK tables.
            rest.set_sensitive(true);
            headers.insert(timeout::HEADER.clone(), rest);
        }
        if endpoint.target().endpoint.hop {
            headers.insert(crate::hop::HEADER, self.origin.hop(self.answering.variant));
        }
        let limit = self.limits.message.bytes();
        let encoding = self.headers.get(&encoding::HEADER).cloned();
        let mut queue: VecDeque<Bytes> = VecDeque::new();
        match renaming.map(|renaming| Renamer::new(renaming, encoding, limit)) {
            None => queue.extend(message.iter().cloned()),
            Some(mut renamer) => {
                for chunk in message {
                    let pushed = renamer.push(chunk, &mut queue);
                    pushed.map_err(|error| (Miss::Framing(error.to_string()), true))?;
                }
            }
        }
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        let opened = connection.open(request);
        let (response, stream) = opened.map_err(|error| unreached(error.to_string()))?;
        let id = response.stream_id().as_u32();
        let ahead = connection.ahead();
        let place = connection.enter(id);
        let mut wire = Wire {
            stream,
            queue,
            tail: Tail::End(None),
            ahead,
            down: Down::Waiting(response),
            messages: Messages::new(limit),
            body: Vec::new(),
        };
        let ended = std::future::poll_fn(|cx| wire.poll(cx)).await;
        wire.conclude(ended, id, &place)
    }
}

/// The first that has ended; none: none is left.
fn poll_any<T>(open: &mut Open<'_, T>, cx: &mut Context<'_>) -> Poll<Option<(usize, T)>> {
    let mut left = false;
    for (index, place) in open.iter_mut().enumerate() {
        let Some(future) = place else { continue };
        left = true;
        if let Poll::Ready(done) = future.as_mut().poll(cx) {
            *place = None;
            return Poll::Ready(Some((index, done)));
        }
    }
    if left { Poll::Pending } else { Poll::Ready(None) }
}

/// One stream.
struct Wire {
    stream: SendStream<Piece>,
    queue: VecDeque<Bytes>,
    tail: Tail,
    ahead: usize,
    down: Down,
    messages: Messages,
    body: Vec<Bytes>,
}

enum Down {
    Waiting(ResponseFuture),
    Reading(http::response::Parts, RecvStream),
}

/// How a stream ended.
enum Ended {
    Whole(Reply),
    Broken(h2::Error),
    Framing(String),
}

impl Drop for Wire {
    fn drop(&mut self) {
        // Does nothing to a stream that has ended.
        self.stream.send_reset(Reason::CANCEL);
    }
}

impl Wire {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        if !matches!(self.tail, Tail::Sent)
            && let Sent::Closed = send(&mut self.stream, &mut self.queue, &mut self.tail, &mut self.ahead, cx)
        {
            // Its answer says why it takes no more.
            self.tail = Tail::Sent;
        }
        loop {
            match &mut self.down {
                Down::Waiting(response) => {
                    let (head, body) = match ready!(Pin::new(response).poll(cx)) {
                        Ok(response) => response.into_parts(),
                        Err(error) => return Poll::Ready(Ended::Broken(error)),
                    };
                    if body.is_end_stream() {
                        let status = answered_by(&head.headers, head.status.as_u16());
                        let reply = Reply { head: head.headers, trailers: None, status, body: Vec::new() };
                        return Poll::Ready(Ended::Whole(reply));
                    }
                    self.down = Down::Reading(head, body);
                }
                Down::Reading(head, body) => match ready!(body.poll_data(cx)) {
                    Some(Ok(data)) => {
                        // Fails only for a stream that is closed, which then shows at the next read.
                        let _ = body.flow_control().release_capacity(data.len());
                        if let Err(error) = self.messages.skip(&data) {
                            return Poll::Ready(Ended::Framing(error.to_string()));
                        }
                        self.body.push(data);
                    }
                    Some(Err(error)) => return Poll::Ready(Ended::Broken(error)),
                    None => {
                        let trailers = match ready!(body.poll_trailers(cx)) {
                            Ok(trailers) => trailers,
                            Err(error) => return Poll::Ready(Ended::Broken(error)),
                        };
                        let http = head.status.as_u16();
                        let status = trailers
                            .as_ref()
                            .map_or(Code::from_http(http), |trailers| answered_by(trailers, http));
                        let head = std::mem::take(&mut head.headers);
                        return Poll::Ready(self.whole(head, trailers, status));
                    }
                },
            }
        }
    }

    /// A reply; a good one is one whole message.
    fn whole(&mut self, head: HeaderMap, trailers: Option<HeaderMap>, status: Code) -> Ended {
        if status == Code::OK && (self.messages.count() != 1 || self.messages.unfinished()) {
            return Ended::Framing(format!("{} messages, where one was expected", self.messages.count()));
        }
        Ended::Whole(Reply { head, trailers, status, body: std::mem::take(&mut self.body) })
    }

    fn conclude(self, ended: Ended, id: u32, place: &InFlight) -> Result<Reply, (Miss, bool)> {
        match ended {
            Ended::Whole(reply) => {
                place.complete();
                Ok(reply)
            }
            Ended::Framing(why) => Err((Miss::Framing(why), true)),
            Ended::Broken(error) => {
                place.complete();
                let never = is_refused(&error) || place.connection().never_processed(id);
                Err((Miss::Broken(broken_by(&error), error.to_string()), !never))
            }
        }
    }
}
