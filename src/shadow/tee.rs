//! The call's side of its copies: hands over what passes, at the cost of a reference each, and never waits.
//!
//! A copy of a unary call starts when the request is whole: a caller that sends slowly or leaves costs the shadow
//! nothing. Of a stream, or of a method whose arity nobody knows, it starts with the call and gets the bytes as they
//! come, for its server may have to answer before the caller goes on.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Uri};
use uuid::Uuid;

use super::Shadow;
use super::copy::Job;
use super::link::{Link, Side, alone};
use super::record::{PrimaryEnd, Role, Skip};
use crate::config;
use crate::dispatch::upload::SMALL;
use crate::drift::Watching;
use crate::fault::Code;
use crate::log::payload::{Capture, Taken};
use crate::outcome::Trace;
use crate::protocol::{Adapter, Peek};
use crate::warm::sample::Taking;
use crate::worker::Worker;

/// What a copy holds beside its bytes and its metadata: its task and its stream. Measured.
pub(super) const COPY: u64 = 6 * 1024;
/// The same of each of its metadata, which is there twice until the copy is sent, beside the text.
const ENTRY: usize = 192;

/// What every copy of a call needs to know of it.
#[derive(Debug)]
pub struct Original {
    /// The caller's request line.
    pub uri: Uri,
    /// Request metadata, less what only the sidecar may set, the deadline and the trace.
    pub headers: HeaderMap,
    /// Who reads it.
    pub adapter: &'static dyn Adapter,
    /// How.
    pub peek: Option<Peek>,
    /// The model that the first message asks for, where it was read.
    pub asked: Option<String>,
    /// The id that the caller is told.
    pub prediction: Uuid,
    /// The call's own trace.
    pub trace: Trace,
    /// Largest message.
    pub message: usize,
    /// Whether a control gets a copy too.
    pub controlled: Cell<bool>,
}

impl Original {
    /// Bytes that a copy costs beside those of its messages.
    fn cost(&self) -> u64 {
        let metadata = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ENTRY);
        COPY + metadata.sum::<usize>() as u64
    }
}

/// The call's side.
#[derive(Debug)]
pub struct Tee {
    copies: Vec<Half>,
    /// Where the call's request becomes a sample to warm others with.
    sample: Option<Taking>,
    /// Where the call's messages are logged.
    captured: Option<Capture>,
    /// Where the call's answer is looked at.
    watched: Option<Watching>,
}

/// Who wants what passes beside the copies.
#[derive(Debug, Default)]
pub struct Others {
    /// Where the call's request becomes a sample to warm others with.
    pub sample: Option<Taking>,
    /// Where its messages are logged.
    pub captured: Option<Capture>,
    /// Where its answer is looked at.
    pub watched: Option<Watching>,
}

/// The call's half of one copy.
struct Half {
    link: Rc<Link>,
    role: Role,
    /// The copy, until it starts.
    waiting: RefCell<Option<Job>>,
}

impl std::fmt::Debug for Half {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waiting = self.waiting.borrow().is_some();
        f.debug_struct("Half").field("link", &self.link).field("waiting", &waiting).finish()
    }
}

/// Who has the call, and where its rollout stands.
#[derive(Debug, Clone, Copy)]
pub struct Given {
    /// Index of the variant that it was given to.
    pub variant: usize,
    /// Of the rollout, see [`crate::strategy::Standing`].
    pub stage: u32,
}

impl Given {
    /// Whether a shadow may get a copy: never of its own call, and only in its stages.
    fn admits(&self, shadow: &config::Shadow) -> bool {
        shadow.variant != self.variant && shadow.is_copied_in(self.stage)
    }
}

impl Tee {
    /// Decides for each of `shadows` whether the call is copied, and begins the copies. `None` where there is none.
    ///
    /// A call that was given to a shadow itself, by force, is not copied to it again.
    pub fn begin(
        worker: &Rc<Worker>,
        shadows: &[Rc<Shadow>],
        given: Given,
        original: impl Fn() -> Original,
        Others { sample, captured, watched }: Others,
    ) -> Option<Rc<Tee>> {
        let call = OnceCell::new();
        let now = Instant::now();
        let mut copies = Vec::new();
        let mut controls: Vec<&Rc<Shadow>> = Vec::new();
        for shadow in shadows.iter().filter(|shadow| given.admits(&shadow.config)) {
            let series = shadow.state.series();
            series.add_eligible();
            if let Err(skip) = shadow.decide(worker.draw(), now) {
                series.add_skipped(skip);
                continue;
            }
            let call = Rc::clone(call.get_or_init(|| Rc::new(original())));
            copies.push(Half::new(worker, shadow, call, now));
            if let Some(control) = &shadow.control
                && given.variant == shadow.model.baseline()
                && !controls.iter().any(|known| Rc::ptr_eq(known, control))
            {
                controls.push(control);
            }
        }
        if let Some(call) = call.get() {
            Tee::controls(worker, &controls, (call, now), &mut copies);
        }
        let wanted = !copies.is_empty() || sample.is_some() || captured.is_some() || watched.is_some();
        wanted.then(|| Rc::new(Tee { copies, sample, captured, watched }))
    }

