//! What happens in each row, and what it is held to.

use std::time::Duration;

use clap::ValueEnum;

use crate::server::Manner;

/// One kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Row {
    /// The candidate starts to fail every call with INTERNAL
    Fail,
    /// It starts to answer nobody
    Hang,
    /// It starts to answer valid calls with INVALID_ARGUMENT
    Reject,
    /// Both fail every call for five seconds
    Outage,
    /// Both take longer than an attempt may, for five seconds
    Slow,
    /// A twentieth of the calls has 1 ms of time, is cancelled, or is rubbish; both servers are well
    Strange,
    /// No trouble: the file names the other variant, and then a person takes that back
    Switch,
    /// No trouble: copies, a growing share, everything, for units that come again and again
    Staged,
}

/// How long all is well first.
pub(crate) const CALM: Duration = Duration::from_secs(3);
/// How long an attempt at the candidate may take: `fallback.timeout` in the configuration.
pub(crate) const ATTEMPT: Duration = Duration::from_millis(100);
/// A call that was under way when the candidate was taken out has reached its server by then.
pub(crate) const UNDER_WAY: Duration = Duration::from_millis(100);

impl Row {
    /// In the order they are played.
    pub(crate) const ALL: [Row; 8] =
        [Row::Fail, Row::Hang, Row::Reject, Row::Outage, Row::Slow, Row::Strange, Row::Switch, Row::Staged];

    /// As it is typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Row::Fail => "fail",
            Row::Hang => "hang",
            Row::Reject => "reject",
            Row::Outage => "outage",
            Row::Slow => "slow",
            Row::Strange => "strange",
            Row::Switch => "switch",
            Row::Staged => "staged",
        }
    }

    /// In words.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Row::Fail => "fails every call",
            Row::Hang => "hangs",
            Row::Reject => "refuses valid calls",
            Row::Outage => "both fail for 5 s",
            Row::Slow => "both slow for 5 s",
            Row::Strange => "5 % strange calls",
            Row::Switch => "a switch and its way back",
            Row::Staged => "copies, a growing share, everything",
        }
    }

    /// What the servers do in the trouble: (baseline, candidate).
    pub(crate) fn trouble(self) -> (Manner, Manner) {
        match self {
            Row::Fail => (Manner::Well, Manner::Fails),
            Row::Hang => (Manner::Well, Manner::Hangs),
            Row::Reject => (Manner::Well, Manner::Refuses),
            Row::Outage => (Manner::Fails, Manner::Fails),
            Row::Slow => (Manner::Slow, Manner::Slow),
            Row::Strange | Row::Switch | Row::Staged => (Manner::Well, Manner::Well),
        }
    }

    /// Whether nothing goes wrong in it: somebody wants another variant to answer.
    pub(crate) fn is_asked_for(self) -> bool {
        matches!(self, Row::Switch | Row::Staged)
    }

    /// How many units calls come from, in turn. Where a unit is to come again often there are fewer.
    pub(crate) fn users(self) -> u64 {
        if self == Row::Staged { 5_003 } else { 100_003 }
    }

    /// How long the trouble lasts, and how long calls go on when it has passed.
    pub(crate) fn lasts(self) -> (Duration, Duration) {
        let (trouble, after) = match self {
            Row::Fail | Row::Reject => (3, 0),
            Row::Hang => (4, 0),
            Row::Outage | Row::Slow => (5, 3),
            Row::Strange => (10, 0),
            Row::Switch | Row::Staged => (0, 0),
        };
        (Duration::from_secs(trouble), Duration::from_secs(after))
    }

    /// Whether the candidate is to be rolled back.
    pub(crate) fn rolls_back(self) -> bool {
        self.decides_within().is_some()
    }

    /// From the first failure, or the first attempt that timed out, to the decision.
    pub(crate) fn decides_within(self) -> Option<Duration> {
        match self {
            Row::Fail | Row::Reject => Some(Duration::from_secs(1)),
            Row::Hang => Some(Duration::from_secs(2)),
            Row::Outage | Row::Slow | Row::Strange | Row::Switch | Row::Staged => None,
        }
    }

    /// When the first failure is known after its call has reached the server.
    pub(crate) fn first_failure_after(self) -> Duration {
        if self == Row::Hang { ATTEMPT } else { Duration::ZERO }
    }

    /// Whether callers may see failures: where nobody could have answered.
    pub(crate) fn may_fail(self) -> bool {
        self == Row::Outage
    }
}
