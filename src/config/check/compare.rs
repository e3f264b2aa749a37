//! How answers of shadows are compared and judged: each measure with its own keys, and a control that can be one.

use std::sync::Arc;

use super::Check;
use crate::config::problem::{Problem, suggestion};
use crate::config::source::join;
use crate::config::units::{Percent, Size};
use crate::config::{Compare, Control, Judging, Measure, Numeric, Offenders, Shadow, Variant, raw};

/// Every measure, and the keys that it has beside `output` and `as`.
const MEASURES: [(&str, &[&str]); 7] = [
    ("exact", &[]),
    ("numeric", &["absolute", "relative", "ulp", "equal_nan"]),
    ("class", &["top"]),
    ("scores", &["tolerance"]),
    ("ranking", &["tolerance", "depth"]),
    ("embedding", &["tolerance"]),
    ("ignore", &[]),
];
const TOP: u64 = 5;
const DEPTH: u64 = 10;
const SCORES: f64 = 1e-3;
const RANKING: f64 = 0.05;
const EMBEDDING: f64 = 1e-3;
/// Share of the copied calls that a control gets.
const CONTROL: u32 = 10_000;
/// Most offenders, and bytes of one's values.
const OFFENDERS: u64 = 1000;
const VALUES: (u64, u64) = (64, 1 << 20);

/// The name that a shadow's control is given by, be it a variant's or an address.
pub(super) fn second(shadow: &raw::Shadow) -> Option<&str> {
    match shadow.control.as_ref()? {
        raw::Second::To(to) => Some(to),
        raw::Second::Full(full) => full.to.as_deref(),
    }
}

