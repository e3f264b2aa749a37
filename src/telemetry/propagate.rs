//! Trace context in and out: W3C `traceparent` and `tracestate`, and b3 in both spellings.
//!
//! The caller's trace goes on where its headers can be read: W3C first, then `b3`, then `x-b3-*`. What cannot be read
//! starts a new trace, never a failed call. Whether a trace is sampled is the caller's word where it said one, else
//! the ratio's, drawn from the trace id alone so that every sidecar on a path draws alike.
//!
//! Outwards each attempt gets a `traceparent` of its own. b3 headers that came are rewritten to the same context, for a
//! server that reads them must find its parent too. `baggage` is never touched. Where spans go nowhere, headers pass
//! as they came: a parent that nobody will ever see would only break the caller's trace.
//!
//! Pure: ids come from the random numbers that are passed in.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use rand::Rng;

use crate::config::units::Percent;
use crate::outcome::Trace;

mod b3;
mod w3c;

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Which traces are sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampler {
    /// Whether the caller's decision wins over `root`.
    pub parent_based: bool,
    /// What decides otherwise.
    pub root: Root,
}

/// How a trace is sampled that no caller has decided on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// All are.
    Always,
    /// None is.
    Never,
    /// Those whose id falls below the bound: a share of bound / 2⁶³, told from the low 63 bits shifted down by one, as
    /// the OpenTelemetry SDKs do.
    Ratio(u64),
}

impl Root {
    /// A share of all traces, 0.0 to 1.0; what lies outside is brought to the nearer end.
    pub fn ratio(share: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "within 0 to 2^63 by the clamp"
        )]
        let bound = (share.clamp(0.0, 1.0) * (1_u64 << 63) as f64) as u64;
        Root::Ratio(bound)
    }

    fn samples(self, trace_id: u128) -> bool {
        match self {
            Root::Always => true,
            Root::Never => false,
            Root::Ratio(bound) => (trace_id as u64 >> 1) < bound,
        }
    }
}

impl From<Percent> for Sampler {
    /// The caller's decision, else this share of the traces.
    fn from(share: Percent) -> Self {
        Sampler { parent_based: true, root: Root::ratio(share.probability()) }
    }
}

/// Which headers are read, and written on every attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Formats {
    /// `traceparent` and `tracestate`.
    pub w3c: bool,
    /// `b3`.
    pub b3: Writing,
    /// `x-b3-traceid` and its companions.
    pub b3_multi: Writing,
}

/// What is done with one b3 spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writing {
    /// Neither read nor written.
    Off,
    /// Read, and rewritten where the caller sent it.
    Echo,
    /// Read, and written always.
    Always,
}

impl Default for Formats {
    fn default() -> Self {
        Formats { w3c: true, b3: Writing::Echo, b3_multi: Writing::Echo }
    }
}

/// What a caller's headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parent {
    trace_id: u128,
    span_id: u64,
    /// b3 may leave the decision open.
    sampled: Option<bool>,
}

/// What one spelling of the headers holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// Nothing, or nothing that can be read.
    Nothing,
    /// A decision without a trace, which b3 allows.
    Decision(bool),
    /// A trace to go on with.
    Parent(Parent),
}

/// Reads and writes trace context as it was configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Propagator {
    /// Which headers are read and written.
    pub formats: Formats,
    /// Which traces are sampled.
    pub sampler: Sampler,
    /// Whether spans go anywhere; false: no header is written.
    pub recording: bool,
}

impl Propagator {
    /// The trace which a call belongs to and a new id for the sidecar's span in it.
    pub fn extract(&self, headers: &HeaderMap, chance: &mut impl Rng) -> Trace {
        let (parent, by_w3c) = self.parent(headers, Came::of(headers));
        let span_id = span_id(chance);
        match parent {
            Found::Parent(parent) => Trace {
                trace_id: parent.trace_id,
                span_id,
                parent: Some(parent.span_id),
                sampled: self.samples(parent.trace_id, parent.sampled),
                state: if by_w3c { state(headers) } else { None },
            },
            Found::Decision(sampled) => self.root(span_id, Some(sampled), chance),
            Found::Nothing => self.root(span_id, None, chance),
        }
    }

    /// Says to one upstream attempt, whose span is `span`, which trace it belongs to.
    ///
    /// `tracestate` is left as it came, and taken away where the trace it came with is not the call's.
    pub fn inject(&self, headers: &mut HeaderMap, trace: &Trace, span: u64) {
        if !self.recording {
            return;
        }
        let came = Came::of(headers);
        if self.formats.w3c {
            headers.insert(TRACEPARENT.clone(), w3c::write(trace, span));
            if came.w3c && trace.state.is_none() {
                headers.remove(&TRACESTATE);
            }
        }
        if self.formats.b3.applies(|| came.b3 && b3::has_single(headers)) {
            b3::write_single(headers, trace, span);
        }
        if self.formats.b3_multi.applies(|| came.b3 && b3::has_multi(headers)) {
            b3::write_multi(headers, trace, span);
        }
    }

