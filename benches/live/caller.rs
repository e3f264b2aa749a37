//! Callers in an open loop: calls begin when they are due, whatever became of those before, and how long one waits is
//! counted from that moment on.
//!
//! A call in its turn may be a stranger's: it has one millisecond of time, is cancelled, or holds rubbish. Strangers
//! have a connection of their own, and half of them are the same ten units again and again.

use std::collections::{BTreeMap, HashSet};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use h2::client::{Connection, SendRequest};
use http::{HeaderMap, Request, header};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::message;
use crate::wire::{Cork, Wire};

const PATH: &str = "/inference.GRPCInferenceService/ModelInfer";
const CONNECTIONS: usize = 8;
/// One call in so many is a stranger's, where there are strangers.
const STRANGE: u64 = 20;
/// So long after its message a stranger's call is cancelled.
const SOON: Duration = Duration::from_millis(1);
/// Calls that have not ended so long after the last one began are hung.
const PATIENCE: Duration = Duration::from_secs(5);
const WINDOW: u32 = 8 << 20;

/// Whom to call, how often, and how.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) to: SocketAddr,
    /// A second.
    pub(crate) rate: u32,
    /// Models `m0`, `m1`, …, in turn.
    pub(crate) models: u32,
    /// Units of their own that calls come from, in turn.
    pub(crate) users: u64,
    /// Whether a twentieth of the calls is strange.
    pub(crate) strangers: bool,
}

/// What callers saw.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Calls of those who are not strangers.
    pub(crate) calls: u64,
    /// Those that did not end in an OK with its message.
    pub(crate) failures: BTreeMap<String, u64>,
    /// Those that the baseline answered for the candidate.
    pub(crate) fell_back: u64,
    /// The longest wait of all.
    pub(crate) longest: Duration,
    /// The longest wait of those that went to the baseline at once.
    pub(crate) longest_baseline: Duration,
    /// Calls of strangers, by what they are and how they ended.
    pub(crate) strange: BTreeMap<String, u64>,
    /// Units that were given to the candidate.
    had: HashSet<u64>,
    /// Calls of such units after that, and those of them that were given to the baseline.
    pub(crate) returned: u64,
    pub(crate) moved_back: u64,
}

impl Seen {
    /// Calls of strangers.
    pub(crate) fn strangers(&self) -> u64 {
        self.strange.values().sum()
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    fn add(&mut self, unit: u64, result: Result<Answer, String>, waited: Duration) {
        self.calls += 1;
        self.longest = self.longest.max(waited);
        if let Ok(answer) = &result {
            let candidate = answer.fell_back || !answer.baseline;
            if candidate && self.had.insert(unit) {
                // It comes for the first time.
            } else if self.had.contains(&unit) {
                self.returned += 1;
                self.moved_back += u64::from(!candidate);
            }
        }
        match result {
            Ok(answer) if answer.fell_back => self.fell_back += 1,
            Ok(answer) if answer.baseline => self.longest_baseline = self.longest_baseline.max(waited),
            Ok(_) => {}
            Err(why) => *self.failures.entry(why).or_default() += 1,
        }
    }
}

/// A good answer.
struct Answer {
    fell_back: bool,
    baseline: bool,
}

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sound,
    Hasty,
    Leaving,
    /// Bytes that are no message at all.
    Noise,
    /// A message that names its model and then breaks off.
    Broken,
}

/// Calls under way, and what became of the others.
pub(crate) struct Callers {
    stop: Arc<AtomicBool>,
    loops: JoinSet<()>,
    seen: Arc<Mutex<Seen>>,
}

/// Starts calling.
pub(crate) fn start(script: Script) -> Callers {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::<Mutex<Seen>>::default();
    let mut loops = JoinSet::new();
    loops.spawn(open_loop(script, Arc::clone(&stop), Arc::clone(&seen)));
    Callers { stop, loops, seen }
}

