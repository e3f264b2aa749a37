//! Puts queued bytes onto a stream as far as its peer's window goes: the same towards callers, model servers and
//! shadows.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use h2::SendStream;
use http::HeaderMap;

use crate::wire::piece::Piece;

/// What follows the bytes that are queued for a stream.
#[derive(Debug)]
pub(crate) enum Tail {
    /// More bytes.
    More,
    /// Its end, with trailers where there are any.
    End(Option<HeaderMap>),
    /// Nothing: its end is out.
    Sent,
}

/// How far sending came.
pub(crate) enum Sent {
    /// Everything is out.
    All,
    /// The peer's window is full.
    Blocked,
    /// The stream takes no more.
    Closed,
}

/// Bytes that are read at most before they are sent on.
pub(super) const GATHER: usize = 16 * 1024;
/// What a chunk counts for at least, so that chunks of one byte are not gathered without end.
pub(super) const LEAST: usize = 16;

/// Chunks below this are put together into one frame.
const SMALL: usize = 4 * 1024;

/// Puts the small chunks that the queue begins with into one.
fn join(queue: &mut VecDeque<Bytes>) {
    let small = queue.iter().take_while(|chunk| chunk.len() < SMALL).count();
    if small < 2 {
        return;
    }
    let mut whole = BytesMut::with_capacity(queue.iter().take(small).map(Bytes::len).sum());
    queue.drain(..small).for_each(|chunk| whole.extend_from_slice(&chunk));
    queue.push_front(whole.freeze());
}

/// Sends what is queued as far as the peer's window goes, and the end behind it. The first `ahead` bytes wait for no
/// window.
pub(crate) fn send(
    stream: &mut SendStream<Piece>,
    queue: &mut VecDeque<Bytes>,
    tail: &mut Tail,
    ahead: &mut usize,
    cx: &mut Context<'_>,
) -> Sent {
    loop {
        join(queue);
        let Some(front) = queue.front_mut() else { break };
        if front.is_empty() {
            queue.pop_front();
            continue;
        }
        let room = match room(stream, front.len(), ahead, cx) {
            Ok(0) => continue,
            Ok(room) => room,
            Err(sent) => return sent,
        };
        let part = front.split_to(room.min(front.len()));
        let whole = front.is_empty();
        if whole {
            queue.pop_front();
        }
        let last = whole && queue.is_empty() && matches!(tail, Tail::End(None));
        if stream.send_data(part.into(), last).is_err() {
            return Sent::Closed;
        }
        if last {
            *tail = Tail::Sent;
        }
    }
    match std::mem::replace(tail, Tail::Sent) {
        Tail::More => *tail = Tail::More,
        Tail::Sent => {}
        Tail::End(None) => {
            if stream.send_data(Bytes::new().into(), true).is_err() {
                return Sent::Closed;
            }
        }
        Tail::End(Some(trailers)) => {
            if stream.send_trailers(trailers).is_err() {
                return Sent::Closed;
            }
        }
    }
    Sent::All
}

/// How many of `wanted` bytes may be sent now.
fn room(
    stream: &mut SendStream<Piece>,
    wanted: usize,
    ahead: &mut usize,
    cx: &mut Context<'_>,
) -> Result<usize, Sent> {
    if wanted <= *ahead {
        *ahead -= wanted;
        return Ok(wanted);
    }
    *ahead = 0;
    stream.reserve_capacity(wanted);
    match stream.capacity() {
        0 => match stream.poll_capacity(cx) {
            Poll::Pending => Err(Sent::Blocked),
            Poll::Ready(Some(Ok(room))) => Ok(room),
            Poll::Ready(Some(Err(_)) | None) => Err(Sent::Closed),
        },
        room => Ok(room),
    }
}
