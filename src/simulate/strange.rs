//! Callers whose calls come to nothing by their own doing: a millisecond's deadline, a cancel, rubbish that any variant
//! refuses.
//!
//! A world does not say that such calls are nobody's failure. Each ends with the status it would end with, and goes
//! the way of a live call: the table of fault says who is to blame, an epoch counts it, once a unit and minute, and a
//! gatherer reads what that adds up to.

use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, RngExt};

use super::chance::poisson;
use super::judged::Judged;
use super::stream::Stretch;
use super::world::{Oddity, Strange};
use crate::config::MIN_DEADLINE;
use crate::evidence::epoch::{Epoch, How};
use crate::evidence::gather::Gatherer;
use crate::fault::Code;

/// What such a caller gives a call.
const DEADLINE: Duration = Duration::from_millis(1);
/// How long a variant takes to refuse rubbish.
const REFUSED: Duration = Duration::from_millis(1);

/// The strange callers of one run.
#[derive(Debug)]
pub(super) struct Callers<'a> {
    world: &'a Strange,
    /// Where each falls, 0 to 1, for callers that are units; empty: every call is drawn by itself.
    places: Vec<f64>,
    /// The longest that any of them waits before it leaves.
    patience: Duration,
    gatherer: Gatherer,
}

impl<'a> Callers<'a> {
    /// `units`: each of them is one; `patience`: the longest that one who cancels waits.
    pub(super) fn new(
        world: &'a Strange,
        units: bool,
        patience: Duration,
        judged: &Judged<'_>,
        rng: &mut impl Rng,
    ) -> Self {
        let callers = if units { world.callers } else { 0 };
        let places = (0..callers).map(|_| rng.random()).collect();
        Callers { world, places, patience, gatherer: gatherer(0, judged) }
    }

    /// Their calls of that time, and each failure of the candidate that counts is judged at once. Returns how many calls
    /// there were of the baseline and the candidate.
    pub(super) fn call(
        &mut self,
        stretch: Stretch,
        judged: &mut Judged<'_>,
        rng: &mut impl Rng,
    ) -> (u64, u64) {
        if self.gatherer.epoch().number() != stretch.epoch {
            self.gatherer = gatherer(stretch.epoch, judged);
        }
        let length = stretch.until - stretch.from;
        let calls = poisson(rng, stretch.calls * self.world.share * length);
        let mut times: Vec<f64> = (0..calls).map(|_| stretch.from + length * rng.random::<f64>()).collect();
        times.sort_by(f64::total_cmp);
        let mut of_candidate = 0;
        let now = Duration::from_secs_f64(stretch.until);
        for at in times {
            let (candidate, urgent) = self.one(Duration::from_secs_f64(at), stretch.share, judged, rng);
            of_candidate += u64::from(candidate);
            if urgent && let Some(gain) = self.gatherer.failures() {
                judged.absorb(&gain, now);
                judged.look(now);
            }
        }
        if let Some(gain) = self.gatherer.all(now) {
            judged.absorb(&gain, now);
        }
        (calls - of_candidate, of_candidate)
    }

    /// One call: whether it was the candidate's, and whether somebody should look.
    fn one(&self, at: Duration, share: f64, judged: &Judged<'_>, rng: &mut impl Rng) -> (bool, bool) {
        let caller = rng.random_range(0..self.places.len().max(1));
        let place = self.places.get(caller).copied().unwrap_or_else(|| rng.random());
        let unit = (!self.places.is_empty()).then_some(caller as u64);
        let candidate = place < share;
        let does = self.world.does[rng.random_range(0..self.world.does.len())];
        let latency = match does {
            Oddity::Deadlines => DEADLINE,
            Oddity::Cancels => self.patience.mul_f64(rng.random()),
            Oddity::Rubbish => REFUSED,
        };
        let counted = self.gatherer.epoch().begin(0, judged.variant(candidate), unit, at);
        let urgent = counted.is_some_and(|counted| counted.end(ended(does), Some(latency), at));
        (candidate, urgent)
    }
}

/// How the call of a caller who does that ends for its variant, by the table of fault.
fn ended(does: Oddity) -> How {
    let (status, deadline) = match does {
        Oddity::Deadlines => (Code::DEADLINE_EXCEEDED, DEADLINE),
        Oddity::Cancels => (Code::CANCELLED, Duration::MAX),
        Oddity::Rubbish => (Code::INVALID_ARGUMENT, Duration::MAX),
    };
    How::from(status.blame(deadline >= MIN_DEADLINE))
}

fn gatherer(epoch: u32, judged: &Judged<'_>) -> Gatherer {
    let epoch = Epoch::new(epoch, judged.count(), 1, judged.variant(false));
    Gatherer::new(Arc::new(epoch), judged.variant(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_to_blame_is_what_a_live_call_is_told() {
        assert_eq!(Oddity::ALL.map(ended), [How::Well, How::Well, How::Rejection]);
    }
}
