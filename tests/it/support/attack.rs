//! HTTP/2 by hand: frames that no library would send, from either side.
//!
//! Header blocks are literals without indexing, so a block means the same wherever it stands, and nothing needs the
//! peer's table.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::process::{beside, request};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// What every client sends first.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The path of one inference.
pub(crate) const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

/// The path of a stream of them.
pub(crate) const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// RST_STREAM.
pub(crate) fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// WINDOW_UPDATE.
pub(crate) fn window(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

/// SETTINGS of one value.
pub(crate) fn setting(id: u16, value: u32) -> Vec<u8> {
    let mut payload = id.to_be_bytes().to_vec();
    payload.extend(value.to_be_bytes());
    frame(SETTINGS, 0, 0, &payload)
}

/// A header block.
pub(crate) fn block(headers: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in headers {
        bytes.push(0);
        for text in [name.as_bytes(), value] {
            length(text.len(), &mut bytes);
            bytes.extend(text);
        }
    }
    bytes
}

/// A number of a prefix of seven bits.
fn length(mut number: usize, into: &mut Vec<u8>) {
    if number < 127 {
        into.push(number as u8);
        return;
    }
    into.push(127);
    number -= 127;
    while number >= 128 {
        into.push((number % 128 + 128) as u8);
        number /= 128;
    }
    into.push(number as u8);
}

/// The header block of a gRPC request, with more headers behind.
pub(crate) fn call(path: &str, more: &[(&str, &[u8])]) -> Vec<u8> {
    let mut headers: Vec<(&str, &[u8])> = vec![
        (":method", b"POST"),
        (":scheme", b"http"),
        (":path", path.as_bytes()),
        (":authority", b"test"),
        ("content-type", b"application/grpc"),
        ("te", b"trailers"),
    ];
    headers.extend(more);
    block(&headers)
}

/// A gRPC message: an inference request with that id.
pub(crate) fn message(id: &str) -> Vec<u8> {
    framed(0, &request(id).encode_to_vec())
}

/// A gRPC message with that flag.
pub(crate) fn framed(flag: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![flag];
    bytes.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// HEADERS and DATA of a stream of inferences that stays open on both sides. A server begins with it at once, while it
/// waits for the end of a unary request.
pub(crate) fn open_call(stream: u32, id: &str) -> Vec<u8> {
    let mut bytes = frame(HEADERS, END_HEADERS, stream, &call(STREAM, &[]));
    bytes.extend(frame(DATA, 0, stream, &message(id)));
    bytes
}

/// A frame that was received.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error code of RST_STREAM or GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// One connection of ours.
pub(crate) struct Raw {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Everything received so far.
    pub(crate) frames: Vec<Frame>,
    /// Whether the peer closed.
    pub(crate) closed: bool,
}

impl Raw {
    /// Only connects.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Raw { stream, buffer: Vec::new(), frames: Vec::new(), closed: false }
    }

    /// Connects and does what a client owes: preface, SETTINGS and their acknowledgement.
    pub(crate) async fn greet(address: SocketAddr, settings: &[u8]) -> Self {
        let mut raw = Self::connect(address).await;
        let own = if settings.is_empty() { frame(SETTINGS, 0, 0, &[]) } else { settings.to_vec() };
        raw.write(&[PREFACE, &own].concat()).await;
        raw.read_until(|raw| raw.count(SETTINGS) > 0, Duration::from_secs(10)).await;
        raw.write(&frame(SETTINGS, 1, 0, &[])).await;
        raw
    }

    /// Sends bytes, reading meanwhile what comes; returns whether all could be sent.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> bool {
        let mut sent = 0;
        let patience = Instant::now() + Duration::from_secs(2);
        while sent < bytes.len() && !self.closed && Instant::now() < patience {
            self.read_available();
            match timeout(Duration::from_millis(50), self.stream.writable()).await {
                Ok(Ok(())) => match self.stream.try_write(&bytes[sent..]) {
                    Ok(n) => sent += n,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => self.finish(),
                },
                Ok(Err(_)) => self.finish(),
                Err(_) => {}
            }
        }
        sent == bytes.len()
    }

    /// Sends bytes without ever reading; returns how many the peer took before it took no more for `patience`.
    pub(crate) async fn write_deaf(&mut self, bytes: &[u8], patience: Duration) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            match timeout(patience, self.stream.write(&bytes[sent..])).await {
                Ok(Ok(n)) => sent += n,
                _ => break,
            }
        }
        sent
    }

    /// Sends them again and again without ever reading, until the peer takes no more or `most` bytes were taken; how many.
    pub(crate) async fn flood_deaf(&mut self, bytes: &[u8], most: usize) -> usize {
        let mut taken = 0;
        while taken < most {
            let now = self.write_deaf(bytes, Duration::from_millis(500)).await;
            taken += now;
            if now < bytes.len() {
                break;
            }
        }
        taken
    }

    /// Reads for at most `within`, until `enough` holds or the peer closes; returns whether it held.
    pub(crate) async fn read_until(&mut self, enough: impl Fn(&Self) -> bool, within: Duration) -> bool {
        let end = Instant::now() + within;
        loop {
            self.read_available();
            if enough(self) {
                return true;
            }
            let rest = end.saturating_duration_since(Instant::now());
            if self.closed || rest.is_zero() {
                return false;
            }
            if let Ok(Err(_)) = timeout(rest, self.stream.readable()).await {
                self.finish();
            }
        }
    }

    /// Whether the peer closes within that time.
    pub(crate) async fn closes(&mut self, within: Duration) -> bool {
        self.read_until(|raw| raw.closed, within).await;
        self.closed
    }

    /// Frames of a kind received so far.
    pub(crate) fn count(&self, kind: u8) -> usize {
        self.frames.iter().filter(|frame| frame.kind == kind).count()
    }

    /// The newest frame of a kind.
    pub(crate) fn last(&self, kind: u8) -> Option<&Frame> {
        self.frames.iter().rev().find(|frame| frame.kind == kind)
    }

    /// The error code that a stream was reset with.
    pub(crate) fn reset_of(&self, stream: u32) -> Option<u32> {
        let mut resets = self.frames.iter().filter(|frame| frame.kind == RST_STREAM);
        resets.find(|frame| frame.stream == stream).map(Frame::code)
    }

    /// Whether the peer ended a stream in good order.
    pub(crate) fn ended(&self, stream: u32) -> bool {
        self.frames
            .iter()
            .any(|frame| frame.stream == stream && frame.kind <= HEADERS && frame.flags & END_STREAM != 0)
    }

    fn finish(&mut self) {
        self.read_available();
        self.closed = true;
    }

    fn read_available(&mut self) {
        let mut chunk = [0; 64 * 1024];
        while !self.closed {
            match self.stream.try_read(&mut chunk) {
                Ok(0) => self.closed = true,
                Ok(n) => self.buffer.extend(&chunk[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.closed = true,
            }
        }
        let mut at = 0;
        while let Some(head) = self.buffer.get(at..at + 9) {
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let (kind, flags) = (head[3], head[4]);
            let stream = u32::from_be_bytes(head[5..9].try_into().unwrap()) & 0x7fff_ffff;
            let Some(payload) = self.buffer.get(at + 9..at + 9 + length) else { break };
            self.frames.push(Frame { kind, flags, stream, payload: payload.to_vec() });
            at += 9 + length;
        }
        self.buffer.drain(..at);
    }

    /// Everything the peer says until it closes, as text.
    pub(crate) async fn text(mut self) -> String {
        let mut bytes = std::mem::take(&mut self.buffer);
        let _ = timeout(Duration::from_secs(10), self.stream.read_to_end(&mut bytes)).await;
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// What a model server does to a call, instead of answering it. Everything else it is asked it answers in good order.
#[derive(Debug, Clone)]
pub(crate) struct Mischief {
    /// Said before any of it, in good order: response headers and one message.
    pub(crate) opened: bool,
    /// Bytes for the socket, given the call's stream.
    pub(crate) bytes: fn(u32) -> Vec<u8>,
    /// Whether the connection is closed behind them.
    pub(crate) hang_up: bool,
    /// How many calls suffer it; later ones are answered.
    pub(crate) times: usize,
}

/// A model server that misbehaves.
pub(crate) struct Hostile {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Calls it got.
    pub(crate) calls: Arc<AtomicUsize>,
}

impl Hostile {
    /// Starts one; it ends with the test.
    pub(crate) async fn start(mischief: Mischief) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&calls);
        beside(async move {
            while let Ok((stream, _)) = listener.accept().await {
                beside(misbehave(stream, mischief.clone(), Arc::clone(&count)));
            }
        });
        Hostile { address, calls }
    }
}

async fn misbehave(stream: TcpStream, mischief: Mischief, calls: Arc<AtomicUsize>) {
    let stream = stream.into_std().unwrap();
    // A second way to the same socket, past the library that answers in good order.
    let mut past = TcpStream::from_std(stream.try_clone().unwrap()).unwrap();
    let stream = TcpStream::from_std(stream).unwrap();
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let mut held = Vec::new();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let answer = http::Response::builder().header("content-type", "application/grpc");
        if request.uri().path() != INFER {
            let _ = respond.send_response(answer.header("grpc-status", "12").body(()).unwrap(), true);
            continue;
        }
        let stream = respond.stream_id().as_u32();
        if calls.fetch_add(1, Ordering::Relaxed) >= mischief.times {
            let mut body = respond.send_response(answer.body(()).unwrap(), false).unwrap();
            let _ = body.send_data(Bytes::from(framed(0, &[])), false);
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            let _ = body.send_trailers(trailers);
            continue;
        }
        if mischief.opened {
            let mut bytes = frame(
                HEADERS,
                END_HEADERS,
                stream,
                &block(&[(":status", b"200"), ("content-type", b"application/grpc")]),
            );
            bytes.extend(frame(DATA, 0, stream, &framed(0, &[])));
            let _ = past.write_all(&bytes).await;
        }
        let _ = past.write_all(&(mischief.bytes)(stream)).await;
        if mischief.hang_up {
            let _ = past.shutdown().await;
            return;
        }
        // Dropped, the library would end the stream in its own way.
        held.push((request, respond));
    }
}
