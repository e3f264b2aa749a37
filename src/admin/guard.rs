//! Keeps web pages out of the admin port: a browser on the same machine reaches loopback as well as its user does.
//!
//! A page of another site sends `Origin`, and one whose name was rebound to this address sends that name as `Host`.
//! So `Origin` is refused, and `Host` must be loopback or the address that is listened on, which no name can be
//! rebound to. Ports are not compared, for a forwarded port is another one.

use std::net::{IpAddr, SocketAddr};

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::json;

/// `router` behind the checks, for a listener on `bound`.
pub(super) fn guarded(router: Router, bound: SocketAddr) -> Router {
    router.layer(from_fn(move |request: Request, next: Next| async move {
        let mut response = match refuse(&request, bound.ip()) {
            Some(refusal) => refusal,
            None => next.run(request).await,
        };
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }))
}

fn refuse(request: &Request, bound: IpAddr) -> Option<Response> {
    let refusal = |code: StatusCode, error: &str| (code, Json(json!({"error": error}))).into_response();
    if request.headers().contains_key(header::ORIGIN) {
        return Some(refusal(StatusCode::FORBIDDEN, "requests of web pages (with Origin) are refused"));
    }
    if !host(request).is_some_and(|host| ours(&host, bound)) {
        let error = "Host must be localhost, a loopback address, or the address that `admin` listens on";
        return Some(refusal(StatusCode::FORBIDDEN, error));
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Some(response);
    }
    None
}

/// Without its port and brackets. All that are named must be one: HTTP/2 has it in the target, HTTP/1 in `Host`.
fn host(request: &Request) -> Option<String> {
    let mut found = None;
    let hosts = request.headers().get_all(header::HOST).iter().map(|value| value.to_str().ok()?.parse().ok());
    for authority in request.uri().authority().cloned().map(Some).into_iter().chain(hosts) {
        let authority: http::uri::Authority = authority?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if found.as_ref().is_some_and(|known| *known != host) {
            return None;
        }
        found = Some(host);
    }
    found
}

fn ours(host: &str, bound: IpAddr) -> bool {
    if host == "localhost" {
        return true;
    }
    host.parse::<IpAddr>().is_ok_and(|address| {
        // Listening everywhere, any address may be this machine's, and only names can be rebound.
        address.is_loopback() || address == bound || bound.is_unspecified()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_cannot_be_rebound_are_ours() {
        let bound = |ip: &str| ip.parse::<IpAddr>().unwrap();
        for (host, at, answer) in [
            ("localhost", "127.0.0.1", true),
            ("127.0.0.9", "127.0.0.1", true),
            ("::1", "127.0.0.1", true),
            ("10.0.0.7", "10.0.0.7", true),
            ("10.0.0.8", "10.0.0.7", false),
            ("10.0.0.8", "0.0.0.0", true),
            ("evil.example", "0.0.0.0", false),
            ("localhost.evil.example", "127.0.0.1", false),
            ("", "127.0.0.1", false),
        ] {
            assert_eq!(ours(host, bound(at)), answer, "{host} at {at}");
        }
    }

    #[test]
    fn every_host_that_is_named_counts() {
        let request = |uri: &str, hosts: &[&str]| {
            let mut request = Request::builder().uri(uri);
            for host in hosts {
                request = request.header(header::HOST, *host);
            }
            host(&request.body(axum::body::Body::empty()).unwrap())
        };
        assert_eq!(request("/", &["LocalHost:9900"]).as_deref(), Some("localhost"));
        assert_eq!(request("/", &["[::1]:9900"]).as_deref(), Some("::1"));
        assert_eq!(request("http://127.0.0.1:1/", &[]).as_deref(), Some("127.0.0.1"));
        assert_eq!(request("http://127.0.0.1:1/", &["evil.example"]), None);
        assert_eq!(request("/", &["localhost", "evil.example"]), None);
        assert_eq!(request("/", &[""]), None);
        assert_eq!(request("/", &[]), None);
    }
}
