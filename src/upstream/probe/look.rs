//! What speaks at an address: told from the first bytes it sends, without any HTTP library in between.
//!
//! An HTTP/2 server must open with a SETTINGS frame. A server of another kind answers the HTTP/2 preface with an error
//! of its own, or hangs up; the latter is asked again in HTTP/1.1, to be sure. No answer says nothing: the model may
//! come later.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::config::{Address, Config};
use crate::tasks::Tasks;

/// All endpoints are looked at side by side within this.
const LOOK: Duration = Duration::from_secs(1);
/// The client preface, and an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: parhelion\r\nconnection: close\r\n\r\n";
const FRAME_HEADER: usize = 9;

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// A SETTINGS frame.
    Http2,
    /// Something else, as told.
    NotHttp2(&'static str),
    /// No bytes at all.
    Nothing,
}

/// Looks at `address`. Waits for as long as the peer keeps silent: the caller bounds it.
pub(super) async fn look(address: &Address) -> Seen {
    let Ok(first) = exchange(address, PREFACE).await else { return Seen::Nothing };
    match judge(&first) {
        Seen::Nothing => {}
        seen => return seen,
    }
    match exchange(address, REQUEST).await {
        Ok(second) if second.starts_with(b"HTTP/1") => Seen::NotHttp2(HTTP1),
        _ => Seen::Nothing,
    }
}

const HTTP1: &str = "answers HTTP/1.1";
const TLS: &str = "answers TLS";
const OTHER: &str = "answers neither HTTP/2 nor HTTP/1.1";

/// What to do about a server of that kind.
pub(super) fn advice(what: &str) -> String {
    if what == TLS {
        return format!("{what}; write https:// for it, or use the server's port without");
    }
    format!("{what}; Parhelion speaks gRPC over HTTP/2: use the server's gRPC port")
}

fn judge(bytes: &[u8]) -> Seen {
    match bytes {
        [] => Seen::Nothing,
        // Some servers answer what they cannot read with a bare page, as in HTTP/0.9.
        [b'H', b'T', b'T', b'P', b'/', b'1', ..] | [b'<', ..] => Seen::NotHttp2(HTTP1),
        // Length, type SETTINGS, no ACK, stream 0.
        [_, _, _, 4, 0, 0, 0, 0, 0, ..] => Seen::Http2,
        // An alert, or a handshake record, of any version.
        [0x15 | 0x16, 3, ..] => Seen::NotHttp2(TLS),
        _ if bytes.len() < FRAME_HEADER => Seen::Nothing,
        _ => Seen::NotHttp2(OTHER),
    }
}

async fn exchange(address: &Address, send: &[u8]) -> io::Result<Vec<u8>> {
    match address {
        Address::Tcp { host, port } => talk(TcpStream::connect((&**host, *port)).await?, send).await,
        Address::Unix(path) => talk(UnixStream::connect(path).await?, send).await,
    }
}

/// The first bytes of the answer: a frame header's worth, or fewer if the peer ends before.
async fn talk(mut peer: impl AsyncRead + AsyncWrite + Unpin, send: &[u8]) -> io::Result<Vec<u8>> {
    // A peer that hangs up early may still have said something.
    let _ = peer.write_all(send).await;
    let mut answer = Vec::new();
    while answer.len() < FRAME_HEADER {
        match peer.read_buf(&mut answer).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    Ok(answer)
}

/// Every endpoint of `config` that answers, but not in HTTP/2: one line each, with its place and what to do.
///
/// For use before a start. Takes at most a second; endpoints that are not there yet are not held against anybody.
pub async fn refuse_http1(config: &Config) -> Vec<String> {
    let places = config.models.iter().flat_map(|model| {
        model.variants.iter().flat_map(move |variant| {
            let place = format!("models.{}.variants.{}.endpoint", model.name, variant.name);
            // What speaks TLS is told apart by its handshake.
            let plain = variant.endpoints.iter().filter(|endpoint| endpoint.tls.is_none());
            plain.map(move |endpoint| (place.clone(), endpoint.address.clone()))
        })
    });
    // A panic would be logged; it has no counter yet, for nothing runs.
    let tasks = Tasks::new(std::sync::Arc::default());
    let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
    for (index, (place, address)) in places.enumerate() {
        let send = send.clone();
        tasks.spawn(format!("look at {address}"), async move {
            if let Ok(Seen::NotHttp2(what)) = timeout(LOOK, look(&address)).await {
                let _ = send.send((index, format!("{place}: {address} {}", advice(what))));
            }
        });
    }
    drop(send);
    let mut problems = Vec::new();
    while let Some(problem) = receive.recv().await {
        problems.push(problem);
    }
    problems.sort();
    problems.into_iter().map(|(_, problem)| problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_the_protocol() {
        for (bytes, seen) in [
            (&b""[..], Seen::Nothing),
            (b"\0\0\x12\x04\0\0\0\0\0\0\x03", Seen::Http2),
            (b"\0\0\0\x04\0", Seen::Nothing),
            (b"\0\0\0\x04\x01\0\0\0\0", Seen::NotHttp2(OTHER)),
            (b"HTTP/1.1 400 Bad Request", Seen::NotHttp2(HTTP1)),
            (b"<!DOCTYPE HTML>", Seen::NotHttp2(HTTP1)),
            (b"\x15\x03\x01\0\x02\x02\x46", Seen::NotHttp2(TLS)),
            (b"SSH-2.0-OpenSSH", Seen::NotHttp2(OTHER)),
        ] {
            assert_eq!(judge(bytes), seen, "{bytes:?}");
        }
    }
}
