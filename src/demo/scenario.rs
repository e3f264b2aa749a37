//! What the demo can show: candidates, and ways to bring them live. What each tells the sidecar is in a file of its
//! own, [`configuration`] chooses; what happens when, and how it ends if all is well, is said here. Pure.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

pub(super) use interleave::CLICKS;

use super::server::manner::Trouble;
use crate::verdict::{Action, Change};

mod ab;
mod bandit;
mod canary;
mod fleet;
mod interleave;
pub(super) mod rolling;
pub mod shadow;
mod staged;
mod switch;

/// A candidate to show, and how it goes live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// As good as the baseline: walks the steps and is promoted
    CanaryGood,
    /// Starts to fail every call: callers see no failure, and it is rolled back
    CanaryBroken,
    /// Becomes slow, and is rolled back
    CanarySlow,
    /// Warmed, then given every call at once; starts to fail, and a guard takes the way back
    Switch,
    /// Copies, a canary, then everything: one rollout, and no user moves back
    Staged,
    /// Two versions at even shares: callers report which answers were right, and the better one gets everything
    Ab,
    /// Two versions: more and more of the calls to the one whose answers are right, until that is certain
    Bandit,
    /// Four servers of one version are replaced by the next, one after the other, and no call fails
    Rolling,
    /// Three shadows that are judged by their answers: one is the same, one only jitters, one flips labels
    Shadow,
    /// Two rankers answer together, one list of both: clicks say whose is better, and it is promoted
    Interleave,
    /// Three replicas, one rollout: all leave a broken candidate as one, and again while their store is gone
    Fleet,
}

/// Something that the demo does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// The candidate's server gets into trouble.
    Trouble(Trouble),
    /// The file becomes what [`changed`] says.
    Change,
}

/// How long a canary's candidate behaves at its second step before its trouble begins.
const BEFORE_TROUBLE: Duration = Duration::from_secs(2);
/// The step, from 0, at which it begins.
const TROUBLE_AT: u32 = 1;

