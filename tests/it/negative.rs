//! What a server may do to a call without breaking HTTP/2: the cases of gRPC's negative interoperability tests that need
//! frames by hand. Calls that can end well do, the others fail with one status, and the connection goes on.
//!
//! The cases of GOAWAY and of one stream at a time are in `retry`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parhelion::telemetry::counter::Counter;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

use crate::support::attack::{
    DATA, END_HEADERS, END_STREAM, HEADERS, PING, SETTINGS, WINDOW_UPDATE, block, frame, framed, reset,
};
use crate::support::process::beside;
use crate::support::{Answer, Client, Sidecar, eventually, pinned};

const PATH: &str = "/any.Service/Method";
const ACK: u8 = 1;
const PADDED: u8 = 8;
/// The size of the answer in the cases of frames of five bytes.
const LARGE: usize = 314_159;

/// What a server does to calls; probes it answers in good order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    /// The answer's headers, then a reset by this code.
    AfterHeader(u32),
    /// Half of a message, then a reset.
    DuringData(u32),
    /// A whole message, then a reset.
    AfterData(u32),
    /// PINGs between any two frames of the answer.
    Pings,
    /// A large message in frames of five bytes, with as much padding as there may be, or none.
    Small { padded: bool },
    /// Nothing at all.
    Silent,
    /// As a server that lets nobody open a stream at first, and then one.
    Later,
}

#[derive(Debug, Default)]
struct Seen {
    /// PINGs of the sidecar, and its acknowledgements of ours.
    pings: AtomicUsize,
    acknowledged: AtomicUsize,
    calls: AtomicUsize,
    connections: AtomicUsize,
}

struct Server {
    url: String,
    seen: Arc<Seen>,
}

impl Server {
    async fn start(case: Case) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (url, seen) = (format!("http://{}", listener.local_addr().unwrap()), Arc::<Seen>::default());
        let shared = Arc::clone(&seen);
        beside(async move {
            while let Ok((socket, _)) = listener.accept().await {
                socket.set_nodelay(true).unwrap();
                let seen = Arc::clone(&shared);
                // An error is the peer's leaving.
                beside(async move { Connection::new(socket, case, seen).run().await });
            }
        });
        Server { url, seen }
    }

    fn count(&self, of: impl Fn(&Seen) -> &AtomicUsize) -> usize {
        of(&self.seen).load(Ordering::Relaxed)
    }
}

/// What is to be written, and what it takes of the windows.
struct Out {
    stream: u32,
    cost: i64,
    bytes: Vec<u8>,
}

struct Connection {
    read: OwnedReadHalf,
    write: Arc<Mutex<OwnedWriteHalf>>,
    case: Case,
    seen: Arc<Seen>,
    queue: VecDeque<Out>,
    bodies: HashMap<u32, Vec<u8>>,
    windows: HashMap<u32, i64>,
    /// Of the connection, and what a stream begins with.
    window: i64,
    initial: i64,
}

impl Connection {
    fn new(socket: TcpStream, case: Case, seen: Arc<Seen>) -> Self {
        let (read, write) = socket.into_split();
        let (queue, bodies, windows) = Default::default();
        let (write, window, initial) = (Arc::new(Mutex::new(write)), 65_535, 65_535);
        Connection { read, write, case, seen, queue, bodies, windows, window, initial }
    }

