//! The prediction log: where, how much, and how often.

use std::time::Duration;

use super::Check;
use crate::config::problem::{Problem, suggestion};
use crate::config::units::{Percent, Size, write_duration};
use crate::config::{Full, Log, Payloads, PayloadsAs, raw};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Longer than that, and a crash takes more than anybody expects.
const LONGEST_FLUSH: Duration = Duration::from_secs(60);
/// Shorter than that, and the disk does nothing but sync.
const SHORTEST_FLUSH: Duration = Duration::from_millis(10);
const SHORTEST_SEAL: Duration = Duration::from_secs(1);

impl Check<'_> {
    pub(super) fn log(&mut self, raw: Option<&raw::Log>) -> Option<Log> {
        let raw = raw?;
        if raw.dir.is_none() {
            self.missing("log.dir", "name the directory, like /var/log/parhelion");
        }
        let dir = self.path("log.dir", raw.dir.as_deref());
        let seal = raw.seal.as_ref();
        let flush = self.positive("log.flush", raw.flush.as_ref(), Duration::from_secs(1));
        self.between("log.flush", flush, (SHORTEST_FLUSH, LONGEST_FLUSH), "1s");
        let every = seal.and_then(|seal| seal.every.as_ref());
        let seal_every = self.positive("log.seal.every", every, Duration::from_secs(600));
        self.between("log.seal.every", seal_every, (SHORTEST_SEAL, Duration::from_secs(86_400)), "10m");
        let size = seal.and_then(|seal| seal.size.as_ref());
        let seal_size = self.size("log.seal.size", size, 64 * MIB, (64 << 10, GIB));
        let disk = self.size("log.disk", raw.disk.as_ref(), GIB, (MIB, 1 << 50));
        if disk.0 < 2 * seal_size.0 && !self.broken("log") {
            let text = format!("has no room for a spool of {seal_size} and the file that it becomes");
            let problem = Problem::new("log.disk", text).with_value(disk.to_string());
            self.error(
                problem.with_hint(format!(
                    "write at least {}, or a smaller log.seal.size",
                    Size(2 * seal_size.0)
                )),
            );
        }
        let full = self.full("log.full", raw.full.as_deref());
        let sample = self.share("log.sample", raw.sample.as_ref()).unwrap_or(Percent::ALL);
        if sample == Percent::NONE {
            let problem = Problem::new("log.sample", "logs nothing but changes of rollouts").with_value("0%");
            self.warn(problem.with_hint("write more than 0%, or remove `log`"));
        }
        let upload = raw.upload.as_deref().and_then(|url| self.upload(url));
        let payloads = raw.payloads.as_ref().map(|payloads| self.payloads(payloads));
        let events = raw.cloudevents.as_ref();
        let events = events.map(|events| self.cloudevents("log.cloudevents", events, payloads.is_some()));
        let cloudevents = events.flatten();
        Some(Log {
            dir: dir?,
            sample,
            flush,
            seal_size,
            seal_every,
            disk,
            full,
            upload,
            payloads,
            cloudevents,
        })
    }

    fn upload(&mut self, url: &str) -> Option<String> {
        match crate::log::store::check(url) {
            Ok(_) => Some(url.to_owned()),
            Err(wrong) => {
                let hint = "write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or file:///FOLDER; secrets belong into the environment";
                // Whatever it is, it may hold a secret.
                self.error(Problem::new("log.upload", wrong).with_hint(hint));
                None
            }
        }
    }

    fn payloads(&mut self, raw: &raw::Payloads) -> Payloads {
        let word = raw.kept_as.as_deref().unwrap_or(PayloadsAs::Raw.name());
        let kept_as = PayloadsAs::ALL.into_iter().find(|one| one.name() == word).unwrap_or_else(|| {
            let problem = Problem::new("log.payloads.as", "is neither raw nor decoded");
            let hint = suggestion(word, &PayloadsAs::ALL.map(PayloadsAs::name));
            self.error(problem.with_value(format!("{word:?}")).with_hint(hint));
            PayloadsAs::Raw
        });
        let sample = self.share("log.payloads.sample", raw.sample.as_ref()).unwrap_or(Percent::ONE);
        let size = self.size("log.payloads.size", raw.size.as_ref(), 64 << 10, (1 << 10, 16 * MIB));
        let mut mask = Vec::new();
        for (index, name) in raw.mask.iter().flatten().enumerate() {
            match name.as_deref() {
                Some("") | None => {
                    let problem = Problem::new(format!("log.payloads.mask[{index}]"), "names no tensor");
                    self.error(problem.with_hint("write the name of an input or output"));
                }
                Some(name) => mask.push(name.to_owned()),
            }
        }
        Payloads { sample, size, kept_as, mask }
    }

    fn full(&mut self, path: &str, word: Option<&str>) -> Full {
        let Some(word) = word else { return Full::DropOldest };
        let known = Full::ALL.map(Full::name);
        Full::ALL.into_iter().find(|full| full.name() == word).unwrap_or_else(|| {
            let problem = Problem::new(path, "is neither drop_oldest nor drop_newest");
            self.error(problem.with_value(format!("{word:?}")).with_hint(suggestion(word, &known)));
            Full::DropOldest
        })
    }

    fn between(&mut self, path: &str, found: Duration, (least, most): (Duration, Duration), usual: &str) {
        let text = if found.is_zero() || self.broken(path) {
            return;
        } else if found < least {
            format!("is shorter than {}", write_duration(least))
        } else if found > most {
            format!("is longer than {}", write_duration(most))
        } else {
            return;
        };
        let hint = format!("the default is {usual}");
        self.error(Problem::new(path, text).with_value(write_duration(found)).with_hint(hint));
    }
}
