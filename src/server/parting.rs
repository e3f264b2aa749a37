//! How a connection ends when we want it to: it is told to go at its age or at a drain, its calls finish, and a cut leaves
//! them a last word.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context as Cx, Poll};
use std::time::Duration;

use h2::server;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use super::Phase;
use super::connection::drive;
use crate::config::Limits;
use crate::wire::piece::Piece;
use crate::wire::socket::Socket;
use crate::wire::{Cork, Corked};

/// How long a connection may take to send what its calls still had to say once they are cut.
pub const LAST_WORDS: Duration = Duration::from_millis(500);
/// How long a peer may take to answer the PING of a graceful GOAWAY once it has no call open.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long answers may wait for each other and for a GOAWAY.
const PARTING: Duration = Duration::from_millis(100);
/// After so long without a new call those who wait for answers have sent what they had to send.
const QUIET: Duration = Duration::from_millis(10);

type Connection = server::Connection<Corked<Socket>, Piece>;

/// Says GOAWAY so that callers lose no call by it whose libraries are late to hear it. Some find out about a GOAWAY only as
/// they send their next call while another is open (Rust's hyper); some give a call to the connection between an answer
/// and a GOAWAY behind it, and write it after both are read (Node). Either call was never sent, and fails. So for a
/// moment nothing leaves: callers who wait for answers have soon sent what they had to send, and when no call is open any
/// more GOAWAY leaves in one write with all their answers, before them.
#[derive(Default)]
pub(super) struct Parting(Option<Moment>);

struct Moment {
    /// When all leaves in any case.
    latest: Pin<Box<Sleep>>,
    /// When callers count as having nothing more to send.
    quiet: Pin<Box<Sleep>>,
    /// The newest stream that they opened.
    newest: u32,
}

impl Parting {
    /// Says that the connection is to go.
    pub(super) fn begin(&mut self, cork: &Cork<Socket>, connection: &mut Connection) {
        cork.hold();
        connection.graceful_shutdown();
        let after = |time| Box::pin(tokio::time::sleep(time));
        self.0 = Some(Moment {
            latest: after(PARTING),
            quiet: after(QUIET),
            newest: cork.watch().newest_stream(),
        });
    }

    /// Polls the connection, and lets all leave as soon as it is time.
    pub(super) fn poll(
        &mut self,
        cork: &Cork<Socket>,
        connection: &mut Connection,
        cx: &mut Cx<'_>,
        mut poll: impl FnMut(&mut Connection, &mut Cx<'_>) -> Poll<Result<(), h2::Error>>,
    ) -> Poll<Result<(), h2::Error>> {
        let polled = poll(connection, cx);
        let Some(moment) = &mut self.0 else { return polled };
        if polled.is_ready() || !moment.has_come(cork.watch().newest_stream(), connection.has_streams(), cx) {
            return polled;
        }
        self.0 = None;
        cork.let_go();
        poll(connection, cx)
    }
}

impl Moment {
    fn has_come(&mut self, newest: u32, busy: bool, cx: &mut Cx<'_>) -> bool {
        if newest != self.newest {
            self.newest = newest;
            self.quiet.as_mut().reset(Instant::now() + QUIET);
        }
        let is_quiet = self.quiet.as_mut().poll(cx).is_ready();
        self.latest.as_mut().poll(cx).is_ready() || (is_quiet && !busy)
    }
}

/// When a connection is told to go, and when it must be gone.
pub(super) struct Age {
    at: Option<Instant>,
    grace: Duration,
}

impl Age {
    pub(super) fn new(limits: &Limits) -> Self {
        let at = limits.connection_age.map(|age| {
            // A tenth by chance: connections made together need not all end together.
            Instant::now() + age.mul_f64(rand::RngExt::random_range(&mut rand::rng(), 0.9..=1.1))
        });
        Age { at, grace: limits.connection_age_grace }
    }

