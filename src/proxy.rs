//! The life of one call, in six steps. Read this first.
//!
//! 1. *recognise* the protocol by the path,
//! 2. *read* as much of the first message as the protocol needs, kept as the bytes it came in,
//! 3. *assign* a variant: pure, on the generation of the configuration that the call began with,
//! 4. *dispatch* to the variant's upstream, and to shadows beside it; the answer streams to the caller as it comes,
//! 5. *tag* the response's headers with who answered,
//! 6. *observe*: one [`Outcome`](crate::outcome::Outcome) into the worker's own counts and, perhaps, to telemetry.

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::HeaderValue;
use tower::Service;

use crate::dispatch::upload::{Chunk, Upload};
use crate::dispatch::{Delivery, Journal, Leg, Shipment};
use crate::failpoint;
use crate::fault::{Blame, Code, Failure};
use crate::feedback;
use crate::outcome::{Fallback, Trace};
use crate::prediction::Prediction;
use crate::protocol::{self, Adapter, Peek};
use crate::server::respond::Responder;
use crate::server::{Admitted, Inbound, Rest};
use crate::serving::Serving;
use crate::telemetry::counter::Counter;
use crate::worker::Worker;

mod copies;
mod ending;
pub mod interleaved;
mod overdue;
pub mod plan;
mod planned;
mod proof;
mod seal;

use ending::{end, expired, expired_at, outcome};
use plan::Plan;
use planned::{Planned, answering};

/// The innermost service: what is left of a call once it is admitted and has its deadline.
#[derive(Debug, Clone)]
pub struct Proxy(Rc<Worker>);

impl Proxy {
    /// On `worker`.
    pub fn new(worker: Rc<Worker>) -> Self {
        Proxy(worker)
    }
}

impl Service<Admitted> for Proxy {
    type Response = Rest;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Rest, Infallible>>>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, admitted: Admitted) -> Self::Future {
        let worker = Rc::clone(&self.0);
        if admitted.inbound.head.uri.path().starts_with(feedback::service::PREFIX) {
            return Box::pin(async move {
                feedback::service::serve(&worker, admitted).await;
                Ok(None)
            });
        }
        Box::pin(handle(worker, admitted))
    }
}

/// A call whose protocol is recognised.
struct Recognised {
    head: http::request::Parts,
    adapter: &'static dyn Adapter,
    peek: Option<Peek>,
    prediction: uuid::Uuid,
    /// The id that the caller is told, once it is, and what it says.
    told: RefCell<Option<(HeaderValue, Prediction)>>,
    trace: Trace,
    hop: Option<crate::hop::Hop>,
    arrived: Instant,
    started: std::time::SystemTime,
    timeout: Option<Duration>,
}

async fn handle(worker: Rc<Worker>, admitted: Admitted) -> Result<Rest, Infallible> {
    let worker = &worker;
    let serving = worker.serving();
    let Admitted { inbound: Inbound { head, body, mut respond, arrived, started }, timeout } = admitted;
    let limits = &serving.config.limits;
    let call = recognise(worker, Recognising { head, arrived, started, timeout });
    let mut upload = Upload::new(body, limits.message.bytes(), limits.retain.bytes());
    let mut journal = Journal::default();
    let mut plan = None;
    let running = Running { worker, serving: &serving, call: &call };
    // Pinned in place, here and below: a future is some kilobytes, and each hand it passes through copies it.
    let ran = {
        let mut run = pin!(run(running, &mut plan, &mut upload, &mut respond, &mut journal));
        tokio::select! {
            biased;
            delivery = &mut run => Some(delivery),
            () = worker.cut.notified() => None,
        }
    };
    let delivery = ran.unwrap_or_else(|| {
        journal.expire(Code::UNAVAILABLE, Blame::Nobody, arrived.elapsed());
        Delivery::Failed(match worker.pressure.is_full() {
            true => {
                worker.counters.add(Counter::ShedMemory);
                Failure::sidecar(Code::RESOURCE_EXHAUSTED, worker.pressure.why())
            }
            false => Failure::sidecar(Code::UNAVAILABLE, "the sidecar has ended; try again"),
        })
    });
    let cancelled = matches!(delivery, Delivery::Cancelled);
    let ended = end(&worker.keys, &call, plan.as_ref(), delivery, &mut respond, &journal);
    for _ in 0..upload.take_foreign() {
        worker.counters.add(Counter::ForeignModel);
    }
    let counted =
        plan.as_mut().and_then(|plan| Some((plan.counted.take()?, plan.variant(), &plan.rollout.live)));
    let (unary, reserve) =
        (call.peek == Some(Peek::Unary), plan.as_ref().and_then(|plan| plan.rollout.reserve.as_ref()));
    if let (Some(plan), Some((_, prediction))) = (&mut plan, &*call.told.borrow()) {
        if let Some(context) = plan.context.take() {
            worker.feedback.remember(prediction, context);
        }
        if plan.rollout.exposes {
            worker.feedback.expose(prediction);
        }
    }
    let outcome = outcome(call, plan, ended, journal, &upload);
    if let Some((counted, assigned, live)) = counted {
        proof::count(worker, counted, assigned, live, &outcome.attempts);
    }
    if let Some(tee) = upload.tee() {
        tee.end(copies::end(&outcome, cancelled));
        copies::seen(tee, &outcome, limits.message.bytes());
    }
    if let Some(reserve) = reserve {
        reserve.observe(&outcome, unary, arrived + outcome.latency.total);
    }
    worker.recorder.observe(outcome);
    Ok(upload.rest())
}