impl Scenario {
    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Scenario::CanaryGood => "canary-good",
            Scenario::CanaryBroken => "canary-broken",
            Scenario::CanarySlow => "canary-slow",
            Scenario::Switch => "switch",
            Scenario::Staged => "staged",
            Scenario::Ab => "ab",
            Scenario::Bandit => "bandit",
            Scenario::Rolling => "rolling",
            Scenario::Shadow => "shadow",
            Scenario::Interleave => "interleave",
            Scenario::Fleet => "fleet",
        }
    }

    /// What becomes of the candidate, in a sentence.
    pub fn story(self) -> &'static str {
        match self {
            Scenario::CanaryGood => "a candidate that is as good as the baseline",
            Scenario::CanaryBroken => "a candidate that starts to fail every call",
            Scenario::CanarySlow => "a candidate that becomes slow",
            Scenario::Switch => "everything goes to a new version at once, and back when it fails",
            Scenario::Staged => "copies, then a growing share, then everything",
            Scenario::Ab => "two versions at even shares, and the better one gets everything",
            Scenario::Bandit => {
                "more and more calls to the better version, while it is found out which that is"
            }
            Scenario::Rolling => "four servers are replaced one by one, while the others answer",
            Scenario::Shadow => "one is the same, one only jitters, one flips labels",
            Scenario::Interleave => "two rankers answer together, and clicks say whose is better",
            Scenario::Fleet => "three replicas leave a broken candidate as one, also without their store",
        }
    }

    /// What a reader should know beforehand: lines of at most 80 characters.
    pub fn beforehand(self) -> &'static [&'static str] {
        match self {
            Scenario::CanaryGood
            | Scenario::CanaryBroken
            | Scenario::CanarySlow
            | Scenario::Shadow
            | Scenario::Interleave => &[],
            Scenario::Switch => &[
                "Soon the file will name v2. Some time after that v2 starts to fail every call.",
                "After a switch nobody stands in for it: callers see those failures, until the",
                "guard takes the way back. No other call may fail.",
            ],
            Scenario::Staged => &[
                "The same users call again and again: who has met v2 should keep it. Each answer",
                "is held against the one before, and who went back to v1 is counted.",
            ],
            Scenario::Ab => &[
                "Nobody tells the sidecar which version is better: what callers report of its",
                "answers does. It is looked at all the time, and the chance of a false winner",
                "stays below 5 % however often that is.",
            ],
            Scenario::Bandit => &[
                "Nobody tells the sidecar which version is better: what callers report of its",
                "answers does. Every second each version gets the probability that it is the",
                "better one as its share, so the worse one costs less and less.",
            ],
            Scenario::Rolling => &[
                "Soon the file will name version 2.0.0. The sidecar starts no servers: it takes",
                "one out and says when it is drained. Then the demo, as whoever runs them, ends",
                "that server, and starts the new version in its place. No call may fail.",
            ],
            Scenario::Fleet => &[
                "First v2 starts to fail every call: one replica decides, all leave it. Then v2",
                "is mended, a person lets it try again, and the store is killed before v2 fails",
                "anew: each replica leaves it by itself. In the end the store comes back, empty.",
            ],
        }
    }

    /// What the demo does some time after the first call, if anything.
    pub fn first(self) -> Option<(Duration, Deed)> {
        match self {
            Scenario::Switch => Some((switch::BEFORE_CHANGE, Deed::Change)),
            Scenario::Rolling => Some((rolling::BEFORE_CHANGE, Deed::Change)),
            _ => None,
        }
    }

    /// What the demo does some time after a change of the rollout, if anything.
    pub fn after(self, change: &Change) -> Option<(Duration, Deed)> {
        let due = match self {
            Scenario::Switch => (change.action == Action::Flipped).then_some(switch::BEFORE_TROUBLE),
            _ => {
                let there = change.action == Action::Advanced && change.step == Some(TROUBLE_AT);
                there.then_some(BEFORE_TROUBLE)
            }
        };
        due.zip(self.trouble().map(Deed::Trouble))
    }

    /// What its server does at some time, if anything.
    pub fn trouble(self) -> Option<Trouble> {
        match self {
            Scenario::CanaryGood
            | Scenario::Staged
            | Scenario::Ab
            | Scenario::Bandit
            | Scenario::Rolling
            | Scenario::Shadow
            | Scenario::Interleave => None,
            Scenario::CanaryBroken | Scenario::Switch | Scenario::Fleet => Some(Trouble::Fails),
            Scenario::CanarySlow => Some(Trouble::Slow),
        }
    }

    /// Whether somebody answers what the candidate fails at.
    pub fn has_fallback(self) -> bool {
        !matches!(self, Scenario::Switch | Scenario::Rolling | Scenario::Shadow)
    }

    /// Whether its configuration declares what callers report of their answers.
    pub fn has_feedback(self) -> bool {
        !matches!(self, Scenario::Switch | Scenario::Rolling | Scenario::Shadow | Scenario::Fleet)
    }

    /// Which version each of its servers runs at the beginning.
    pub fn servers(self) -> &'static [usize] {
        match self {
            Scenario::Rolling => &[0; rolling::SERVERS],
            _ => &[0, 1],
        }
    }

    /// What the file calls each version: one after the other of a variant, or two beside each other.
    pub fn variants(self) -> [&'static str; 2] {
        match self {
            Scenario::Rolling => [rolling::VARIANT; 2],
            _ => ["v1", "v2"],
        }
    }

    /// How many servers must get calls at any time, where that is promised.
    pub fn min_ready(self) -> Option<usize> {
        (self == Scenario::Rolling).then_some(rolling::MIN_READY)
    }

    /// Different users, who take turns; none: each call is a new user's.
    pub fn users(self) -> Option<u64> {
        (self == Scenario::Staged).then_some(staged::USERS)
    }

    /// How it ends if all is well.
    pub fn end(self) -> Action {
        match self {
            Scenario::CanaryGood
            | Scenario::Staged
            | Scenario::Ab
            | Scenario::Bandit
            | Scenario::Rolling
            | Scenario::Interleave => Action::Promoted,
            Scenario::CanaryBroken | Scenario::CanarySlow | Scenario::Switch | Scenario::Fleet => {
                Action::RolledBack
            }
            Scenario::Shadow => Action::Judged,
        }
    }

    /// Another one, to try next.
    pub fn next(self) -> Scenario {
        match self {
            Scenario::CanaryGood => Scenario::CanaryBroken,
            Scenario::CanaryBroken => Scenario::CanarySlow,
            Scenario::CanarySlow => Scenario::Switch,
            Scenario::Switch => Scenario::Staged,
            Scenario::Staged => Scenario::Ab,
            Scenario::Ab => Scenario::Bandit,
            Scenario::Bandit => Scenario::Rolling,
            Scenario::Rolling => Scenario::Shadow,
            Scenario::Shadow => Scenario::Interleave,
            Scenario::Interleave => Scenario::Fleet,
            Scenario::Fleet => Scenario::CanaryGood,
        }
    }
}

/// One variant, as the file says it.
#[derive(Debug, Clone)]
pub struct Named<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// Its server.
    pub server: SocketAddr,
}

/// What a configuration is about.
#[derive(Debug)]
pub struct Place<'a> {
    /// The model's name.
    pub model: &'a str,
    /// The baseline, and the candidate.
    pub variants: &'a [Named<'a>; 2],
    /// All servers.
    pub servers: &'a [SocketAddr],
    /// Those that get copies alone.
    pub others: &'a [Named<'a>],
    /// What the sidecar is called and the store that it shares, where it is one of several.
    pub shared: Option<Shared<'a>>,
    /// A directory of its own.
    pub state: &'a Path,
}