    async fn run(mut self) -> std::io::Result<()> {
        let mut preface = [0; 24];
        self.read.read_exact(&mut preface).await?;
        self.seen.connections.fetch_add(1, Ordering::Relaxed);
        let settings = if self.case == Case::Later { most(0) } else { frame(SETTINGS, 0, 0, &[]) };
        self.write.lock().await.write_all(&settings).await?;
        if self.case == Case::Later {
            let write = Arc::clone(&self.write);
            beside(async move {
                tokio::time::sleep(Duration::from_millis(500)).await;
                write.lock().await.write_all(&most(1)).await
            });
        }
        loop {
            let mut head = [0; 9];
            self.read.read_exact(&mut head).await?;
            let [a, b, c, kind, flags, id @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.read.read_exact(&mut payload).await?;
            self.heed(kind, flags, u32::from_be_bytes(id), &payload);
            self.pump().await?;
        }
    }

    fn heed(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let number = |bytes: &[u8]| i64::from(u32::from_be_bytes(bytes.try_into().unwrap()));
        match kind {
            SETTINGS if flags & ACK == 0 => {
                for setting in payload.chunks(6).filter(|setting| setting[..2] == [0, 4]) {
                    let more = number(&setting[2..]) - self.initial;
                    self.initial += more;
                    self.windows.values_mut().for_each(|window| *window += more);
                }
                self.say(0, frame(SETTINGS, ACK, 0, &[]));
            }
            PING if flags & ACK == 0 => {
                self.seen.pings.fetch_add(1, Ordering::Relaxed);
                self.say(0, frame(PING, ACK, 0, payload));
            }
            PING => drop(self.seen.acknowledged.fetch_add(1, Ordering::Relaxed)),
            WINDOW_UPDATE if stream == 0 => self.window += number(payload),
            WINDOW_UPDATE => *self.windows.entry(stream).or_insert(self.initial) += number(payload),
            DATA => {
                self.windows.entry(stream).or_insert(self.initial);
                self.bodies.entry(stream).or_default().extend(payload);
                if flags & END_STREAM != 0 {
                    let body = self.bodies.remove(&stream).unwrap_or_default();
                    self.answer(stream, body.get(5..).unwrap_or_default());
                }
            }
            _ => {}
        }
    }

    fn say(&mut self, stream: u32, bytes: Vec<u8>) {
        self.queue.push_back(Out { stream, cost: 0, bytes });
    }

    fn data(&mut self, stream: u32, bytes: &[u8], padding: Option<u8>) {
        let payload = match padding {
            None => bytes.to_vec(),
            Some(length) => [&[length][..], bytes, &vec![0; usize::from(length)]].concat(),
        };
        let flags = if padding.is_some() { PADDED } else { 0 };
        let out = Out { stream, cost: payload.len() as i64, bytes: frame(DATA, flags, stream, &payload) };
        self.queue.push_back(out);
    }

    fn ping(&mut self) {
        if self.case == Case::Pings {
            self.say(0, frame(PING, 0, 0, b"are you?"));
        }
    }

    /// Calls are told from probes by their message.
    fn answer(&mut self, stream: u32, message: &[u8]) {
        let is_call = message.starts_with(b"call");
        self.seen.calls.fetch_add(usize::from(is_call), Ordering::Relaxed);
        if is_call && self.case == Case::Silent {
            return;
        }
        self.ping();
        let head = block(&[(":status", b"200"), ("content-type", b"application/grpc")]);
        self.say(stream, frame(HEADERS, END_HEADERS, stream, &head));
        self.ping();
        let message = framed(0, &[8, 1]);
        match self.case {
            Case::AfterHeader(code) if is_call => return self.say(stream, reset(stream, code)),
            Case::DuringData(code) if is_call => {
                self.data(stream, &message[..6], None);
                return self.say(stream, reset(stream, code));
            }
            Case::AfterData(code) if is_call => {
                self.data(stream, &message, None);
                return self.say(stream, reset(stream, code));
            }
            Case::Small { padded } if is_call => {
                for five in framed(0, &[7; LARGE]).chunks(5) {
                    self.data(stream, five, padded.then_some(255));
                }
            }
            _ => self.data(stream, &message, None),
        }
        self.ping();
        let trailers = block(&[("grpc-status", b"0")]);
        self.say(stream, frame(HEADERS, END_HEADERS | END_STREAM, stream, &trailers));
        self.ping();
    }

    /// Writes what the windows allow.
    async fn pump(&mut self) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        while let Some(next) = self.queue.front() {
            let stream = self.windows.entry(next.stream).or_insert(self.initial);
            if next.cost > self.window.min(*stream) {
                break;
            }
            *stream -= next.cost;
            self.window -= next.cost;
            bytes.extend(self.queue.pop_front().unwrap().bytes);
        }
        self.write.lock().await.write_all(&bytes).await
    }
}

