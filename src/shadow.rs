//! Copies of live calls for variants that answer nobody, without the caller ever feeling it.
//!
//! Each eligible call is, for each shadow of its model, either copied or counted under the reason why not: nothing
//! is skipped in silence. A copy is made of the bytes that came, goes over connections of its own to the shadow's
//! endpoints, once, within its own deadline, and its answer is held beside the call's. Both go to a task on the control
//! runtime, which compares and drops them. What all
//! copies of a shadow may cost is bounded by its caps: copies under way, and bytes that they hold. The call's side
//! ([`Tee`]) only ever puts bytes into a queue; it waits for nothing and cannot fail.
//!
//! | file | what it holds |
//! |---|---|
//! | [`breaker`] | leaves a shadow alone that fails in a row; pure |
//! | [`ledger`] | caps, and the entry of each copy in the books |
//! | [`link`] | what passes from a call to its copy |
//! | [`tee`] | the call's side |
//! | [`copy`] | the copy's side: one task each |
//! | [`exchange`] | a copy on the wire |
//! | [`pair`] | both answers on their way to be compared |
//! | [`comparer`] | the task that compares them |
//! | [`judges`] | what all pairs of each shadow prove |
//! | [`offenders`] | the pairs that are furthest apart |
//! | [`record`] | what happened, as plain data |

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crate::config::{self, Control, Model, Variant};
use crate::tasks;
use crate::telemetry::shard::Shard;
use crate::upstream::Upstream;
use crate::upstream::endpoint::Surroundings;

pub mod breaker;
pub mod comparer;
pub mod copy;
pub mod exchange;
pub mod judges;
pub mod ledger;
pub mod link;
pub mod offenders;
pub mod pair;
pub mod record;
pub mod tee;

use ledger::State;
use record::{Role, Skip};

pub use tee::{Given, Original, Others, Tee};

/// Request metadata of every copy.
pub const SHADOW: http::HeaderName = http::HeaderName::from_static("parhelion-shadow");

/// What the shadows of one worker stand on.
#[derive(Debug, Clone)]
pub struct Ground {
    /// For the shadows' own connections, with counters of their own.
    pub surroundings: Surroundings,
    /// The worker's counts.
    pub shard: Arc<Shard>,
    /// Where copies run.
    pub copies: tasks::Local,
}

/// One shadow of one rollout, as one worker serves it in one generation of the configuration.
#[derive(Debug)]
pub struct Shadow {
    /// What it may do.
    pub config: config::Shadow,
    /// Whose calls it gets.
    pub model: Arc<Model>,
    /// Who gets them.
    pub variant: Arc<Variant>,
    /// What for.
    pub role: Role,
    /// Its own endpoints: never those that live calls use.
    pub upstream: Upstream,
    /// Another instance of the served version, which some of its calls go to as well.
    pub control: Option<Rc<Shadow>>,
    state: Rc<State>,
    copies: tasks::Local,
}

impl Shadow {
    /// With endpoints of its own; `before` is the same shadow in the generation before, whose copies still count.
    pub fn new(
        model: &Arc<Model>,
        config: &config::Shadow,
        upstream: Upstream,
        ground: &Ground,
        before: Option<&Shadow>,
    ) -> Self {
        let variant = Arc::new(model.variants[config.variant].clone());
        let name = Arc::clone(&variant.name);
        let state = match before {
            Some(before) => Rc::clone(&before.state),
            None => Rc::new(State::new(ground.shard.shadow(&model.name, &name))),
        };
        Shadow {
            config: config.clone(),
            model: Arc::clone(model),
            variant,
            role: Role::Shadow,
            upstream,
            control: None,
            state,
            copies: ground.copies.clone(),
        }
    }

    /// The control of a shadow, with its bounds, and books and endpoints of its own.
    pub fn control(
        shadow: &Shadow,
        control: &Control,
        upstream: Upstream,
        ground: &Ground,
        before: Option<&Shadow>,
    ) -> Self {
        let model = &shadow.model;
        let state = match before {
            Some(before) => Rc::clone(&before.state),
            None => Rc::new(State::new(ground.shard.shadow(&model.name, &label(&control.variant)))),
        };
        Shadow {
            config: config::Shadow { sample: control.sample, ..shadow.config.clone() },
            model: Arc::clone(model),
            variant: Arc::new(control.variant.clone()),
            role: Role::Control,
            upstream,
            control: None,
            state,
            copies: ground.copies.clone(),
        }
    }

    /// The name of who gets its copies.
    pub fn name(&self) -> &Arc<str> {
        &self.variant.name
    }

    /// Whether a call that could be copied is, by this draw.
    fn decide(&self, draw: u32, now: Instant) -> Result<(), Skip> {
        decide(&Circumstances {
            sampled: self.config.sample.takes(draw),
            ready: self.upstream.is_ready(),
            room: self.state.calls() < self.config.calls,
            bytes: self.state.pinned() + tee::COPY <= self.config.bytes.0,
            breaker: self.state.allows(now),
        })
    }
}

/// What a control is called where copies are counted by variant: it may be the baseline itself.
pub fn label(variant: &Variant) -> Arc<str> {
    format!("control:{}", variant.name).into()
}

/// All that a decision hangs on.
#[derive(Debug, Clone, Copy)]
struct Circumstances {
    sampled: bool,
    ready: bool,
    room: bool,
    bytes: bool,
    breaker: bool,
}

/// Copy or not: the first reason against it counts. The draw comes first, so that the share of calls that are
/// sampled out is the configured one whatever else goes on.
fn decide(now: &Circumstances) -> Result<(), Skip> {
    let order = [
        (now.sampled, Skip::SampledOut),
        (now.ready, Skip::NotReady),
        (now.breaker, Skip::Breaker),
        (now.room, Skip::CallsCap),
        (now.bytes, Skip::BytesCap),
    ];
    order.into_iter().find(|(fine, _)| !fine).map_or(Ok(()), |(_, skip)| Err(skip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_counts() {
        let fine = Circumstances { sampled: true, ready: true, room: true, bytes: true, breaker: true };
        assert_eq!(decide(&fine), Ok(()));
        for (circumstances, skip) in [
            (Circumstances { sampled: false, ready: false, ..fine }, Skip::SampledOut),
            (Circumstances { ready: false, breaker: false, ..fine }, Skip::NotReady),
            (Circumstances { breaker: false, room: false, ..fine }, Skip::Breaker),
            (Circumstances { room: false, bytes: false, ..fine }, Skip::CallsCap),
            (Circumstances { bytes: false, ..fine }, Skip::BytesCap),
        ] {
            assert_eq!(decide(&circumstances), Err(skip));
        }
    }
}
