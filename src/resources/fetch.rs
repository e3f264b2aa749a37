//! Gets a page of metrics: one connection, one request, and an end to waiting and to bytes.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::config::MetricsPage;
use crate::upstream::dial::dial;

/// From the look-up of the name to the last byte.
const PATIENCE: Duration = Duration::from_secs(2);
/// What a page may hold.
const MOST: usize = 4 << 20;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoPage {
    #[error("{0}")]
    Connect(#[from] io::Error),
    #[error("no whole page within {}s", PATIENCE.as_secs())]
    Slow,
    #[error("answered {0}: give the path of the metrics")]
    Status(StatusCode),
    #[error("holds more than {} MiB", MOST >> 20)]
    Large,
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("cannot be asked for: {0}")]
    Request(#[from] http::Error),
    #[error("is no text in UTF-8")]
    Text,
    #[error("the page broke off: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
}

/// The text of the page.
pub(super) async fn fetch(page: &MetricsPage) -> Result<String, NoPage> {
    timeout(PATIENCE, get(page)).await.unwrap_or(Err(NoPage::Slow))
}

async fn get(page: &MetricsPage) -> Result<String, NoPage> {
    let (socket, _) = dial(&page.address, 0).await?;
    let (mut sender, connection) = handshake(TokioIo::new(socket)).await?;
    let request = Request::get(&*page.path)
        .header(HOST, page.address.to_string())
        .header(ACCEPT, "text/plain;version=0.0.4")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(NoPage::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), MOST).collect().await;
        let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => NoPage::Large,
            None => NoPage::Body(error),
        })?;
        String::from_utf8(body.to_bytes().into()).map_err(|_| NoPage::Text)
    };
    // The connection moves only while it is polled; it may end before the last of the body is taken.
    tokio::pin!(exchange);
    tokio::select! {
        biased;
        text = &mut exchange => text,
        ended = connection => {
            ended?;
            exchange.await
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::Address;

    /// What a server on a port of its own answers its only caller with, then holding the connection for `hold`.
    async fn answered(answer: Vec<u8>, hold: Duration) -> Result<String, NoPage> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let page =
            MetricsPage { address: Address::Tcp { host: "127.0.0.1".into(), port }, path: "/m?a=b".into() };
        let serve = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let length = socket.read(&mut asked).await.unwrap();
            let asked = String::from_utf8_lossy(&asked[..length]).into_owned();
            assert!(asked.starts_with("GET /m?a=b HTTP/1.1\r\n"), "{asked}");
            assert!(asked.contains(&format!("host: 127.0.0.1:{port}\r\n")), "{asked}");
            // A caller who has gone takes nothing more.
            let _ = socket.write_all(&answer).await;
            tokio::time::sleep(hold).await;
        };
        let (text, ()) = tokio::join!(fetch(&page), serve);
        text
    }

    fn with_length(body: &str) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    #[tokio::test]
    async fn a_page_is_got_however_it_is_framed() {
        let text = "process_cpu_seconds_total 1\n";
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1c\r\nprocess_cpu_seconds_total 1\n\r\n0\r\n\r\n";
        let until_end = format!("HTTP/1.0 200 OK\r\n\r\n{text}");
        for answer in [with_length(text), chunked.into(), until_end.into_bytes()] {
            assert_eq!(answered(answer, Duration::ZERO).await.unwrap(), text);
        }
    }

    #[tokio::test]
    async fn what_is_no_page_is_said() {
        let said = |answer: &[u8]| {
            let answer = answer.to_vec();
            async move { answered(answer, Duration::ZERO).await.unwrap_err().to_string() }
        };
        let missing = said(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(missing, "answered 404 Not Found: give the path of the metrics");
        assert_eq!(said(&with_length(&"#".repeat(MOST + 1))).await, "holds more than 4 MiB");
        let mut binary = with_length("ab");
        *binary.last_mut().unwrap() = 0xff;
        assert_eq!(said(&binary).await, "is no text in UTF-8");
        assert!(
            said(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc").await.starts_with("the page broke off")
        );
        // Garbage, a connection that ends at once, and HTTP/2 from the first byte.
        for garbage in [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], b"", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00"] {
            assert!(!said(garbage).await.is_empty());
        }
    }

    #[tokio::test]
    async fn nobody_is_waited_for_for_long() {
        let slow = answered(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc".to_vec(), PATIENCE * 2).await;
        assert!(matches!(slow, Err(NoPage::Slow)), "{slow:?}");
        let page =
            MetricsPage { address: Address::Tcp { host: "127.0.0.1".into(), port: 1 }, path: "/".into() };
        assert!(matches!(fetch(&page).await, Err(NoPage::Connect(_))));
    }
}
