//! Callers for the faults, as tonic has them; what caller.py is for grpcio.
//!
//! ```text
//! caller TARGET CALLS CONCURRENCY DEADLINE RESULT
//! ```
//! One channel for every four calls at once, each with a connection of its own. SIGTERM ends them early; calls under way end
//! first. RESULT gets one JSON object.
#![expect(clippy::print_stdout, reason = "that it calls is told on standard output")]

use std::error::Error;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Buf, BufMut, Bytes};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

const METHOD: &str = "/faults.Model/Call";

/// Messages as they are.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// What all callers share.
struct Play {
    tag: String,
    calls: usize,
    deadline: Duration,
    next: AtomicUsize,
    stop: AtomicBool,
    said: Mutex<Said>,
}

#[derive(Default)]
struct Said {
    ok: Vec<String>,
    failed: Vec<Value>,
    slowest: Duration,
    last: f64,
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

impl Play {
    async fn work(&self, channel: Channel) {
        let mut client = Grpc::new(channel);
        while !self.stop.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.calls {
                return;
            }
            let name = format!("{}-{number}", self.tag);
            let began = Instant::now();
            let failure = self.call(&mut client, &name).await;
            let Ok(mut said) = self.said.lock() else { return };
            match failure {
                None => said.ok.push(name),
                Some(status) => {
                    said.failed.push(json!([name, format!("{:?}", status.code()), status.message(), now()]));
                }
            }
            said.slowest = said.slowest.max(began.elapsed());
            said.last = now();
        }
    }

    async fn call(&self, client: &mut Grpc<Channel>, name: &str) -> Option<Status> {
        let call = async {
            client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let mut request = Request::new(Bytes::copy_from_slice(name.as_bytes()));
            request.set_timeout(self.deadline);
            let path = http::uri::PathAndQuery::from_static(METHOD);
            client.unary::<Bytes, Bytes, Raw>(request, path, Raw).await
        };
        match tokio::time::timeout(self.deadline, call).await {
            Ok(Ok(answer)) if answer.get_ref() == name.as_bytes() => None,
            Ok(Ok(_)) => Some(Status::data_loss("another answer")),
            Ok(Err(status)) => Some(status),
            Err(_) => Some(Status::deadline_exceeded("the caller waited no longer")),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [target, calls, concurrency, deadline, result] = arguments.as_slice() else {
        return Err("usage: caller TARGET CALLS CONCURRENCY DEADLINE RESULT".into());
    };
    let tag = Path::new(result).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let play = Play {
        tag,
        calls: calls.parse()?,
        deadline: Duration::from_secs_f64(deadline.parse()?),
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        said: Mutex::default(),
    };
    let mut channels = Vec::new();
    let concurrency: usize = concurrency.parse()?;
    for _ in 0..concurrency.div_ceil(4) {
        channels.push(Endpoint::from_shared(format!("http://{target}"))?.tcp_nodelay(true).connect().await?);
    }
    println!("calling");
    let mut terminate = signal(SignalKind::terminate())?;
    let mut work: Vec<_> =
        (0..concurrency).map(|index| Box::pin(play.work(channels[index % channels.len()].clone()))).collect();
    let all = async {
        while !work.is_empty() {
            let ended = std::future::poll_fn(|cx| {
                let before = work.len();
                work.retain_mut(|one| one.as_mut().poll(cx).is_pending());
                if work.len() < before { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            });
            ended.await;
        }
    };
    let mut all = std::pin::pin!(all);
    tokio::select! {
        () = all.as_mut() => {}
        _ = terminate.recv() => {
            play.stop.store(true, Ordering::Relaxed);
            all.await;
        }
    }
    let Said { ok, failed, slowest, last } =
        std::mem::take(&mut *play.said.lock().map_err(|_| "a caller panicked")?);
    let said = json!({"ok": ok, "failed": failed, "slowest": slowest.as_secs_f64(), "last": last});
    std::fs::write(result, said.to_string())?;
    Ok(())
}