    /// Ready at the age, and again when the grace after it is over.
    pub(super) async fn next(&mut self) {
        match self.at {
            None => std::future::pending().await,
            Some(at) => {
                tokio::time::sleep_until(at).await;
                self.at = Some(at + self.grace);
            }
        }
    }
}

/// Ready when a peer that has not even said its preface is waited for no longer, because the process ends.
pub(super) async fn last_chance(mut phase: watch::Receiver<Phase>) {
    // A sender that is gone means the same as a cut.
    let draining = phase.wait_for(|phase| *phase != Phase::Serving).await.is_ok();
    if draining {
        let _ = tokio::time::timeout(FAREWELL, phase.wait_for(|phase| *phase == Phase::Cut)).await;
    }
}

/// Ready when a peer that was told to go, and leaves our PING unanswered, is waited for no longer.
pub(super) async fn farewell(leaving: Option<Instant>) {
    match leaving {
        None => std::future::pending().await,
        Some(since) => tokio::time::sleep_until(since + FAREWELL).await,
    }
}

/// Waits for the phase that a connection must act on next.
pub(super) async fn next_phase(phase: &mut watch::Receiver<Phase>, leaving: bool) -> Phase {
    let next = phase.wait_for(|phase| *phase == Phase::Cut || (!leaving && *phase == Phase::Draining)).await;
    next.map_or(Phase::Cut, |phase| *phase)
}

/// Sends what the calls that were cut have to say, and GOAWAY behind it.
pub(super) async fn last_words(cork: &Cork<Socket>, connection: &mut Connection) {
    cork.let_go();
    // The calls were woken by the same change as this connection, and may come after it.
    let spoken = poll_fn(|cx| {
        let polled = drive(cork, cx, |cx| {
            while let Some(stream) = std::task::ready!(connection.poll_accept(cx)) {
                stream?.1.send_reset(h2::Reason::REFUSED_STREAM);
            }
            Poll::Ready(Ok(()))
        });
        if polled.is_ready() || !connection.has_streams() { Poll::Ready(()) } else { Poll::Pending }
    });
    let _ = tokio::time::timeout(LAST_WORDS / 2, spoken).await;
    connection.abrupt_shutdown(h2::Reason::NO_ERROR);
    let closing = poll_fn(|cx| drive(cork, cx, |cx| connection.poll_closed(cx)));
    let _ = tokio::time::timeout(LAST_WORDS / 2, closing).await;
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use h2::server::SendResponse;
    use http::Response;

    use super::*;
    use crate::wire::watch::FrameWatch;
    use crate::wire::{Scratch, cork};

    const HEADERS: u8 = 1;
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;

    /// A connection on which somebody has begun two calls, and what it says to them.
    struct Scene {
        far: std::os::unix::net::UnixStream,
        cork: Cork<Socket>,
        connection: Connection,
        parting: Parting,
        calls: Vec<SendResponse<Piece>>,
    }

    impl Scene {
        async fn new() -> Self {
            let (near, mut far) = std::os::unix::net::UnixStream::pair().unwrap();
            near.set_nonblocking(true).unwrap();
            far.set_nonblocking(true).unwrap();
            far.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0")
                .unwrap();
            for stream in [1, 3] {
                // POST, http, the path / and an authority; the request ends with them.
                far.write_all(&[0, 0, 6, HEADERS, 5, 0, 0, 0, stream, 0x83, 0x86, 0x84, 0x41, 1, b'a'])
                    .unwrap();
            }
            let near = Socket::Unix(tokio::net::UnixStream::from_std(near).unwrap());
            let (corked, cork) = cork(near, &Scratch::new(), FrameWatch::of_client());
            let mut shaking = server::Builder::new().handshake::<_, Piece>(corked);
            let connection = poll_fn(|cx| drive(&cork, cx, |cx| Pin::new(&mut shaking).poll(cx))).await;
            let connection = connection.unwrap();
            let mut scene = Scene { far, cork, connection, parting: Parting::default(), calls: Vec::new() };
            poll_fn(|cx| {
                scene.poll(cx);
                if scene.calls.len() == 2 { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            scene.said();
            scene.parting.begin(&scene.cork, &mut scene.connection);
            scene
        }

        fn poll(&mut self, cx: &mut Cx<'_>) {
            let Scene { cork, connection, parting, calls, .. } = self;
            let polled = parting.poll(cork, connection, cx, |connection, cx| {
                drive(cork, cx, |cx| {
                    while let Some(call) = std::task::ready!(connection.poll_accept(cx)) {
                        calls.push(call?.1);
                    }
                    Poll::Ready(Ok(()))
                })
            });
            assert!(polled.is_pending());
        }

        /// Answers a call, if one is named, and polls once; the kinds of the frames that left.
        async fn turn(&mut self, call: Option<usize>) -> Vec<u8> {
            if let Some(call) = call {
                self.calls[call].send_response(Response::new(()), true).unwrap();
            }
            poll_fn(|cx| {
                self.poll(cx);
                Poll::Ready(())
            })
            .await;
            self.said()
        }

        fn said(&mut self) -> Vec<u8> {
            let mut bytes = vec![0; 1 << 16];
            let read = self.far.read(&mut bytes).unwrap_or(0);
            let (mut rest, mut kinds) = (&bytes[..read], Vec::new());
            while let [_, _, length, kind, ..] = rest {
                kinds.push(*kind);
                rest = &rest[9 + usize::from(*length)..];
            }
            kinds
        }
    }

    #[tokio::test(start_paused = true)]
    async fn goaway_leaves_with_the_answers_that_come_soon_and_before_them() {
        let mut scene = Scene::new().await;
        assert!(scene.turn(None).await.is_empty());
        assert!(scene.turn(Some(0)).await.is_empty(), "another call is open");
        assert!(scene.turn(Some(1)).await.is_empty(), "a further call may be on its way");
        tokio::time::advance(QUIET + Duration::from_millis(1)).await;
        assert_eq!(scene.turn(None).await, [GOAWAY, PING, HEADERS, HEADERS]);
    }

    #[tokio::test(start_paused = true)]
    async fn goaway_waits_for_no_call_that_takes_long() {
        let mut scene = Scene::new().await;
        assert!(scene.turn(Some(0)).await.is_empty());
        tokio::time::advance(PARTING + Duration::from_millis(1)).await;
        assert_eq!(scene.turn(None).await, [GOAWAY, PING, HEADERS]);
        assert_eq!(scene.turn(Some(1)).await, [HEADERS]);
    }
}