/// SETTINGS_MAX_CONCURRENT_STREAMS.
fn most(streams: u32) -> Vec<u8> {
    crate::support::attack::setting(3, streams)
}

async fn before(case: Case) -> (Server, Sidecar, Client) {
    let server = Server::start(case).await;
    let sidecar = Sidecar::start(&pinned(&[&server.url])).await;
    let client = Client::connect(sidecar.address).await;
    (server, sidecar, client)
}

async fn ask(client: &Client) -> Answer {
    client.unary(PATH, &[], b"call").await
}

#[tokio::test]
async fn resets_behind_headers_within_and_behind_a_message_fail_the_call_alone() {
    for code in [0, 2, 8] {
        for case in [Case::AfterHeader(code), Case::DuringData(code), Case::AfterData(code)] {
            let (server, sidecar, client) = before(case).await;
            for _ in 0..3 {
                let answer = ask(&client).await;
                assert!(answer.status().is_some_and(|status| status != 0), "{case:?}: {answer:?}");
                // What was whole may have been told; a piece never is.
                let whole = usize::from(matches!(case, Case::AfterData(_)));
                assert!(answer.messages.len() <= whole, "{case:?}: {answer:?}");
            }
            assert_eq!(server.count(|seen| &seen.calls), 3, "{case:?}: none is sent twice");
            assert_eq!(sidecar.count(Counter::UpstreamConnects), 1, "{case:?}: the connection goes on");
        }
    }
}

#[tokio::test]
async fn pings_between_any_two_frames_are_acknowledged() {
    let (server, _sidecar, client) = before(Case::Pings).await;
    for _ in 0..10 {
        assert_eq!(ask(&client).await.status(), Some(0));
    }
    eventually("fifty acknowledgements", || (server.count(|seen| &seen.acknowledged) >= 50).then_some(()))
        .await;
}

#[tokio::test]
async fn a_large_answer_in_frames_of_five_bytes_is_no_flood() {
    for padded in [false, true] {
        let (server, sidecar, client) = before(Case::Small { padded }).await;
        for _ in 0..2 {
            let answer = ask(&client).await;
            assert_eq!((answer.status(), answer.broken), (Some(0), None), "padded: {padded}");
            assert!(answer.texts() == [&[7; LARGE][..]], "padded: {padded}");
        }
        assert_eq!(server.count(|seen| &seen.calls), 2);
        assert_eq!(sidecar.count(Counter::UpstreamConnects), 1, "padded: {padded}");
    }
}

#[tokio::test]
async fn calls_wait_for_a_server_that_lets_nobody_in_yet() {
    let (_server, sidecar, client) = before(Case::Later).await;
    let mut calls = Vec::new();
    for _ in 0..10 {
        let mut call = client.open(PATH, &[]).await;
        call.send_last(b"call").await;
        calls.push(call);
    }
    for call in calls {
        let answer = call.answer().await;
        assert_eq!(answer.status(), Some(0), "{answer:?}");
    }
    assert_eq!(sidecar.count(Counter::RetriesTransparent), 0);
}

#[tokio::test]
async fn a_server_that_takes_its_time_is_not_pinged() {
    let (server, _sidecar, client) = before(Case::Silent).await;
    let mut call = client.open(PATH, &[]).await;
    call.send_last(b"call").await;
    eventually("the call", || (server.count(|seen| &seen.calls) == 1).then_some(())).await;
    // Servers take a PING every few seconds for an attack. Nothing tells of what does not happen but time.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(server.count(|seen| &seen.pings), 0);
    call.reset(h2::Reason::CANCEL);
    assert!(server.count(|seen| &seen.connections) <= 2, "one for probes, one for calls");
}