impl Check<'_> {
    /// What is made of the answers of the shadow at `path`; none: nothing.
    pub(super) fn judging(&mut self, path: &str, raw: &raw::Shadow, variants: &[Variant]) -> Option<Judging> {
        let at = |key: &str| join(path, key);
        let compare = self.rules(&at("compare"), raw.compare.as_ref());
        let control = raw.control.as_ref().and_then(|control| {
            let control = self.control(&at("control"), control, variants);
            control.filter(|_| !self.broken(&at("control")))
        });
        let disagreement = self.share(&at("disagreement"), raw.disagreement.as_ref());
        if let Some(share) = disagreement.filter(|share| *share == Percent::NONE || *share == Percent::ALL) {
            let problem = Problem::new(at("disagreement"), "allows nothing, or everything");
            let hint = "write a share between, like 1%; a difference of nothing can never be proven";
            self.error(problem.with_value(share.to_string()).with_hint(hint));
        }
        let alpha = self.share(&at("alpha"), raw.alpha.as_ref());
        if let Some(share) = alpha.filter(|share| *share == Percent::NONE || *share == Percent::ALL) {
            let problem = Problem::new(at("alpha"), "is no chance of an error");
            self.error(problem.with_value(share.to_string()).with_hint("the default is 1%"));
        }
        let off = matches!(compare, Some(None));
        let others = [
            ("control", raw.control.is_some()),
            ("disagreement", raw.disagreement.is_some()),
            ("alpha", raw.alpha.is_some()),
            ("offenders", raw.offenders.is_some()),
        ];
        for (key, _) in others.into_iter().filter(|(_, given)| off && *given) {
            let problem = Problem::new(at(key), "has no meaning beside `compare: off`");
            self.error(problem.with_hint("leave one of both out"));
        }
        if off {
            return None;
        }
        Some(Judging {
            compare: compare.flatten().unwrap_or_default(),
            control,
            disagreement,
            alpha: alpha.map_or(Judging::default().alpha, Percent::probability),
            offenders: self.offenders(&at("offenders"), raw.offenders.as_ref()),
        })
    }

    /// Declared outputs; none where nothing is said, and the inner none for `off`.
    fn rules(
        &mut self,
        path: &str,
        raw: Option<&raw::Several<raw::Compare>>,
    ) -> Option<Option<Vec<Compare>>> {
        let list: Vec<(String, &raw::Compare)> = match raw? {
            raw::Several::Word(word) if word == "off" => return Some(None),
            raw::Several::Word(word) => {
                let problem =
                    Problem::new(path, "is neither off nor an output").with_value(format!("{word:?}"));
                self.error(
                    problem.with_hint("say how an output is compared, like {output: label, as: class}"),
                );
                return None;
            }
            raw::Several::One(one) => vec![(path.to_owned(), one)],
            raw::Several::Many(many) => {
                let at = |(index, one)| Some((format!("{path}[{index}]"), Option::as_ref(one)?));
                many.iter().enumerate().filter_map(at).collect()
            }
        };
        let mut found: Vec<Compare> = Vec::new();
        for (path, raw) in list {
            let Some(rule) = self.rule(&path, raw) else { continue };
            self.once(&path, &rule, &found);
            found.push(rule);
        }
        Some(Some(found))
    }

    /// Refuses an output that is among those before it.
    pub(super) fn once(&mut self, path: &str, rule: &Compare, before: &[Compare]) {
        if before.iter().any(|known| known.output == rule.output) {
            let problem = Problem::new(join(path, "output"), "is declared before this one");
            self.error(problem.with_value(format!("{:?}", rule.output)).with_hint("keep one of them"));
        }
    }

    pub(super) fn rule(&mut self, path: &str, raw: &raw::Compare) -> Option<Compare> {
        let at = |key: &str| join(path, key);
        match raw.output.as_deref() {
            None => self.missing(&at("output"), "say which, as the model names it"),
            Some("") => self.error(Problem::new(at("output"), "is no name of an output").with_value("\"\"")),
            Some(_) => {}
        }
        let names = MEASURES.map(|(name, _)| name);
        let Some(word) = raw.measure.as_deref() else {
            self.missing(&at("as"), &format!("say by what: {}", names.join(", ")));
            return None;
        };
        let Some((_, keys)) = MEASURES.iter().find(|(name, _)| *name == word) else {
            let problem = Problem::new(at("as"), "is no measure").with_value(format!("{word:?}"));
            self.error(problem.with_hint(suggestion(word, &names)));
            return None;
        };
        self.other_keys(path, raw, (word, keys));
        let measure = self.measure(path, raw, word);
        let output = raw.output.as_deref().filter(|name| !name.is_empty())?;
        Some(Compare { output: output.into(), measure })
    }

    /// Keys that another measure has.
    fn other_keys(&mut self, path: &str, raw: &raw::Compare, (word, keys): (&str, &[&str])) {
        let given = [
            ("tolerance", raw.tolerance.is_some()),
            ("absolute", raw.absolute.is_some()),
            ("relative", raw.relative.is_some()),
            ("ulp", raw.ulp.is_some()),
            ("equal_nan", raw.equal_nan.is_some()),
            ("top", raw.top.is_some()),
            ("depth", raw.depth.is_some()),
        ];
        for (key, _) in given.into_iter().filter(|(key, given)| *given && !keys.contains(key)) {
            let owners: Vec<&str> =
                MEASURES.iter().filter(|(_, keys)| keys.contains(&key)).map(|(name, _)| *name).collect();
            let problem = Problem::new(join(path, key), format!("is no key of `as: {word}`"));
            self.error(
                problem.with_hint(format!("it belongs to {}; remove it, or change `as`", owners.join(", "))),
            );
        }
    }

    fn measure(&mut self, path: &str, raw: &raw::Compare, word: &str) -> Measure {
        let at = |key: &str| join(path, key);
        match word {
            "numeric" => Measure::Numeric(Numeric {
                absolute: self.distance(&at("absolute"), raw.absolute.as_ref(), f64::MAX),
                relative: self.distance(&at("relative"), raw.relative.as_ref(), f64::MAX),
                ulp: raw.ulp.as_ref().map(|count| self.count(&at("ulp"), Some(count), 1, 1 << 53)),
                equal_nan: raw.equal_nan.unwrap_or(true),
            }),
            "class" => Measure::Class { top: self.count(&at("top"), raw.top.as_ref(), TOP, 1000) as usize },
            "scores" => Measure::Scores {
                tolerance: self.distance(&at("tolerance"), raw.tolerance.as_ref(), 1.0).unwrap_or(SCORES),
            },
            "ranking" => Measure::Ranking {
                tolerance: self.distance(&at("tolerance"), raw.tolerance.as_ref(), 1.0).unwrap_or(RANKING),
                depth: self.count(&at("depth"), raw.depth.as_ref(), DEPTH, 1000) as usize,
            },
            "embedding" => Measure::Embedding {
                tolerance: self.distance(&at("tolerance"), raw.tolerance.as_ref(), 2.0).unwrap_or(EMBEDDING),
            },
            "ignore" => Measure::Ignore,
            _ => Measure::Exact,
        }
    }

    /// A distance from 0 to `most`.
    fn distance(&mut self, path: &str, raw: Option<&raw::Amount>, most: f64) -> Option<f64> {
        let distance = self.amount(path, raw?)?;
        if !(0.0..=most).contains(&distance) {
            let range = if most == f64::MAX { "0 or more".to_owned() } else { format!("from 0 to {most}") };
            let problem =
                Problem::new(path, "is no distance of this measure").with_value(distance.to_string());
            self.error(problem.with_hint(format!("write a number {range}")));
        }
        Some(distance)
    }

    fn control(&mut self, path: &str, raw: &raw::Second, variants: &[Variant]) -> Option<Control> {
        let (at, to, sample) = match raw {
            raw::Second::To(to) => (path.to_owned(), to, None),
            raw::Second::Full(full) => {
                let Some(to) = &full.to else {
                    self.missing(
                        &join(path, "to"),
                        "name a variant of the served version, or write an address",
                    );
                    return None;
                };
                (join(path, "to"), to, full.sample.as_ref())
            }
        };
        let usual = Percent::from_thousandths(CONTROL).unwrap_or(Percent::ALL);
        let sample = self.share(&join(path, "sample"), sample).unwrap_or(usual);
        if sample == Percent::NONE {
            let problem = Problem::new(join(path, "sample"), "lets it see no call").with_value("0%");
            self.error(problem.with_hint("write a share above 0%, or leave `control` out"));
        }
        if let Some(index) = variants.iter().position(|variant| *variant.name == **to) {
            return Some(Control { variant: variants[index].clone(), index: Some(index), sample });
        }
        if !to.contains(':') {
            let known: Vec<&str> = variants.iter().map(|variant| &*variant.name).collect();
            self.unknown(&at, "variant of this model", to, &known);
            return None;
        }
        let endpoint = self.endpoint(&at, &raw::Endpoint::Url(to.clone()))?;
        let variant = Variant {
            name: to.as_str().into(),
            version: None,
            digest: None,
            build: to.as_str().into(),
            endpoints: vec![endpoint],
            model_name: None,
            model_version: None,
            metrics: None,
        };
        Some(Control { variant, index: None, sample })
    }

    /// A control must be what the baseline is, and nobody who answers for another.
    pub(super) fn control_answers(
        &mut self,
        path: &str,
        shadow: &Shadow,
        baseline: usize,
        gets: &dyn Fn(usize) -> bool,
    ) {
        let control = shadow.judging.as_ref().and_then(|judging| judging.control.as_ref());
        let Some((control, index)) = control.and_then(|control| Some((control, control.index?))) else {
            return;
        };
        let at = join(path, "control");
        let problem = |text: &str| Problem::new(&*at, text).with_value(format!("{:?}", control.variant.name));
        if index == shadow.variant {
            let hint = "name another instance of the version that is served";
            self.error(problem("is the shadow itself").with_hint(hint));
        } else if index != baseline && gets(index) {
            let hint = "a control is the baseline itself, or a variant of its version that is given none";
            self.error(problem("is given calls by the strategy").with_hint(hint));
        }
    }

    fn offenders(&mut self, path: &str, raw: Option<&raw::Offenders>) -> Offenders {
        let usual = Judging::default().offenders;
        let Some(raw) = raw else { return usual };
        let at = |key: &str| join(path, key);
        let keep = self.count(&at("keep"), raw.keep.as_ref(), usual.keep as u64, OFFENDERS);
        let values: Option<Size> =
            raw.values.as_ref().map(|size| self.size(&at("values"), Some(size), 4096, VALUES));
        let mask: Vec<Arc<str>> =
            raw.mask.iter().flatten().flatten().map(|name| Arc::from(name.as_str())).collect();
        if values.is_none() && !mask.is_empty() {
            let problem = Problem::new(at("mask"), "hides values that are not kept");
            self.error(problem.with_hint("write `values: 4KiB` beside it, or remove it"));
        }
        Offenders { keep: keep as usize, values, mask }
    }
}
