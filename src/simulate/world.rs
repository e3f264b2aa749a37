//! What the calls, their callers and what is learnt later are like. It says nothing of who judges them.

use std::time::Duration;

use serde::Deserialize;

use super::chance::Lognormal;

/// What the calls are like.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct World {
    /// Calls a second, on average.
    pub(super) calls: f64,
    pub(super) arrivals: Arrivals,
    pub(super) errors: Failing,
    pub(super) rejections: Failing,
    pub(super) latency: Option<Latency>,
    pub(super) strange: Option<Strange>,
    /// This part of the candidate's units comes to the baseline instead, and nobody says so.
    pub(super) strays: f64,
    /// What is learnt later, at most once for each feedback of the model.
    pub(super) feedback: Vec<Learnt>,
    /// Lists that are shown, and clicked on.
    pub(super) rankings: Option<Rankings>,
}

impl Learnt {
    /// Means of the baseline, the candidate, and so on, so many seconds after the candidate's first call of a run that
    /// may last `until` of them.
    pub(super) fn means_at(&self, at: f64, until: f64) -> impl Iterator<Item = f64> + '_ {
        let changed = self.then.as_ref().filter(|(after, _)| at >= after.as_secs_f64());
        let means = changed.map_or(&self.means, |(_, means)| means);
        let times = 1.0 + (self.drift - 1.0) * at / until;
        means.iter().map(move |mean| mean * times)
    }
}

/// Lists that are shown.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rankings {
    /// How likely somebody who looks at an item clicks on it, in the order of the baseline.
    pub(super) attraction: Vec<f64>,
    /// Whether each ranker puts them in an order of its own at each call.
    pub(super) shuffled: bool,
    /// Places, from 0, that the candidate has the other way round.
    pub(super) swap: Option<(usize, usize)>,
    pub(super) looks: Looks,
}

/// Where people look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Looks {
    /// From the top, on to the next with this probability, until they click.
    Cascade(f64),
    /// At the first place with this probability, at the second with half of it, at the third with a third.
    Places(f64),
    /// At one slot of the candidate's with this probability, else at one of the baseline's, and they click on it.
    Prefers(f64),
}

/// How the number of calls changes with time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Arrivals {
    /// Not at all.
    #[default]
    Steady,
    /// Between a fifth and nine fifths of the average, once around in 24 hours.
    Day,
    /// Ten times as many during 10 seconds of every five minutes.
    Bursts,
}

/// How calls fail.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Failing {
    /// Of the baseline's calls, at the beginning.
    pub(super) rate: f64,
    /// What the rate has been multiplied by at the end, growing evenly.
    pub(super) drift: f64,
    /// The candidate has so many times the baseline's rate.
    pub(super) candidate: Change,
    /// Times at which this part of all calls fails, whoever gets them: how often, how long, which part.
    pub(super) outages: Option<(Duration, Duration, f64)>,
    /// Failures come in bursts of so many, by one unit within 20 seconds.
    pub(super) burst: u64,
}

/// How long calls take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Latency {
    pub(super) baseline: Lognormal,
    pub(super) candidate: Lognormal,
    /// When the candidate begins to differ.
    pub(super) after: Duration,
}

/// What becomes different about the candidate, and how long after its first call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Change {
    pub(super) times: f64,
    pub(super) after: Duration,
}

impl Default for Change {
    fn default() -> Self {
        Change { times: 1.0, after: Duration::ZERO }
    }
}

/// Callers whose calls come to nothing by their own doing.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Strange {
    /// Part of all calls that is theirs.
    pub(super) share: f64,
    /// How many they are; each is one unit, where calls belong to units.
    pub(super) callers: u64,
    /// Which oddities, each as often as the others; at least one.
    pub(super) does: Vec<Oddity>,
}

/// What a strange caller does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Oddity {
    /// Gives the call one millisecond.
    Deadlines,
    /// Leaves before the answer.
    Cancels,
    /// Sends what any variant refuses.
    Rubbish,
}

impl Oddity {
    pub(super) const ALL: [Oddity; 3] = [Oddity::Deadlines, Oddity::Cancels, Oddity::Rubbish];
}

/// How values without bounds are spread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Law {
    #[default]
    Normal,
    /// Above 0, and a few of them large, as what is spent often is.
    Lognormal,
}

/// What is learnt later about predictions.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Learnt {
    /// Index into the feedback of the model.
    pub(super) feedback: usize,
    /// Part of the predictions that bring a report.
    pub(super) share: f64,
    /// Means of the values of the baseline, the candidate, and so on.
    pub(super) means: Vec<f64>,
    /// What they are from so long after the candidate's first call on.
    pub(super) then: Option<(Duration, Vec<f64>)>,
    /// What the means of all have been multiplied by at the end, growing evenly, and the standard deviation of values
    /// that are not 0 or 1.
    pub(super) drift: f64,
    pub(super) spread: f64,
    /// How values without bounds are spread around it.
    pub(super) law: Law,
    /// Median of the time from a prediction to its report, and the standard deviation of its logarithm.
    pub(super) delay: (Duration, f64),
    /// How many units there are, and the standard deviation of their own means; none: nobody comes back.
    pub(super) units: Option<(u64, f64)>,
}
