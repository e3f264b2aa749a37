//! What many do instead: add up all calls of both arms, and read a z-test once a minute until it is significant.
//!
//! It is here to be compared with: on healthy candidates it shows that a simulated world can catch a bad judge.

/// One-sided, 5 %.
const SIGNIFICANT: f64 = 1.645;
/// The usual least number of failures in either arm.
const LEAST: u64 = 5;
const MINUTE: f64 = 60.0;

/// Calls and failures of (baseline, candidate), every one of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Naive {
    calls: (u64, u64),
    failures: (u64, u64),
    looked: f64,
    said_worse: bool,
}

impl Naive {
    pub(super) fn add_calls(&mut self, baseline: u64, candidate: u64) {
        self.calls = (self.calls.0 + baseline, self.calls.1 + candidate);
    }

    pub(super) fn add_failure(&mut self, candidate: bool) {
        *(if candidate { &mut self.failures.1 } else { &mut self.failures.0 }) += 1;
    }

    pub(super) fn said_worse(&self) -> bool {
        self.said_worse
    }

    /// Reads the test, if a minute has passed since it was read.
    pub(super) fn look(&mut self, now: f64) {
        if now - self.looked < MINUTE {
            return;
        }
        self.looked = now;
        self.said_worse |= self.z().is_some_and(|z| z > SIGNIFICANT);
    }

    /// Two proportions, pooled.
    fn z(&self) -> Option<f64> {
        if self.failures.0 < LEAST || self.failures.1 < LEAST {
            return None;
        }
        let (baseline, candidate) = (self.calls.0 as f64, self.calls.1 as f64);
        let rates = (self.failures.0 as f64 / baseline, self.failures.1 as f64 / candidate);
        let pooled = (self.failures.0 + self.failures.1) as f64 / (baseline + candidate);
        let error = (pooled * (1.0 - pooled) * (1.0 / baseline + 1.0 / candidate)).sqrt();
        Some((rates.1 - rates.0) / error)
    }
}

/// The same for means of values, two-sided, at 5 %: read again with every look.
#[derive(Debug, Clone, Default)]
pub(super) struct Means {
    /// (values, their sum, the sum of their squares) of the baseline and the candidate.
    arms: [(f64, f64, f64); 2],
    differ: bool,
}

impl Means {
    pub(super) fn add(&mut self, candidate: bool, value: f64) {
        let (n, sum, squares) = &mut self.arms[usize::from(candidate)];
        (*n, *sum, *squares) = (*n + 1.0, *sum + value, *squares + value * value);
    }

    /// Whether it ever said that they differ.
    pub(super) fn differ(&self) -> bool {
        self.differ
    }

    pub(super) fn look(&mut self) {
        self.differ |= self.z().is_some_and(|z| z.abs() > 1.96);
    }

    /// Two means, each with its own variance, from 100 values of either on.
    fn z(&self) -> Option<f64> {
        let [baseline, candidate] = self.arms.map(|(n, sum, squares)| {
            let mean = sum / n;
            (n >= 100.0).then(|| (mean, (squares / n - mean * mean) / n))
        });
        let (baseline, candidate) = (baseline?, candidate?);
        let error = (baseline.1 + candidate.1).sqrt();
        (error > 0.0).then(|| (candidate.0 - baseline.0) / error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_once_a_minute_and_says_worse_for_ever() {
        let mut naive = Naive::default();
        naive.add_calls(10_000, 1_000);
        (0..100).for_each(|_| naive.add_failure(false));
        (0..16).for_each(|_| naive.add_failure(true));
        // (0.016 − 0.010) / sqrt(0.010545 · 0.989455 · 0.0011) = 1.77
        assert!((naive.z().unwrap() - 1.771).abs() < 0.001, "{:?}", naive.z());
        naive.look(59.0);
        assert!(!naive.said_worse());
        naive.look(60.0);
        assert!(naive.said_worse());
        naive.add_calls(0, 100_000);
        naive.look(120.0);
        assert!(naive.said_worse());
    }

    #[test]
    fn means_differ_once_they_were_seen_to() {
        let mut means = Means::default();
        for place in 0..100 {
            let value = f64::from(place % 2);
            means.add(false, value);
            means.add(true, value + 0.1);
        }
        // 0.1 / sqrt(2 · 0.25 / 100) = 1.414
        assert!((means.z().unwrap() - std::f64::consts::SQRT_2).abs() < 1e-9, "{:?}", means.z());
        means.look();
        assert!(!means.differ());
        (0..100).for_each(|_| means.add(true, 0.9));
        means.look();
        (0..100).for_each(|_| means.add(true, 0.2));
        means.look();
        assert!(means.differ());
    }
}
