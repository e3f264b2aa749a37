//! What the calls of one replica showed between two moments: counts and sums that add up, in any order.

use serde::{Deserialize, Serialize};

use crate::evidence::{ArmGain, Copies, Gain};
use crate::feedback::{Ballot, FeedbackGain};

/// Evidence of one replica. As large as there are epochs and feedback in it, however long it was gathered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Part {
    /// Of calls: at most one of each epoch and segment.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gains: Vec<Gain>,
    /// Of feedback: at most one of each epoch and name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub feedback: Vec<FeedbackGain>,
    /// Of sessions: at most one of each epoch.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ballots: Vec<Ballot>,
    /// Of copies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copies: Option<Copies>,
}

impl Part {
    /// Whether it shows nothing.
    pub fn is_empty(&self) -> bool {
        self.gains.is_empty() && self.feedback.is_empty() && self.ballots.is_empty() && self.copies.is_none()
    }

    /// Adds what calls showed.
    pub fn gain(&mut self, more: &Gain) {
        let same = |known: &&mut Gain| (known.epoch, known.segment) == (more.epoch, more.segment);
        match self.gains.iter_mut().find(same) {
            Some(known) => known.merge(more),
            None => self.gains.push(more.clone()),
        }
    }

    /// Adds what feedback showed.
    pub fn learn(&mut self, more: &FeedbackGain) {
        let same = |known: &&mut FeedbackGain| known.epoch == more.epoch && known.feedback == more.feedback;
        let Some(known) = self.feedback.iter_mut().find(same) else {
            self.feedback.push(more.clone());
            return;
        };
        known.variants.resize_with(known.variants.len().max(more.variants.len()), Default::default);
        known.variants.iter_mut().zip(&more.variants).for_each(|(scores, more)| scores.merge(more));
        match (&mut known.rewards, &more.rewards) {
            (Some(rewards), Some(more)) => rewards.merge(more),
            (rewards @ None, Some(more)) => *rewards = Some(more.clone()),
            (_, None) => {}
        }
    }

    /// Adds votes of sessions.
    pub fn vote(&mut self, more: &Ballot) {
        let Some(known) = self.ballots.iter_mut().find(|known| known.epoch == more.epoch) else {
            self.ballots.push(more.clone());
            return;
        };
        known.votes.resize_with(known.votes.len().max(more.votes.len()), Default::default);
        known.votes.iter_mut().zip(&more.votes).for_each(|(votes, more)| votes.merge(more));
    }

    /// Adds what copies showed.
    pub fn copy(&mut self, more: &Copies) {
        self.copies = Some(self.copies.map_or(*more, |known| known.plus(more)));
    }

    /// Takes out how many calls there were and how many failed, which is little, and leaves all else.
    pub fn take_counts(&mut self) -> Part {
        let take = |arm: &mut ArmGain| ArmGain {
            calls: std::mem::take(&mut arm.calls),
            errors: std::mem::take(&mut arm.errors),
            rejections: std::mem::take(&mut arm.rejections),
            ..ArmGain::default()
        };
        let counts = |gain: &mut Gain| {
            let arms = gain.arms.iter_mut().map(take).collect();
            Gain { epoch: gain.epoch, segment: gain.segment, arms }
        };
        let is_some = |gain: &Gain| gain.arms.iter().any(|arm| *arm != ArmGain::default());
        let gains = self.gains.iter_mut().map(counts).filter(is_some).collect();
        self.gains.retain(is_some);
        Part { gains, ..Part::default() }
    }

    /// Adds all of another.
    pub fn merge(&mut self, more: &Part) {
        more.gains.iter().for_each(|gain| self.gain(gain));
        more.feedback.iter().for_each(|gain| self.learn(gain));
        more.ballots.iter().for_each(|ballot| self.vote(ballot));
        more.copies.iter().for_each(|copies| self.copy(copies));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Batch;

    fn gain(epoch: u32, calls: u64, latency: &[(u16, u32)]) -> Gain {
        let batch = Batch { calls, timed: 1, places: 7, ..Batch::default() };
        let arm =
            ArmGain { calls, latency: latency.to_vec(), batches: vec![(3, batch)], ..ArmGain::default() };
        Gain { epoch, segment: None, arms: vec![arm] }
    }

    #[test]
    fn parts_add_up_in_any_order_and_stay_as_large_as_their_epochs() {
        let parts = [gain(1, 2, &[(4, 1), (9, 1)]), gain(2, 1, &[(4, 1)]), gain(1, 3, &[(2, 2), (9, 1)])];
        let sum = |order: [usize; 3]| {
            let mut all = Part::default();
            for index in order {
                let mut one = Part::default();
                one.gain(&parts[index]);
                one.copy(&Copies { calls: 1, ..Copies::default() });
                all.merge(&one);
            }
            all.gains.sort_by_key(|gain| gain.epoch);
            all
        };
        let all = sum([0, 1, 2]);
        assert_eq!(all, sum([2, 1, 0]));
        assert_eq!(all.gains.len(), 2);
        assert_eq!(all.gains[0].arms[0].calls, 5);
        assert_eq!(all.gains[0].arms[0].latency, [(2, 2), (4, 1), (9, 2)]);
        assert_eq!(all.gains[0].arms[0].batches[0].1.places, 14);
        assert_eq!(all.copies.map(|copies| copies.calls), Some(3));
        assert!(!all.is_empty() && Part::default().is_empty());
    }

    #[test]
    fn counts_are_taken_out_and_nothing_is_lost() {
        let mut part = Part::default();
        part.gain(&gain(1, 2, &[(4, 1)]));
        let mut plain = Gain { epoch: 2, ..Gain::default() };
        plain.arms = vec![ArmGain { calls: 3, errors: 1, ..ArmGain::default() }];
        part.gain(&plain);
        let whole = part.clone();
        let mut counts = part.take_counts();
        assert_eq!((counts.gains.len(), part.gains.len()), (2, 1), "of the second nothing is left");
        assert!(counts.gains.iter().all(|gain| gain.arms[0].latency.is_empty()));
        assert_eq!(part.gains[0].arms[0].calls, 0);
        counts.merge(&part);
        assert_eq!(counts, whole);
    }

    #[test]
    fn what_is_written_is_short_and_read_back_as_it_was() {
        let mut part = Part::default();
        part.gain(&gain(3, 2, &[(4, 1), (7, 2)]));
        let text = serde_json::to_string(&part).unwrap();
        assert_eq!(
            text,
            r#"{"gains":[{"epoch":3,"arms":[{"calls":2,"latency":[4,1,3,2],"batches":[[3,[2,0,0,1,7]]]}]}]}"#
        );
        assert_eq!(serde_json::from_str::<Part>(&text).unwrap(), part);
        for wrong in ["[4]", "[4,1,0,2]", "[70000,1]", "[-1,1]", "[65535,1,1,1]"] {
            let text = format!(r#"{{"gains":[{{"epoch":3,"arms":[{{"latency":{wrong}}}]}}]}}"#);
            assert!(serde_json::from_str::<Part>(&text).is_err(), "{wrong}");
        }
    }
}