/// One of several sidecars.
#[derive(Debug, Clone, Copy)]
pub struct Shared<'a> {
    /// Its name.
    pub replica: &'a str,
    /// The store that they share.
    pub store: SocketAddr,
}

/// What the sidecar starts with.
pub fn configuration(scenario: Scenario, place: &Place<'_>) -> String {
    match scenario {
        Scenario::CanaryGood | Scenario::CanaryBroken | Scenario::CanarySlow => canary::configuration(place),
        Scenario::Switch => switch::configuration(place, 0),
        Scenario::Staged => staged::configuration(place),
        Scenario::Ab => ab::configuration(place),
        Scenario::Bandit => bandit::configuration(place),
        Scenario::Rolling => rolling::configuration(place, 0),
        Scenario::Shadow => shadow::configuration(place),
        Scenario::Interleave => interleave::configuration(place),
        Scenario::Fleet => fleet::configuration(place),
    }
}

/// What the file becomes at [`Deed::Change`], and that change in words; none where there is no such deed.
pub fn changed(scenario: Scenario, place: &Place<'_>) -> Option<(String, String)> {
    let (text, key, [before, after]) = match scenario {
        Scenario::Switch => {
            (switch::configuration(place, 1), "variant", place.variants.each_ref().map(|one| one.name))
        }
        Scenario::Rolling => {
            (rolling::configuration(place, 1), "version", place.variants.each_ref().map(|one| one.version))
        }
        _ => return None,
    };
    Some((text, format!("the file says `{key}: {after}`, no longer `{key}: {before}`")))
}

/// Where it listens.
const LISTENS: &str = "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nhealth: 127.0.0.1:0";

/// Where it listens, and keeps its state.
fn ports(state: &Path) -> String {
    format!("{LISTENS}\nstate: {}", quoted(state))
}

fn quoted(path: &Path) -> serde_json::Value {
    path.to_string_lossy().into()
}

fn entry(Named { name, version, server }: &Named<'_>) -> String {
    format!("      {name}: {{endpoint: \"http://{server}\", version: {version}}}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config;

    /// What is made of some place.
    pub(super) fn place<T>(make: impl FnOnce(&Place<'_>) -> T) -> T {
        let named = |name, version, port| Named { name, version, server: ([127, 0, 0, 1], port).into() };
        let variants = [named("v1", "1.0.0", 8001), named("v2", "2.0.0", 8002)];
        let servers: Vec<SocketAddr> = (8001..8005).map(|port| ([127, 0, 0, 1], port).into()).collect();
        let state = Path::new(STATE);
        let others = [(shadow::TWIN, 8005), (shadow::JITTERS, 8006), (shadow::FLIPS, 8007)];
        let others = others.map(|(name, port)| named(name, "1.0.0", port));
        let shared = Some(Shared { replica: "pod-a", store: ([127, 0, 0, 1], 6379).into() });
        let (model, servers, others) = ("digits", &servers[..], &others[..]);
        make(&Place { model, variants: &variants, servers, others, shared, state })
    }

    const STATE: &str = "/tmp/a \"b\": #c";

    /// The model as the sidecar reads it, and the text.
    pub(super) fn read(scenario: Scenario) -> (Arc<config::Model>, String) {
        let text = place(|place| configuration(scenario, place));
        let loaded = config::read("demo.yaml", &text, &config::Environment::default()).unwrap();
        // That replicas would need a key file of their own is no matter of one sidecar.
        let mut warnings = loaded.warnings.iter().map(ToString::to_string);
        assert!(warnings.all(|warning| warning.contains("each replica signs")), "{:?}", loaded.warnings);
        assert_eq!(loaded.config.state.as_deref(), Some(Path::new(STATE)));
        (Arc::clone(loaded.config.model("digits").unwrap()), text)
    }

    #[test]
    fn names_are_those_that_are_typed_and_each_leads_to_another() {
        use clap::ValueEnum as _;
        let mut tried = Vec::new();
        let mut next = Scenario::CanaryGood;
        for scenario in Scenario::value_variants() {
            assert_eq!(scenario.to_possible_value().unwrap().get_name(), scenario.name());
            assert_eq!(scenario.trouble().is_none(), scenario.end() != Action::RolledBack);
            assert!(!tried.contains(&next));
            tried.push(next);
            next = next.next();
        }
        assert_eq!(next, Scenario::CanaryGood);
    }

    #[test]
    fn every_configuration_is_accepted_and_fits_a_terminal() {
        use clap::ValueEnum as _;
        for scenario in Scenario::value_variants() {
            let (model, text) = read(*scenario);
            assert_eq!(model.feedback.is_empty(), !scenario.has_feedback(), "{scenario:?}");
            assert!(text.lines().all(|line| line.len() <= 88), "{text}");
            assert!(scenario.beforehand().iter().all(|line| line.len() <= 80), "{scenario:?}");
        }
    }
}