    /// Begins the copies for controls of shadows that get one.
    fn controls(
        worker: &Rc<Worker>,
        controls: &[&Rc<Shadow>],
        (call, now): (&Rc<Original>, Instant),
        copies: &mut Vec<Half>,
    ) {
        for control in controls {
            let series = control.state.series();
            series.add_eligible();
            match control.decide(worker.draw(), now) {
                Err(skip) => series.add_skipped(skip),
                Ok(()) => {
                    call.controlled.set(true);
                    copies.push(Half::new(worker, control, Rc::clone(call), now));
                }
            }
        }
    }

    /// How many copies there are for shadows; those for controls are not counted.
    pub fn shadows(&self) -> usize {
        self.copies.iter().filter(|copy| copy.role == Role::Shadow).count()
    }

    /// How the messages of the answer are compressed.
    pub fn encoding(&self, value: Option<&HeaderValue>) {
        if let Some(watched) = &self.watched {
            watched.encoding(value);
        }
        self.copies.iter().for_each(|copy| copy.link.encoding(Side::Primary, value));
    }

    /// Request bytes, each once; small ones are copies already.
    pub fn request(&self, data: &Bytes) {
        if let Some(sample) = &self.sample {
            sample.request(data);
        }
        if let Some(captured) = &self.captured {
            captured.request(data);
        }
        let mut kept = None;
        for copy in self.copies.iter().filter(|copy| copy.link.is_open()) {
            let kept =
                kept.get_or_insert_with(|| if data.len() < SMALL { data.clone() } else { alone(data) });
            if let Some(skip) = copy.link.push(kept) {
                copy.give_up(skip);
            }
        }
    }

    /// The request is whole.
    pub fn whole(&self, trailers: Option<&HeaderMap>) {
        if let Some(sample) = &self.sample {
            sample.whole();
        }
        for copy in &self.copies {
            copy.link.whole(trailers.cloned());
            copy.start();
        }
    }

    /// The call's messages, where they are logged; once, when it has ended.
    pub fn messages(&self) -> Option<Arc<Taken>> {
        self.captured.as_ref().map(Capture::take)
    }

    /// Where the call's answer is looked at.
    pub fn watched(&self) -> Option<&Watching> {
        self.watched.as_ref()
    }

    /// Bytes of the answer, as the call's server sent them.
    pub fn answer(&self, data: &Bytes) {
        if let Some(captured) = &self.captured {
            captured.answer(data);
        }
        if let Some(watched) = &self.watched {
            watched.answer(data);
        }
        let mut kept = None;
        for copy in self.copies.iter().filter(|copy| copy.link.is_comparing()) {
            copy.link.hold(Side::Primary, kept.get_or_insert_with(|| alone(data)));
        }
    }

    /// The call has ended so.
    pub fn end(&self, end: PrimaryEnd) {
        if let Some(sample) = &self.sample {
            sample.end(end.status == Code::OK && !end.cancelled, Instant::now());
        }
        self.ended(Some(end));
    }

    fn ended(&self, end: Option<PrimaryEnd>) {
        for copy in &self.copies {
            copy.link.primary_ended(end);
            if let Some(skip) = copy.link.broken() {
                copy.give_up(skip);
            }
        }
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        // A call that was dropped half way never said how it ended.
        self.ended(None);
    }
}

impl Half {
    fn new(worker: &Rc<Worker>, shadow: &Rc<Shadow>, call: Rc<Original>, now: Instant) -> Self {
        let link =
            Link::new(&shadow.state, (shadow.config.bytes.0, shadow.config.judging.is_some()), call.cost());
        let job = Job {
            worker: Rc::clone(worker),
            shadow: Rc::clone(shadow),
            trace: worker.trace_copy(&call.trace, shadow.config.trace_sample),
            ticket: shadow.state.enter(),
            until: now,
            call,
        };
        let at_once = job.call.peek != Some(Peek::Unary);
        let half = Half { link, role: shadow.role, waiting: RefCell::new(Some(job)) };
        match half.link.broken() {
            Some(skip) => half.give_up(skip),
            None if at_once => half.start(),
            None => {}
        }
        half
    }

    fn start(&self) {
        if let Some(job) = self.waiting.take() {
            job.start(Rc::clone(&self.link));
        }
    }

    /// Ends a copy that has not started; one that has sees it by itself.
    fn give_up(&self, skip: Skip) {
        if let Some(mut job) = self.waiting.take() {
            job.ticket.skipped(skip);
            self.link.over();
        }
    }
}
