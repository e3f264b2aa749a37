//! The other two in the thread: a model server that is also the collector, and a caller. Plain `h2`, for what they cost
//! is taken off.

use std::cell::Cell;
use std::error::Error;
use std::rc::Rc;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::spawn_local;

use crate::{message, spans};

/// Calls under way at once, on one connection.
const STREAMS: usize = 8;
/// Callers that are told apart.
const USERS: usize = 100;

/// What the server has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) inferences: Cell<u64>,
    pub(crate) spans: Cell<u64>,
}

/// Serves every connection of a unix socket, for ever.
pub(crate) async fn serve_unix(listener: UnixListener, seen: Rc<Seen>) {
    while let Ok((socket, _)) = listener.accept().await {
        spawn_local(serve(socket, Rc::clone(&seen)));
    }
}

/// The same of a TCP socket: the exporter knows no other.
pub(crate) async fn serve_tcp(listener: TcpListener, seen: Rc<Seen>) {
    while let Ok((socket, _)) = listener.accept().await {
        spawn_local(serve(socket, Rc::clone(&seen)));
    }
}

async fn serve(socket: impl AsyncRead + AsyncWrite + Unpin + 'static, seen: Rc<Seen>) {
    let Ok(mut connection) = h2::server::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(16 << 20)
        .handshake::<_, Bytes>(socket)
        .await
    else {
        return;
    };
    let infer = message::response("bench", "1", 300);
    while let Some(Ok((request, respond))) = connection.accept().await {
        let (seen, infer) = (Rc::clone(&seen), infer.clone());
        spawn_local(async move {
            // A call that is broken shows at the caller.
            let _ = answer(request, respond, &seen, infer).await;
        });
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    seen: &Seen,
    infer: Bytes,
) -> Result<(), h2::Error> {
    let (head, mut body) = request.into_parts();
    let mut whole = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        whole.extend_from_slice(&piece);
        body.flow_control().release_capacity(piece.len())?;
    }
    let said = if head.uri.path().ends_with("/Export") {
        seen.spans.set(seen.spans.get() + spans::count(&whole).unwrap_or_default());
        Bytes::from_static(&[0; message::PREFIX])
    } else {
        seen.inferences.set(seen.inferences.get() + 1);
        infer
    };
    let mut response = Response::new(());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let mut stream = respond.send_response(response, false)?;
    stream.send_data(said, false)?;
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    stream.send_trailers(trailers)
}

/// Makes `calls` calls over `socket` and checks each; ends the connection.
///
/// # Errors
/// The first call that was not answered as it should be.
pub(crate) async fn call(
    socket: impl AsyncRead + AsyncWrite + Unpin + 'static,
    calls: usize,
) -> Result<(), Box<dyn Error>> {
    let (send, connection) = h2::client::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(16 << 20)
        .handshake::<_, Bytes>(socket)
        .await?;
    let driver = spawn_local(connection);
    let left = Rc::new(Cell::new(calls));
    let streams: Vec<_> = (0..STREAMS).map(|_| spawn_local(stream(send.clone(), Rc::clone(&left)))).collect();
    for stream in streams {
        stream.await??;
    }
    drop(send);
    driver.await??;
    Ok(())
}

/// Calls until none is left.
async fn stream(mut send: SendRequest<Bytes>, left: Rc<Cell<usize>>) -> Result<(), String> {
    let (message, expected) = (message::request("bench", 300), message::response("bench", "1", 300));
    while let Some(less) = left.get().checked_sub(1) {
        left.set(less);
        send = send.ready().await.map_err(|error| error.to_string())?;
        let got = unary(&mut send, less % USERS, message.clone()).await.map_err(|error| error.to_string())?;
        if got != expected {
            return Err(format!("an answer of {} bytes", got.len()));
        }
    }
    Ok(())
}

/// One call; its answer where its status was 0.
async fn unary(send: &mut SendRequest<Bytes>, user: usize, message: Bytes) -> Result<Bytes, h2::Error> {
    let mut request = Request::new(());
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() =
        http::Uri::from_static("http://models.svc/inference.GRPCInferenceService/ModelInfer");
    let headers = request.headers_mut();
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("x-user-id", HeaderValue::from(user));
    let (response, mut stream) = send.send_request(request, false)?;
    stream.send_data(message, true)?;
    let mut body = response.await?.into_body();
    let mut whole = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        whole.extend_from_slice(&piece);
        body.flow_control().release_capacity(piece.len())?;
    }
    let trailers = body.trailers().await?;
    let ok = trailers.is_some_and(|trailers| trailers.get("grpc-status").is_some_and(|status| status == "0"));
    Ok(if ok { whole.into() } else { Bytes::new() })
}
