//! A server made of bare frames, for what no HTTP/2 library does: a GOAWAY that disowns streams it has read.
//!
//! It answers every stream that ended, probes too, with the message `08 01`. Calls are told from probes by their
//! message, which begins with `call-`.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::frame;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// A server whose every connection serves a number of calls and disowns those that follow.
pub(crate) struct Raw {
    pub(crate) url: String,
    executed: Arc<Mutex<Vec<String>>>,
    disowned: Arc<Mutex<usize>>,
    _tasks: JoinSet<()>,
}

impl Raw {
    /// Each of the first `connections` with calls executes `served` of them, reads `beyond` more, and says by GOAWAY
    /// that it did not. Those that come later execute all.
    pub(crate) async fn start(connections: usize, served: usize, beyond: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let executed = Arc::new(Mutex::new(Vec::new()));
        let disowned = Arc::new(Mutex::new(0));
        let mut tasks = JoinSet::new();
        let (done, left) = (Arc::clone(&executed), Arc::clone(&disowned));
        let with_calls = Arc::new(Mutex::new(0));
        tasks.spawn(async move {
            let mut running = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                socket.set_nodelay(true).unwrap();
                let mut connection = Connection {
                    socket,
                    executed: Arc::clone(&done),
                    disowned: Arc::clone(&left),
                    with_calls: Arc::clone(&with_calls),
                    leaves: connections,
                    number: None,
                    served,
                    beyond,
                    calls: Vec::new(),
                    last: None,
                };
                running.spawn(async move {
                    // An error is the peer's leaving.
                    let _ = connection.run().await;
                });
            }
        });
        Raw { url, executed, disowned, _tasks: tasks }
    }

    /// The messages of all calls that were executed, in order.
    pub(crate) fn executed(&self) -> Vec<String> {
        self.executed.lock().unwrap().clone()
    }

    /// How many calls were read and disowned.
    pub(crate) fn disowned(&self) -> usize {
        *self.disowned.lock().unwrap()
    }
}

struct Connection {
    socket: TcpStream,
    executed: Arc<Mutex<Vec<String>>>,
    disowned: Arc<Mutex<usize>>,
    /// Connections that had a call so far.
    with_calls: Arc<Mutex<usize>>,
    /// How many of those say GOAWAY.
    leaves: usize,
    /// Which one this is.
    number: Option<usize>,
    served: usize,
    beyond: usize,
    /// Calls that ended, by stream.
    calls: Vec<(u32, String)>,
    /// What its GOAWAY said.
    last: Option<u32>,
}

impl Connection {
    async fn run(&mut self) -> std::io::Result<()> {
        let mut preface = [0; 24];
        self.socket.read_exact(&mut preface).await?;
        self.write(SETTINGS, 0, 0, b"").await?;
        let mut bodies = std::collections::HashMap::<u32, Vec<u8>>::new();
        loop {
            let mut header = [0; 9];
            self.socket.read_exact(&mut header).await?;
            let [a, b, c, kind, flags, id @ ..] = header;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.socket.read_exact(&mut payload).await?;
            let id = u32::from_be_bytes(id);
            match kind {
                SETTINGS if flags & ACK == 0 => self.write(SETTINGS, ACK, 0, b"").await?,
                PING if flags & ACK == 0 => self.write(PING, ACK, 0, &payload).await?,
                DATA => {
                    bodies.entry(id).or_default().extend(payload);
                    if flags & END_STREAM != 0 {
                        let body = bodies.remove(&id).unwrap_or_default();
                        self.take(id, &body).await?;
                    }
                }
                _ => {}
            }
        }
    }

    /// Answers a request, keeps it for later, or disowns it.
    async fn take(&mut self, id: u32, body: &[u8]) -> std::io::Result<()> {
        let text = String::from_utf8_lossy(body.get(5..).unwrap_or_default()).into_owned();
        if !text.starts_with("call-") {
            return self.answer(id).await;
        }
        let number = *self.number.get_or_insert_with(|| {
            let mut number = self.with_calls.lock().unwrap();
            *number += 1;
            *number
        });
        // A stream below the last may end only after the GOAWAY: it was promised too.
        if number > self.leaves || self.last.is_some_and(|last| id <= last) {
            self.executed.lock().unwrap().push(text);
            return self.answer(id).await;
        }
        self.calls.push((id, text));
        if self.calls.len() != self.served + self.beyond {
            return Ok(());
        }
        self.leave().await
    }

    async fn leave(&mut self) -> std::io::Result<()> {
        self.calls.sort_unstable();
        let (served, beyond) = self.calls.split_at(self.served);
        let ids: Vec<u32> = served.iter().map(|(id, _)| *id).collect();
        *self.disowned.lock().unwrap() += beyond.len();
        self.executed.lock().unwrap().extend(served.iter().map(|(_, text)| text.clone()));
        let last = ids.last().map_or(0, |id| *id);
        self.last = Some(last);
        let mut payload = last.to_be_bytes().to_vec();
        payload.extend([0; 4]);
        self.write(GOAWAY, 0, 0, &payload).await?;
        for id in ids {
            self.answer(id).await?;
        }
        Ok(())
    }

    /// `:status 200`, a content type, one message, `grpc-status 0`; spelled out as HPACK literals.
    async fn answer(&mut self, id: u32) -> std::io::Result<()> {
        let mut head = vec![0x88];
        head.extend(literal("content-type", "application/grpc"));
        self.write(HEADERS, END_HEADERS, id, &head).await?;
        self.write(DATA, 0, id, &frame(0, &[8, 1])).await?;
        self.write(HEADERS, END_HEADERS | END_STREAM, id, &literal("grpc-status", "0")).await
    }

    async fn write(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) -> std::io::Result<()> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(id.to_be_bytes());
        bytes.extend(payload);
        self.socket.write_all(&bytes).await
    }
}

/// A header field without indexing, not compressed; both parts shorter than 127 bytes.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0, name.len() as u8];
    bytes.extend(name.as_bytes());
    bytes.push(value.len() as u8);
    bytes.extend(value.as_bytes());
    bytes
}