/// What stands still while a call runs.
struct Running<'c, 's> {
    worker: &'c Rc<Worker>,
    serving: &'s Serving,
    call: &'c Recognised,
}

/// Steps 2 to 5, leaving the plan and the journal behind wherever they end.
async fn run<'s>(
    Running { worker, serving, call }: Running<'_, 's>,
    plan: &mut Option<Plan<'s>>,
    upload: &mut Upload,
    respond: &mut Responder,
    journal: &mut Journal,
) -> Delivery {
    let deadline = call.timeout.and_then(|timeout| call.arrived.checked_add(timeout));
    failpoint::panics("call");
    let reading = worker.recorder.enter_unrouted();
    match within(deadline, pin!(read(worker, call, serving, upload))).await {
        Some(Ok(())) => {}
        Some(Err(delivery)) => return delivery,
        None => return Delivery::Failed(expired(call)),
    }
    drop(reading);
    journal.read = call.arrived.elapsed();
    match plan::plan(worker, serving, call, upload) {
        Ok(made) => {
            let plan = plan.insert(made);
            if let Some(tee) = copies::begin(worker, call, plan) {
                upload.attach(tee);
            }
            dispatch(worker, call, plan, upload, respond, journal).await
        }
        Err(failure) => Delivery::Failed(failure),
    }
}

/// What recognising needs.
struct Recognising {
    head: http::request::Parts,
    arrived: Instant,
    started: std::time::SystemTime,
    timeout: Option<Duration>,
}

/// Step 1: the protocol, the trace it belongs to, and an id for the prediction.
fn recognise(worker: &Worker, call: Recognising) -> Recognised {
    let Recognising { head, arrived, started, timeout } = call;
    let adapter = protocol::recognise(head.uri.path());
    let (trace, prediction) = worker.identify(&head.headers, started);
    let hop = head.headers.get(crate::hop::HEADER).and_then(|value| worker.verify_hop(value));
    let prediction = hop.as_ref().map_or(prediction, |hop| hop.prediction);
    let peek = adapter.peek(head.uri.path());
    Recognised {
        head,
        adapter,
        peek,
        prediction,
        told: RefCell::default(),
        trace,
        hop,
        arrived,
        started,
        timeout,
    }
}

