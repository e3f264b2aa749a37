//! The stages that are blind to models, as tower layers around the proxy: admission, then deadline.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderMap, Method, StatusCode, header};
use pin_project_lite::pin_project;
use tower::{Layer, Service, ServiceBuilder};

use super::memory::Pressure;
use super::{Admitted, Inbound, Rest, rest};
use crate::fault::Code;
use crate::fault::Failure;
use crate::protocol::timeout;
use crate::telemetry::counter::{Counter, Counters};

/// Every call of a worker goes through these, from top to bottom.
pub fn stack<S>(
    limit: Rc<Cell<usize>>,
    pressure: Arc<Pressure>,
    counters: Arc<Counters>,
    proxy: S,
) -> Admission<Deadline<S>> {
    ServiceBuilder::new()
        .layer_fn(|inner| Admission {
            inner,
            limit: Rc::clone(&limit),
            pressure: Arc::clone(&pressure),
            counters: Arc::clone(&counters),
            open: Rc::default(),
        })
        .layer(DeadlineLayer(Arc::clone(&counters)))
        .service(proxy)
}

/// Lets in as many calls at once as the worker and the memory may hold, and refuses the others at once with
/// RESOURCE_EXHAUSTED.
#[derive(Debug, Clone)]
pub struct Admission<S> {
    inner: S,
    limit: Rc<Cell<usize>>,
    pressure: Arc<Pressure>,
    counters: Arc<Counters>,
    open: Rc<Cell<usize>>,
}

impl<S: Service<Inbound, Response = Rest>> Service<Inbound> for Admission<S> {
    type Response = Rest;
    type Error = S::Error;
    type Future = Held<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut inbound: Inbound) -> Self::Future {
        let limit = self.limit.get();
        if self.open.get() >= limit {
            self.counters.add(Counter::ShedInFlight);
            let message =
                format!("{limit} calls are in flight, as many as limits.in_flight allows; try again later");
            inbound.respond.fail(&Failure::sidecar(Code::RESOURCE_EXHAUSTED, message), HeaderMap::new());
            return Held::answered(inbound);
        }
        if self.pressure.is_full() {
            self.counters.add(Counter::ShedMemory);
            let failure = Failure::sidecar(Code::RESOURCE_EXHAUSTED, self.pressure.why());
            inbound.respond.fail(&failure, HeaderMap::new());
            return Held::answered(inbound);
        }
        self.open.set(self.open.get() + 1);
        let place = Some(Place(Rc::clone(&self.open)));
        Held { call: Some(self.inner.call(inbound)), place, rest: None }
    }
}

pin_project! {
    /// A call with its place among those in flight; without either for one that was answered already.
    #[derive(Debug)]
    pub struct Held<F> {
        #[pin]
        call: Option<F>,
        place: Option<Place>,
        rest: Rest,
    }
}

impl<F> Held<F> {
    /// Nothing is left to do for it.
    fn answered(inbound: Inbound) -> Self {
        Held { call: None, place: None, rest: rest(inbound.body) }
    }
}

impl<F: Future<Output = Result<Rest, E>>, E> Future for Held<F> {
    type Output = Result<Rest, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let held = self.project();
        match held.call.as_pin_mut() {
            Some(call) => call.poll(cx),
            None => Poll::Ready(Ok(held.rest.take())),
        }
    }
}

/// Given back on drop, so that a panic gives it back too.
#[derive(Debug)]
struct Place(Rc<Cell<usize>>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Refuses what is not gRPC, and reads `grpc-timeout`.
#[derive(Debug, Clone)]
pub struct Deadline<S> {
    inner: S,
    counters: Arc<Counters>,
}

#[derive(Debug, Clone)]
struct DeadlineLayer(Arc<Counters>);

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Deadline<S> {
        Deadline { inner, counters: Arc::clone(&self.0) }
    }
}

impl<S: Service<Admitted, Response = Rest>> Service<Inbound> for Deadline<S> {
    type Response = Rest;
    type Error = S::Error;
    type Future = Held<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut inbound: Inbound) -> Self::Future {
        if let Some(status) = not_grpc(&inbound) {
            self.counters.add(Counter::NotGrpc);
            inbound.respond.refuse(status);
            return Held::answered(inbound);
        }
        let timeout =
            match inbound.head.headers.get(&timeout::HEADER).map(|text| timeout::parse(text.as_bytes())) {
                None => None,
                Some(Ok(timeout)) => Some(timeout),
                Some(Err(bad)) => {
                    self.counters.add(Counter::NotGrpc);
                    inbound.respond.fail(&Failure::client(Code::INTERNAL, bad.to_string()), HeaderMap::new());
                    return Held::answered(inbound);
                }
            };
        Held { call: Some(self.inner.call(Admitted { inbound, timeout })), place: None, rest: None }
    }
}

/// The HTTP status for a request that is not gRPC: anything but POST, another content type, or a caller that takes no
/// trailers. Model servers reset such streams, which must not look like a fault of theirs.
fn not_grpc(inbound: &Inbound) -> Option<StatusCode> {
    if inbound.head.method != Method::POST {
        return Some(StatusCode::METHOD_NOT_ALLOWED);
    }
    let content_type = inbound.head.headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
    let is_grpc = content_type.is_some_and(|value| {
        value
            .strip_prefix(b"application/grpc")
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    });
    if !is_grpc {
        return Some(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let takes_trailers = inbound.head.headers.get(header::TE).is_some_and(|te| te.as_bytes() == b"trailers");
    (!takes_trailers).then_some(StatusCode::BAD_REQUEST)
}
