//! Who is let in to the admin port: whoever has a certificate that has a right, or a token, where they are asked for,
//! else everybody on this machine but the web pages that its browser shows.
//!
//! A page of another site sends `Origin`, and one whose name was rebound to this address sends that name as `Host`.
//! So `Origin` is refused always, and without tokens `Host` must be loopback or the address that is listened on, which
//! no name can be rebound to; a token is proof enough, for no browser adds one by itself. Ports are not compared, for a
//! forwarded port is another one. What changes something is sent by POST, as gRPC over HTTP/2 or as JSON: a form can
//! send neither, and a script must ask first, by a method that is refused.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use serde_json::json;
use tokio::sync::watch;
use tonic::{Code, Status};

use super::tokens::{Right, Tokens};
use crate::config::{Config, Rights};
use crate::tls::name::{Names, Pattern};

/// Who sends a request, as the port knows it; every request that gets through carries one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name of a token or of a certificate, or `local` and the address that it came from.
    pub name: Arc<str>,
    /// What it may do.
    pub right: Right,
}

/// Where a request's connection came from.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// What its certificate says, where it showed one.
    pub(super) names: Option<Arc<Names>>,
}

/// What is asked of those who come in.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    /// The address that is listened on.
    pub(super) bound: IpAddr,
    pub(super) tokens: Option<Arc<Tokens>>,
    /// Says what certificates may do.
    pub(super) config: watch::Receiver<Arc<Config>>,
}

/// Why a request is not let in, in the terms of HTTP and of gRPC.
struct Refusal {
    status: StatusCode,
    code: Code,
    why: &'static str,
}

/// `router` behind the checks.
pub(super) fn guarded(router: Router, gate: Gate) -> Router {
    router.layer(from_fn(move |mut request: Request, next: Next| {
        let admitted = admit(&request, &gate);
        async move {
            let mut response = match admitted {
                Ok(caller) => {
                    request.extensions_mut().insert(caller);
                    next.run(request).await
                }
                Err(refusal) => refusal.answer(&request),
            };
            let headers = response.headers_mut();
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            response
        }
    }))
}

fn admit(request: &Request, gate: &Gate) -> Result<Caller, Refusal> {
    let forbidden = |why| Refusal { status: StatusCode::FORBIDDEN, code: Code::PermissionDenied, why };
    if request.headers().contains_key(header::ORIGIN) {
        return Err(forbidden("requests of web pages (with Origin) are refused"));
    }
    let config = Arc::clone(&gate.config.borrow());
    let asked = config.tls.admin.as_ref().is_some_and(|admin| admin.client_ca.is_some());
    let caller = match (certified(request, &config.rights), &gate.tokens) {
        (Some(caller), _) => caller,
        (None, Some(tokens)) => bearer(request.headers(), tokens)?,
        (None, None) if asked => {
            return Err(forbidden(
                "the certificate has a name that neither `control.read` nor `control.act` has",
            ));
        }
        (None, None) if host(request).is_some_and(|host| ours(&host, gate.bound)) => local(request),
        (None, None) => {
            return Err(forbidden(
                "Host must be localhost, a loopback address, or the address that `admin` listens on",
            ));
        }
    };
    match *request.method() {
        Method::GET | Method::HEAD => Ok(caller),
        Method::POST if is_json(request) || is_grpc(request) && request.version() == Version::HTTP_2 => {
            Ok(caller)
        }
        Method::POST => Err(Refusal {
            status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            code: Code::Internal,
            why: "a POST here is application/grpc over HTTP/2, or application/json",
        }),
        _ => Err(Refusal {
            status: StatusCode::METHOD_NOT_ALLOWED,
            code: Code::Internal,
            why: "only GET, HEAD and POST are allowed",
        }),
    }
}

/// Who has a certificate with a right.
fn certified(request: &Request, rights: &Rights) -> Option<Caller> {
    let names = request.extensions().get::<Peer>()?.names.as_ref()?;
    let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(names));
    let right = match () {
        () if any(&rights.act) => Right::Act,
        () if any(&rights.read) => Right::Read,
        () => return None,
    };
    Some(Caller { name: names.shown().into(), right })
}

/// Everybody on this machine, where no tokens are asked for.
fn local(request: &Request) -> Caller {
    let peer = request.extensions().get::<Peer>();
    let name = peer.map_or_else(|| "local".to_owned(), |peer| format!("local {}", peer.address));
    Caller { name: name.into(), right: Right::Act }
}

fn bearer(headers: &HeaderMap, tokens: &Tokens) -> Result<Caller, Refusal> {
    let unknown = |why| Refusal { status: StatusCode::UNAUTHORIZED, code: Code::Unauthenticated, why };
    let mut sent = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (sent.next(), sent.next()) else {
        return Err(unknown(
            "this port wants one `authorization: Bearer TOKEN`, of the file that `control.tokens` names (with \
             parhelion ctl: --token-file FILE, or PARHELION_TOKEN)",
        ));
    };
    // The scheme is written in any case; what follows is compared as it is.
    let secret = match value.as_bytes().split_at_checked(7) {
        Some((scheme, secret)) if scheme.eq_ignore_ascii_case(b"bearer ") => secret.trim_ascii(),
        _ => return Err(unknown("`authorization` is not `Bearer TOKEN`")),
    };
    let found = tokens.find(secret);
    let (name, right) =
        found.ok_or_else(|| unknown("the token is none of the file that `control.tokens` names"))?;
    Ok(Caller { name, right })
}

impl Refusal {
    fn answer(self, request: &Request) -> Response {
        if is_grpc(request) {
            return Status::new(self.code, self.why).into_http::<axum::body::Body>();
        }
        let mut response = (self.status, axum::Json(json!({"error": self.why}))).into_response();
        let told = match self.status {
            StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, "Bearer")),
            StatusCode::METHOD_NOT_ALLOWED => Some((header::ALLOW, "GET, HEAD, POST")),
            _ => None,
        };
        if let Some((name, value)) = told {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

fn is_grpc(request: &Request) -> bool {
    is_kind(request, "application/grpc")
}

fn is_json(request: &Request) -> bool {
    is_kind(request, "application/json")
}

/// Whether the content is of that kind, whatever its suffix or parameters. `application/grpc-web` is another one.
fn is_kind(request: &Request, kind: &str) -> bool {
    let value = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let rest = value.and_then(|value| value.strip_prefix(kind));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';', ' ']))
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
    fn grpc_and_json_are_told_from_what_forms_and_pages_send() {
        for (kind, grpc, json) in [
            ("application/grpc", true, false),
            ("application/grpc+proto", true, false),
            ("application/grpc-web", false, false),
            ("application/grpc-web+proto", false, false),
            ("application/json; charset=utf-8", false, true),
            ("application/jsonx", false, false),
            ("text/plain", false, false),
        ] {
            let request = Request::builder().header(header::CONTENT_TYPE, kind);
            let request = request.body(axum::body::Body::empty()).unwrap();
            assert_eq!((is_grpc(&request), is_json(&request)), (grpc, json), "{kind}");
        }
    }

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