/// Step 2: the first message of a method that is peeked into, as far as it is needed.
async fn read(
    worker: &Worker,
    call: &Recognised,
    serving: &Serving,
    upload: &mut Upload,
) -> Result<(), Delivery> {
    let Some(peek) = call.peek else { return Ok(()) };
    let limits = &serving.config.limits;
    upload.read_as(call.adapter, peek, (serving.wants_parameters(), serving.wants_inputs()));
    let begun = match peek {
        // A stream may stand idle before its first message as between any two.
        Peek::Stream => upload.begin().await,
        Peek::Unary => Ok(()),
    };
    let patience = Instant::now().checked_add(limits.stall);
    let read = match begun {
        Ok(()) => within(patience, upload.peek()).await,
        Err(chunk) => Some(Err(chunk)),
    };
    match read {
        Some(Ok(())) => Ok(()),
        Some(Err(Chunk::TooLarge(error))) => {
            worker.counters.add(Counter::ShedMessage);
            let message = format!("the request: {error} (limits.message)");
            Err(Delivery::Failed(Failure::client(Code::RESOURCE_EXHAUSTED, message)))
        }
        Some(Err(_)) => Err(Delivery::Cancelled),
        None => {
            worker.counters.add(Counter::Stalls);
            let stall = limits.stall;
            let message = format!("the request's first message did not come within {stall:?} (limits.stall)");
            Err(Delivery::Failed(Failure::client(Code::UNAVAILABLE, message)))
        }
    }
}

/// Steps 4 and 5: to the variant and back, within the deadline.
async fn dispatch(
    worker: &Worker,
    call: &Recognised,
    plan: &Plan<'_>,
    upload: &mut Upload,
    respond: &mut Responder,
    journal: &mut Journal,
) -> Delivery {
    let limits = &plan.serving.config.limits;
    let _in_flight = worker.recorder.enter(&plan.rollout.model, plan.variant());
    let timeout = call.timeout.or(plan.rollout.model.default_deadline);
    let deadline = timeout.and_then(|timeout| call.arrived.checked_add(timeout));
    let mut shipment = Shipment {
        worker,
        rollout: plan.rollout,
        answering: answering(plan, journal),
        limits,
        uri: &call.head.uri,
        headers: &call.head.headers,
        arrived: call.arrived,
        deadline,
        even_unready: plan.even_unready,
        hopped: call.hop.is_some(),
        reader: call.peek.map(|peek| (call.adapter, peek)),
        origin: &Planned { worker, call, plan },
    };
    if let Some(together) = &plan.together {
        let asking = interleaved::Call { worker, call, plan, together };
        // In a box of its own, so that no other call's future has room for it.
        let deliver = Box::pin(asking.deliver(&shipment, upload, respond, journal));
        match within(deadline, deliver).await {
            Some(Some(delivery)) => return delivery,
            Some(None) => {}
            None => {
                let failure = expired_at(plan, limits.min_deadline, timeout.unwrap_or_default(), journal);
                return Delivery::Failed(failure);
            }
        }
    }
    let reserve = plan.rollout.reserve.as_ref();
    let reserve = reserve.filter(|reserve| reserve.covers(call.peek, &plan.assignment));
    let limit = overdue::Limit::of(plan, call.peek, deadline, upload);
    let delivered = match (reserve, limit) {
        (None, None) => {
            let mut leg = Leg::new(upload, respond, journal);
            let deliver = pin!(shipment.deliver(&mut leg));
            within(deadline, deliver).await
        }
        // In boxes of their own, so that no other call's future has room for them.
        (None, Some(limit)) => {
            let mut leg = Leg::new(upload, respond, journal);
            let deliver = Box::pin(overdue::watched(shipment.deliver(&mut leg), limit, worker, plan));
            within(deadline, deliver).await
        }
        (Some(reserve), _) => {
            let deliver = Box::pin(shipment.deliver_or_fall_back(reserve, upload, respond, journal));
            within(deadline, deliver).await
        }
    };
    if let Some(delivery) = delivered {
        return delivery;
    }
    if reserve.is_some() && !journal.fell_back {
        let why = if respond.is_silent() { Fallback::NoTime } else { Fallback::Committed };
        journal.refused = Some(why);
    }
    let failure = expired_at(plan, limits.min_deadline, timeout.unwrap_or_default(), journal);
    journal.expire(failure.code, failure.blame, call.arrived.elapsed());
    Delivery::Failed(failure)
}

/// Runs `future` until `at`; `None` when that came first. What is late already is not begun.
async fn within<T>(at: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    match at {
        None => Some(future.await),
        Some(at) if at <= Instant::now() => None,
        Some(at) => tokio::time::timeout_at(at.into(), future).await.ok(),
    }
}