impl Callers {
    /// No call begins any more; what was seen when those under way have ended.
    pub(crate) async fn stop(mut self) -> Seen {
        self.stop.store(true, Ordering::Release);
        while self.loops.join_next().await.is_some() {}
        lock(&self.seen).clone()
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn open_loop(script: Script, stop: Arc<AtomicBool>, seen: Arc<Mutex<Seen>>) {
    let links: Arc<[Link]> = (0..=CONNECTIONS).map(|_| Link::new(script.to)).collect();
    let messages: Arc<[Bytes]> =
        (0..script.models).map(|model| message::request(&format!("m{model}"), 300)).collect();
    let (tell, mut due) = mpsc::unbounded_channel();
    let rate = f64::from(script.rate);
    let users = script.users;
    // A thread of its own sleeps to within 100 µs; the runtime's own timer only to a millisecond.
    std::thread::spawn(move || {
        let begun = Instant::now();
        for number in 0_u64.. {
            let at = begun + Duration::from_secs_f64(number as f64 / rate);
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            if stop.load(Ordering::Acquire) || tell.send((number, at)).is_err() {
                return;
            }
        }
    });
    let mut under_way = JoinSet::new();
    while let Some((number, at)) = due.recv().await {
        let turn = number / u64::from(script.models);
        let strange = script.strangers && turn.is_multiple_of(STRANGE);
        let kind = if strange { stranger(turn / STRANGE) } else { Kind::Sound };
        let message = &messages[(number % u64::from(script.models)) as usize];
        let place = if strange { CONNECTIONS } else { number as usize % CONNECTIONS };
        let (links, message, seen) = (Arc::clone(&links), message.clone(), Arc::clone(&seen));
        under_way.spawn(async move {
            let user = user(number, turn, kind, users);
            let result = call(&links[place], &user, message, kind).await;
            let mut seen = lock(&seen);
            match kind {
                Kind::Sound => seen.add(number % users, result, at.elapsed()),
                _ => *seen.strange.entry(told(kind, &result)).or_default() += 1,
            }
        });
        while under_way.try_join_next().is_some() {}
    }
    let all = async { while under_way.join_next().await.is_some() {} };
    if tokio::time::timeout(PATIENCE, all).await.is_err() {
        let hung = under_way.len() as u64;
        let mut seen = lock(&seen);
        seen.calls += hung;
        *seen.failures.entry("hung".to_owned()).or_default() += hung;
    }
}

fn stranger(turn: u64) -> Kind {
    [Kind::Hasty, Kind::Leaving, Kind::Noise, Kind::Broken][(turn % 4) as usize]
}

/// What a stranger's call was, and how it ended: its status without the words.
fn told(kind: Kind, result: &Result<Answer, String>) -> String {
    let end = match result {
        Ok(_) => "status 0".to_owned(),
        Err(why) => why.split(' ').take(2).collect::<Vec<_>>().join(" "),
    };
    format!("{kind:?}: {end}").to_lowercase()
}

fn user(number: u64, turn: u64, kind: Kind, users: u64) -> String {
    match kind {
        Kind::Sound => format!("user-{}", number % users),
        _ if (turn / STRANGE / 4).is_multiple_of(2) => format!("stranger-{}", number % 10),
        _ => format!("user-{}", number % users),
    }
}

/// One call to its last trailer.
async fn call(link: &Link, user: &str, message: Bytes, kind: Kind) -> Result<Answer, String> {
    let timeout = if kind == Kind::Hasty { "1m" } else { "1S" };
    let request = Request::post(format!("http://{}{PATH}", link.to))
        .header(header::TE, "trailers")
        .header(header::CONTENT_TYPE, "application/grpc")
        .header("x-user-id", user)
        .header("grpc-timeout", timeout)
        .body(())
        .map_err(|error| error.to_string())?;
    let message = match kind {
        Kind::Noise => Bytes::from_static(b"\0\0\0\0\x08\xff\xff\xff\xff\xff\xff\xff\xff"),
        Kind::Broken => broken(&message),
        Kind::Sound | Kind::Hasty | Kind::Leaving => message,
    };
    let broke = |error: h2::Error| format!("broken: {error}");
    let (response, mut stream) = link.ready().await?.send_request(request, false).map_err(broke)?;
    stream.send_data(message, true).map_err(broke)?;
    if kind == Kind::Leaving {
        tokio::time::sleep(SOON).await;
        stream.send_reset(h2::Reason::CANCEL);
        return Err("cancelled".to_owned());
    }
    let (head, mut body) = response.await.map_err(broke)?.into_parts();
    if let Some(status) = head.headers.get("grpc-status") {
        return Err(described(status, &head.headers));
    }
    let mut length = 0;
    while let Some(piece) = body.data().await {
        let piece = piece.map_err(broke)?;
        length += piece.len();
        body.flow_control().release_capacity(piece.len()).map_err(broke)?;
    }
    let trailers = body.trailers().await.map_err(broke)?.unwrap_or_default();
    match trailers.get("grpc-status") {
        Some(status) if status == "0" && length > message::PREFIX => Ok(Answer {
            fell_back: head.headers.contains_key("parhelion-fallback-from"),
            baseline: head.headers.get("parhelion-variant").is_some_and(|variant| variant == "v1"),
        }),
        Some(status) => Err(described(status, &trailers)),
        None => Err("no status".to_owned()),
    }
}

/// A status, with the sidecar's words where it has some.
fn described(status: &http::HeaderValue, headers: &HeaderMap) -> String {
    let words =
        headers.get("grpc-message").map(|words| String::from_utf8_lossy(words.as_bytes()).into_owned());
    format!("status {} {}", String::from_utf8_lossy(status.as_bytes()), words.unwrap_or_default())
}

/// The front of a message, which names its model, and behind it bytes that no message has.
fn broken(message: &Bytes) -> Bytes {
    // A tag, a length below 128, the name; seven is no type of a field.
    let end = message::PREFIX + 2 + usize::from(message[message::PREFIX + 1]);
    let mut all = BytesMut::zeroed(message::PREFIX);
    all.extend_from_slice(&message[message::PREFIX..end]);
    all.extend_from_slice(&[7; 4]);
    all[message::PREFIX - 1] = (all.len() - message::PREFIX) as u8;
    all.freeze()
}

/// One connection, opened again where the sidecar ends it.
struct Link {
    to: SocketAddr,
    open: tokio::sync::Mutex<Open>,
}

#[derive(Default)]
struct Open {
    sender: Option<SendRequest<Bytes>>,
    /// Of this connection, and of those before it to their end.
    drivers: JoinSet<()>,
}

impl Link {
    fn new(to: SocketAddr) -> Self {
        Link { to, open: tokio::sync::Mutex::default() }
    }

    /// A sender that may send.
    async fn ready(&self) -> Result<SendRequest<Bytes>, String> {
        let held = self.open.lock().await.sender.clone();
        if let Some(held) = held
            && let Ok(ready) = held.ready().await
        {
            return Ok(ready);
        }
        let mut open = self.open.lock().await;
        let socket = TcpStream::connect(self.to).await.map_err(|error| format!("connect: {error}"))?;
        socket.set_nodelay(true).map_err(|error| format!("connect: {error}"))?;
        let (wire, cork) = Wire::new(socket);
        let handshake = h2::client::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .enable_push(false)
            .handshake(wire);
        let (sender, connection) = handshake.await.map_err(|error| format!("handshake: {error}"))?;
        open.drivers.spawn(drive(connection, cork));
        open.sender = Some(sender.clone());
        drop(open);
        sender.ready().await.map_err(|error| format!("broken: {error}"))
    }
}

/// Runs a connection to its end and writes what each poll of it produced.
async fn drive(mut connection: Connection<Wire, Bytes>, cork: Cork) {
    poll_fn(|cx| {
        let ended = Pin::new(&mut connection).poll(cx).is_ready();
        match cork.poll_drain(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(()),
            _ if ended => Poll::Ready(()),
            _ => Poll::Pending,
        }
    })
    .await;
}
