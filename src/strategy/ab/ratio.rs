//! Whether units came to the arms in the proportions that were meant: the sequential sample ratio test on distinct
//! first exposures.
//!
//! Counts of one stratum and one split are a test by themselves, of units that no other has, so their e-values multiply.
//! A process that begins anew does not know who was exposed before it: what it counts is about the same units again,
//! so e-values of processes are not multiplied but averaged, with weights that sum to one.

use serde::{Deserialize, Serialize};

use crate::evidence::Gain;
use crate::stats::sample_ratio;
use crate::stats::special::ln_add_exp;

/// The weight of the first process; the j-th after it has its part 1/(j(j + 1)) of the rest.
const FIRST: f64 = 0.95;

/// First exposures, and what they prove.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Ratio {
    /// ln of the weighted sum over processes that ended; none before the first did.
    ended: Option<f64>,
    /// Processes before this one.
    before: u32,
    strata: Vec<Stratum>,
    #[serde(skip)]
    open: Open,
    /// What [`Ratio::ln_e`] says, where it was worked out since the last addition; it is asked for many times.
    #[serde(skip)]
    proof: Proof,
}

/// Not part of what is remembered.
#[derive(Debug, Clone, Copy, Default)]
struct Proof(Option<f64>);

impl PartialEq for Proof {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// First exposures while each variant had one share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Stratum {
    segment: Option<usize>,
    /// (variant, share, units).
    arms: Vec<(usize, f64, u64)>,
}

/// Whether this process counted any of it; not part of what is remembered.
#[derive(Debug, Clone, Copy, Default)]
struct Open(bool);

impl PartialEq for Open {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Ratio {
    /// Adds first exposures of calls that were split by these shares.
    pub(super) fn add(&mut self, shares: &[(usize, f64)], gain: &Gain) {
        let units = |variant: usize| gain.arms.get(variant).map_or(0, |arm| arm.units);
        if shares.len() < 2 || shares.iter().all(|(variant, _)| units(*variant) == 0) {
            return;
        }
        if !self.open.0 && !self.strata.is_empty() {
            self.end_process();
        }
        self.open = Open(true);
        let same = |stratum: &&mut Stratum| {
            let known = stratum.arms.iter().map(|(variant, share, _)| (*variant, *share));
            stratum.segment == gain.segment && known.eq(shares.iter().copied())
        };
        match self.strata.iter_mut().find(same) {
            Some(known) => known.arms.iter_mut().for_each(|(variant, _, count)| *count += units(*variant)),
            None => self.strata.push(Stratum {
                segment: gain.segment,
                arms: shares.iter().map(|(variant, share)| (*variant, *share, units(*variant))).collect(),
            }),
        }
        self.proof = Proof(Some(self.work_out()));
    }

    fn end_process(&mut self) {
        self.ended = Some(self.work_out());
        self.before = self.before.saturating_add(1);
        self.strata.clear();
    }

    /// ln of the evidence that units did not come as planned.
    pub(super) fn ln_e(&self) -> f64 {
        self.proof.0.unwrap_or_else(|| self.work_out())
    }

    fn work_out(&self) -> f64 {
        let of = |stratum: &Stratum| {
            let counts: Vec<u64> = stratum.arms.iter().map(|(_, _, units)| *units).collect();
            let shares: Vec<f64> = stratum.arms.iter().map(|(_, share, _)| *share).collect();
            sample_ratio::ln_e(&counts, &shares)
        };
        let now = self.weight().ln() + self.strata.iter().map(of).sum::<f64>();
        self.ended.map_or(now, |ended| ln_add_exp(ended, now))
    }

    fn weight(&self) -> f64 {
        match self.before {
            0 => FIRST,
            before => (1.0 - FIRST) / (f64::from(before) * (f64::from(before) + 1.0)),
        }
    }

    /// Units that the baseline and that variant were seen to have where chance decided between both, and the part of
    /// them that the variant was meant to have.
    pub(super) fn pair(&self, baseline: usize, variant: usize) -> (u64, u64, f64) {
        let (mut control, mut treated, mut meant) = (0, 0, 0.0);
        for stratum in &self.strata {
            let of = |wanted: usize| stratum.arms.iter().find(|(known, ..)| *known == wanted);
            let (Some((_, p0, n0)), Some((_, p1, n1))) = (of(baseline), of(variant)) else { continue };
            control += n0;
            treated += n1;
            meant += (n0 + n1) as f64 * p1 / (p0 + p1);
        }
        let all = control + treated;
        (control, treated, if all > 0 { meant / all as f64 } else { 0.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::ArmGain;

    const HALVES: [(usize, f64); 2] = [(0, 0.5), (1, 0.5)];

    fn gain(units: [u64; 2]) -> Gain {
        let arms = units.map(|units| ArmGain { units, ..ArmGain::default() }).into();
        Gain { epoch: 0, segment: None, arms }
    }

    #[test]
    fn a_mismatch_is_found_and_none_is_not() {
        let (mut sound, mut broken) = (Ratio::default(), Ratio::default());
        sound.add(&HALVES, &gain([10_050, 9_950]));
        broken.add(&HALVES, &gain([1_100, 900]));
        assert!(sound.ln_e() < 0.0, "{}", sound.ln_e());
        assert!(broken.ln_e() > 7.0, "{}", broken.ln_e());
        assert_eq!(broken.pair(0, 1), (1_100, 900, 0.5));
    }

    #[test]
    fn no_order_and_no_batches_make_a_difference() {
        let (mut whole, mut parts) = (Ratio::default(), Ratio::default());
        whole.add(&HALVES, &gain([500, 430]));
        for part in [[30, 300], [400, 0], [70, 130]] {
            parts.add(&HALVES, &gain(part));
        }
        assert_eq!(whole, parts);
    }

    #[test]
    fn what_units_did_before_a_restart_is_no_second_proof() {
        let mut ratio = Ratio::default();
        ratio.add(&HALVES, &gain([560, 440]));
        let once = ratio.ln_e();
        for _ in 0..5 {
            ratio = serde_json::from_str(&serde_json::to_string(&ratio).unwrap()).unwrap();
            ratio.add(&HALVES, &gain([560, 440]));
        }
        assert!((ratio.ln_e() - once).abs() < 0.1, "{} after {once}", ratio.ln_e());
    }
}
