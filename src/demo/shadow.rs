//! What became of the copies that the demo's shadow could get. Pure.
//!
//! The law is the sidecar's, and is held against its counts at the end of a run: once no copy is under way, what was
//! copied and what was skipped, each for one reason, is what was eligible.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

/// Counts of one shadow; those that `--json` says are the first three.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Copies {
    /// Calls that could be copied.
    pub eligible: u64,
    /// Those that were.
    pub copied: u64,
    /// Those that were not, by the reason's word; reasons that never held are left out.
    pub skipped: BTreeMap<&'static str, u64>,
    /// Copies that are still under way.
    #[serde(skip)]
    pub under_way: u64,
    /// How long copies took, on average; `None` where there is none.
    #[serde(skip)]
    pub mean: Option<Duration>,
    /// How long the calls took that they are copies of, towards their own servers, on average.
    #[serde(skip)]
    pub primary_mean: Option<Duration>,
    /// Copies whose answer was held against that of the call.
    #[serde(skip)]
    pub compared: u64,
    /// Of these: those that do not agree, in whatever way.
    #[serde(skip)]
    pub differed: u64,
}

impl Copies {
    /// Whether nothing is under way and the books are right.
    pub fn settled(&self) -> bool {
        self.under_way == 0 && self.eligible == self.copied + self.skipped.values().sum::<u64>()
    }

    /// Share of eligible calls that were copied, 0 to 1.
    pub fn coverage(&self) -> f64 {
        if self.eligible == 0 { 0.0 } else { self.copied as f64 / self.eligible as f64 }
    }
}

/// The shadow and its counts.
#[derive(Debug, Clone, Default)]
pub struct Shadow {
    /// As the configuration spells it.
    pub name: String,
    /// As the configuration spells it.
    pub version: String,
    /// So far.
    pub copies: Copies,
}

impl Shadow {
    /// Coverage, latency beside the calls' own, and how often answers differed, one line each.
    pub fn lines(&self) -> Vec<String> {
        let Shadow { name, version, copies } = self;
        let Copies { eligible, copied, skipped, mean, primary_mean, compared, differed, .. } = copies;
        let coverage = copies.coverage() * 100.0;
        let mut lines = vec![format!(
            "  {name} {version}  shadow, answers nobody: {copied} of {eligible} calls copied ({coverage:.1} %)"
        )];
        if let (Some(mean), Some(primary)) = (mean, primary_mean) {
            let millis = |duration: &Duration| duration.as_secs_f64() * 1e3;
            let (mean, primary) = (millis(mean), millis(primary));
            lines.push(format!("     copies take {mean:.2} ms on average, the same calls {primary:.2} ms"));
        }
        if *compared > 0 {
            lines.push(format!("     answers differ in {differed} of {compared}"));
        }
        if !skipped.is_empty() {
            let reasons: Vec<String> =
                skipped.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
            lines.push(format!("     not copied: {}", reasons.join(", ")));
        }
        lines
    }

    /// The coverage in a few words.
    pub fn brief(&self) -> String {
        let Shadow { name, copies: Copies { eligible, copied, .. }, .. } = self;
        format!("shadow {name} {copied} of {eligible} copied")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_books_are_right_or_it_is_not_settled() {
        let copies = Copies { eligible: 10, copied: 4, ..Copies::default() };
        assert!(!copies.settled());
        let copies = Copies { skipped: BTreeMap::from([("sampled_out", 5), ("breaker", 1)]), ..copies };
        assert!(copies.settled());
        assert!((copies.coverage() - 0.4).abs() < 1e-9);
        assert!(!Copies { under_way: 1, ..copies.clone() }.settled());
        assert!(!Copies { eligible: 9, ..copies }.settled());
        assert!(Copies::default().settled());
        assert_eq!(Copies::default().coverage(), 0.0);
    }

    #[test]
    fn only_what_is_known_is_said() {
        let shadow = Shadow { name: "v3".into(), version: "3".into(), copies: Copies::default() };
        assert_eq!(shadow.lines(), ["  v3 3  shadow, answers nobody: 0 of 0 calls copied (0.0 %)"]);
        let copies = Copies {
            eligible: 8,
            copied: 6,
            skipped: BTreeMap::from([("breaker", 2)]),
            mean: Some(Duration::from_micros(310)),
            primary_mean: Some(Duration::from_micros(250)),
            compared: 5,
            differed: 4,
            under_way: 0,
        };
        let shadow = Shadow { copies, ..shadow };
        let text = shadow.lines().join("\n");
        for part in
            ["6 of 8 calls copied (75.0 %)", "0.31 ms", "0.25 ms", "in 4 of 5", "not copied: breaker 2"]
        {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert_eq!(shadow.brief(), "shadow v3 6 of 8 copied");
    }
}
