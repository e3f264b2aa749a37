//! An answer that was made of several, or chosen among them, on its way to the caller.

use std::collections::VecDeque;
use std::task::Poll;

use bytes::Bytes;
use http::HeaderMap;

use super::{Call, Served};
use crate::dispatch::gather::Reply;
use crate::dispatch::rename::{Renamer, Renaming};
use crate::dispatch::sending::{Sent, Tail, send};
use crate::dispatch::stall::Stall;
use crate::dispatch::upload::Upload;
use crate::dispatch::{Answering, Delivery, Journal, Shipment};
use crate::fault::{Code, Failure};
use crate::outcome::merged::Merged;
use crate::protocol::frame::{Event, Messages, prefix};
use crate::protocol::{Peek, encoding};
use crate::proxy::plan::Plan;
use crate::server::respond::Responder;

impl Call<'_> {
    /// Hands an answer to the caller.
    pub(super) async fn give(
        &self,
        shipment: &Shipment<'_>,
        served: Served,
        upload: &mut Upload,
        respond: &mut Responder,
        journal: &mut Journal,
    ) -> Delivery {
        let Served { variant, reply, message } = served;
        let said = reply.said();
        let Reply { mut head, trailers, status, body } = reply;
        let made = message.is_some();
        let body = match message {
            None => body,
            Some(message) => {
                // A message that its sender's bound let through, or little more.
                let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
                vec![Bytes::copy_from_slice(&prefix(0, length)), message]
            }
        };
        let compressed = head.get(&encoding::HEADER).cloned().filter(|_| !made);
        let down = shipment.origin.renaming(variant).map(|(_, down)| down);
        let renamed = down.is_some();
        let queue = match down {
            None => VecDeque::from(body),
            Some(down) => renamed_as(down, compressed, body, shipment.limits.message.bytes()),
        };
        if made || renamed {
            head.remove(http::header::CONTENT_LENGTH);
        }
        if made {
            head.remove(&encoding::HEADER);
        }
        let baseline = self.plan.rollout.model.baseline();
        let instead_of = (variant != baseline).then_some(baseline);
        shipment.origin.tag(Answering { variant, instead_of }, &mut head);
        let only = trailers.is_none();
        journal.received.messages = u64::from(!queue.is_empty());
        journal.received.bytes = queue.iter().map(|chunk| chunk.len() as u64).sum();
        journal.received.learnt.reported_version = self.version(&queue);
        if let Some(tee) = upload.tee() {
            queue.iter().for_each(|chunk| tee.answer(chunk));
        }
        upload.commit();
        if respond.headers(http::StatusCode::OK, head, only).is_err() {
            return Delivery::Cancelled;
        }
        journal.received.answered = true;
        if only {
            return Delivery::Answered { status, message: said };
        }
        if let Err(delivery) = self.send(queue, respond).await {
            return delivery;
        }
        let mut trailers = trailers.unwrap_or_default();
        crate::dispatch::strip_reserved(&mut trailers);
        match respond.trailers(trailers) {
            Ok(()) => Delivery::Answered { status, message: said },
            Err(_) => Delivery::Cancelled,
        }
    }

    /// The version that an answer names, where it is not compressed.
    fn version(&self, queue: &VecDeque<Bytes>) -> Option<Box<str>> {
        let mut messages = Messages::new(usize::MAX);
        let mut scan = None;
        for chunk in queue {
            let walked = messages.walk(chunk, |event| match event {
                Event::Start { compressed: 0, length } => {
                    scan = Some(self.call.adapter.response_scan(Peek::Unary, length as usize));
                }
                Event::Payload(part) => {
                    // An answer that cannot be read names nothing.
                    let _ = scan.as_mut().map(|scan| scan.feed(part));
                }
                _ => {}
            });
            if walked.is_err() {
                return None;
            }
        }
        let mut scan = scan?;
        scan.finish().ok()?;
        scan.reported_version().map(Into::into)
    }

    /// Sends all of it, as fast as the caller takes it.
    async fn send(&self, mut queue: VecDeque<Bytes>, respond: &mut Responder) -> Result<(), Delivery> {
        let mut stall = Stall::default();
        let mut left = usize::MAX;
        let limits = &self.plan.serving.config.limits;
        std::future::poll_fn(|cx| {
            if respond.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(Delivery::Cancelled));
            }
            let Some(stream) = respond.stream() else { return Poll::Ready(Err(Delivery::Cancelled)) };
            match send(stream, &mut queue, &mut Tail::More, &mut 0, cx) {
                Sent::All => Poll::Ready(Ok(())),
                Sent::Closed => Poll::Ready(Err(Delivery::Cancelled)),
                Sent::Blocked => {
                    let now = queue.iter().map(Bytes::len).sum();
                    let moved = now < std::mem::replace(&mut left, now);
                    stall.poll(cx, &self.worker.stalls, moved).map(|()| {
                        let stall = limits.stall;
                        let message =
                            format!("the caller left the stream standing for {stall:?} (limits.stall)");
                        Err(Delivery::Stuck(Failure::client(Code::UNAVAILABLE, message)))
                    })
                }
            }
        })
        .await
    }
}

/// The chunks of an answer under the name that the caller asked for.
fn renamed_as(
    down: Renaming,
    encoding: Option<http::HeaderValue>,
    body: Vec<Bytes>,
    limit: usize,
) -> VecDeque<Bytes> {
    let mut renamer = Renamer::new(down, encoding, limit);
    let mut queue = VecDeque::new();
    for chunk in &body {
        if renamer.push(chunk, &mut queue).is_err() {
            // It was within the same bound when it came.
            return VecDeque::from(body);
        }
    }
    queue
}

/// Says in response metadata whose lists an answer is made of, and who dropped out.
pub(in crate::proxy) fn tag(plan: &Plan<'_>, merged: &Merged, headers: &mut HeaderMap) {
    let variant = |index: usize| plan.rollout.model.variants.get(index).map_or("", |variant| &*variant.name);
    let put = |headers: &mut HeaderMap, name, text: String| {
        // Names of variants are letters, digits and a few signs.
        if let Some(value) = http::HeaderValue::from_str(&text).ok().filter(|_| !text.is_empty()) {
            headers.insert(name, value);
        }
    };
    if merged.is_merged() {
        let within = merged.rankers.iter().filter(|ranker| ranker.dropped.is_none());
        let names: Vec<&str> = within.map(|ranker| variant(ranker.variant)).collect();
        put(headers, crate::serving::INTERLEAVED, names.join(","));
    }
    let dropped = merged.rankers.iter().filter_map(|ranker| Some((ranker.variant, ranker.dropped?)));
    let told: Vec<String> = dropped.map(|(who, why)| format!("{}:{}", variant(who), why.name())).collect();
    put(headers, crate::serving::DROPPED, told.join(","));
}
