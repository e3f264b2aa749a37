//! One warm-up request on the wire, over a connection that is nobody else's.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Request, Uri, header};

use super::sample::Sample;
use super::{Order, WARMUP};
use crate::config::Address;
use crate::dispatch::rename::{Renamer, Renaming};
use crate::hop;
use crate::keys::Keys;
use crate::protocol::{encoding, timeout};
use crate::serving::suffix;
use crate::tls;
use crate::upstream::dial::reach;
use crate::wire::socket::Socket;

/// For one answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// For the other side to speak HTTP/2.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// Largest message that is renamed.
const LIMIT: usize = 64 << 20;

/// A connection; nothing moves on it unless its second part is polled.
pub(super) type Connected = (SendRequest<Bytes>, h2::client::Connection<Socket, Bytes>);

/// Connects to the order's endpoint.
pub(super) async fn connect(order: &Order, tls: &tls::Store) -> Result<Connected, String> {
    let reached = reach(&order.endpoint, tls, 0).await;
    let (socket, _) = reached.map_err(|error| format!("cannot connect: {error}"))?;
    let handshake = h2::client::Builder::new().enable_push(false).handshake(socket);
    match tokio::time::timeout(HANDSHAKE, handshake).await {
        Ok(Ok(connected)) => Ok(connected),
        Ok(Err(error)) => Err(format!("cannot connect: {error}")),
        Err(_) => Err(format!("no HTTP/2 within {HANDSHAKE:?}")),
    }
}

/// Sends one request and waits for the end of its answer, at most `patience`.
pub(super) async fn send(
    sender: &SendRequest<Bytes>,
    order: &Order,
    sample: &Sample,
    keys: &Keys,
    patience: Duration,
) -> Result<(), String> {
    let exchanged = tokio::time::timeout(patience, exchange(sender, order, sample, (keys, patience)));
    match exchanged.await {
        Ok(Ok(headers)) => judge(&headers),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {patience:?}")),
    }
}

/// The headers that carry the status.
async fn exchange(
    sender: &SendRequest<Bytes>,
    order: &Order,
    sample: &Sample,
    (keys, patience): (&Keys, Duration),
) -> Result<HeaderMap, h2::Error> {
    let mut sender = sender.clone().ready().await?;
    let (response, mut stream) = sender.send_request(request(order, sample, (keys, patience)), false)?;
    stream.send_data(renamed(order, sample), true)?;
    let (head, mut body) = response.await?.into_parts();
    while let Some(data) = body.data().await {
        let data = data?;
        // Fails only for a stream that is closed, which then shows at the next read.
        let _ = body.flow_control().release_capacity(data.len());
    }
    Ok(body.trailers().await?.unwrap_or(head.headers))
}

fn request(order: &Order, sample: &Sample, (keys, patience): (&Keys, Duration)) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = http::Method::POST;
    let authority = match &order.endpoint.address {
        address @ Address::Tcp { .. } => address.to_string(),
        Address::Unix(_) => "localhost".to_owned(),
    };
    let scheme = if order.endpoint.tls.is_some() { "https" } else { "http" };
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(sample.path.clone());
    // An address that was connected to is an authority; what is none sends the path alone.
    *request.uri_mut() = uri.build().unwrap_or_else(|_| Uri::from(sample.path.clone()));
    let headers = request.headers_mut();
    *headers = sample.headers.clone();
    headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/grpc"));
    headers.entry(header::TE).or_insert(HeaderValue::from_static("trailers"));
    headers.insert(WARMUP, HeaderValue::from_static("true"));
    headers.insert(timeout::HEADER.clone(), timeout::encode(patience));
    if let Some(variant) = order.model.variants.get(order.variant).filter(|_| order.endpoint.hop) {
        headers.insert(hop::HEADER, hop::sign(keys, uuid::Uuid::nil(), &variant.name));
    }
    request
}

/// The message as the variant's server knows the model.
fn renamed(order: &Order, sample: &Sample) -> Bytes {
    let variant = order.model.variants.get(order.variant);
    let Some((variant, asked)) = variant.zip(sample.asked.as_ref()) else { return sample.message.clone() };
    let suffix = suffix(variant, asked, sample.adapter);
    if suffix.is_empty() {
        return sample.message.clone();
    }
    let renaming = Renaming::Request { adapter: sample.adapter, asked: asked.clone(), suffix };
    let encoding = sample.headers.get(&encoding::HEADER).cloned();
    let mut out = VecDeque::new();
    match Renamer::new(renaming, encoding, LIMIT).push(&sample.message, &mut out) {
        Ok(()) => out.into_iter().flatten().collect(),
        Err(_) => sample.message.clone(),
    }
}

fn judge(headers: &HeaderMap) -> Result<(), String> {
    let status = headers.get("grpc-status").map(HeaderValue::as_bytes);
    if status == Some(b"0") {
        return Ok(());
    }
    let code = status.map_or("none".into(), String::from_utf8_lossy);
    let said = headers.get("grpc-message").map_or("".into(), |said| String::from_utf8_lossy(said.as_bytes()));
    Err(format!("status {code} {said}").trim_end().to_owned())
}