    /// A new trace beside `call`'s, for what is not part of it.
    ///
    /// Whether it is sampled is told from the call's id, so that with equal shares both or neither are; without a
    /// share it is what the call is.
    pub fn beside(&self, call: &Trace, share: Option<Percent>, chance: &mut impl Rng) -> Trace {
        let sampled =
            share.map_or(call.sampled, |share| Root::ratio(share.probability()).samples(call.trace_id));
        Trace { trace_id: trace_id(chance), span_id: span_id(chance), parent: None, sampled, state: None }
    }

    fn parent(&self, headers: &HeaderMap, came: Came) -> (Found, bool) {
        if self.formats.w3c
            && came.w3c
            && let Some(parent) = w3c::read(headers)
        {
            return (Found::Parent(parent), true);
        }
        if !came.b3 {
            return (Found::Nothing, false);
        }
        let single = if self.formats.b3 == Writing::Off { Found::Nothing } else { b3::read_single(headers) };
        if single != Found::Nothing || self.formats.b3_multi == Writing::Off {
            return (single, false);
        }
        (b3::read_multi(headers), false)
    }

    fn root(&self, span_id: u64, decided: Option<bool>, chance: &mut impl Rng) -> Trace {
        let trace_id = trace_id(chance);
        Trace { trace_id, span_id, parent: None, sampled: self.samples(trace_id, decided), state: None }
    }

    fn samples(&self, trace_id: u128, decided: Option<bool>) -> bool {
        match decided {
            Some(sampled) if self.sampler.parent_based => sampled,
            _ => self.sampler.root.samples(trace_id),
        }
    }
}

/// Which families of headers came. Told in one pass over the names, for each look-up hashes the name that it looks for,
/// and most calls bring few of them or none.
#[derive(Debug, Clone, Copy, Default)]
struct Came {
    w3c: bool,
    b3: bool,
}

impl Came {
    fn of(headers: &HeaderMap) -> Self {
        let mut came = Came::default();
        for name in headers.keys() {
            let name = name.as_str();
            came.w3c |= name.starts_with("trace");
            came.b3 |= name == "b3" || name.starts_with("x-b3-");
        }
        came
    }
}

/// Takes every trace header out, whether it is read or not; `baggage` stays.
pub fn strip(headers: &mut HeaderMap) {
    let came = Came::of(headers);
    if !came.w3c && !came.b3 {
        return;
    }
    for name in [&TRACEPARENT, &TRACESTATE].into_iter().chain(b3::NAMES) {
        headers.remove(name);
    }
}

impl Writing {
    fn applies(self, came: impl FnOnce() -> bool) -> bool {
        match self {
            Writing::Off => false,
            Writing::Echo => came(),
            Writing::Always => true,
        }
    }
}

/// A new id for a span: random, never zero.
pub fn span_id(chance: &mut impl Rng) -> u64 {
    loop {
        let id = chance.next_u64();
        if id != 0 {
            return id;
        }
    }
}

/// A new id for a trace: random, its low half never zero, for some read only that.
fn trace_id(chance: &mut impl Rng) -> u128 {
    u128::from(chance.next_u64()) << 64 | u128::from(span_id(chance))
}

/// `tracestate` as one value; several headers of that name are one list.
fn state(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(&TRACESTATE).iter();
    let first = values.next()?;
    let mut joined = Vec::new();
    for value in values {
        if joined.is_empty() {
            joined.extend_from_slice(first.as_bytes());
        }
        joined.push(b',');
        joined.extend_from_slice(value.as_bytes());
    }
    if joined.is_empty() {
        return (!first.is_empty()).then(|| first.clone());
    }
    HeaderValue::from_bytes(&joined).ok()
}

/// The number that exactly these lower-case hexadecimal digits spell; `None` for anything else, and for zero, which no
/// id may be.
fn id(digits: &[u8]) -> Option<u128> {
    let mut number: u128 = 0;
    for digit in digits {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        number = number << 4 | u128::from(value);
    }
    (number != 0).then_some(number)
}

/// Writes `number` into `place`, of at most 32, as lower-case hexadecimal digits, highest first.
pub(super) fn hex(place: &mut [u8], number: u128) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (chunk, part) in place.rchunks_mut(16).zip([number as u64, (number >> 64) as u64]) {
        let mut rest = part;
        for digit in chunk.iter_mut().rev() {
            *digit = DIGITS[(rest & 0xf) as usize];
            rest >>= 4;
        }
    }
}

/// A header value of digits, dashes and such; text that a header cannot hold is not given here.
fn value(text: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests;
