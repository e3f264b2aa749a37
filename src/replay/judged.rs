//! What a candidate's answers prove beside those that were served: by the comparison, the judge and the words that a
//! shadow has. Pure.
//!
//! What servers say of themselves (their model's name and version, the request's id) is no difference.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::candidate::Answered;
use super::recorded::Recorded;
use crate::comparison::drift::{self, Side};
use crate::comparison::judge::{Judge, Judgement};
use crate::comparison::shown::{Showing, show};
use crate::comparison::{Answer, Comparison, Reading, compare};
use crate::config::Judging;
use crate::fault::Code;
use crate::protocol;
use crate::protocol::frame::{PREFIX, prefix};
use crate::shadow::judges::{Judged, terms};
use crate::shadow::offenders::{Offender, Offenders, far, how};

/// Bytes that a message may have once it is inflated; those of a log are inflated, and candidates are not asked for any.
const LIMIT: usize = 64 << 20;
/// Bytes of JSON of either answer of a pair that is far apart.
const SHOWN: usize = 1024;

/// Everything that was found so far.
#[derive(Debug)]
pub(super) struct Verdict {
    judging: Judging,
    controlled: bool,
    judge: Judge,
    offenders: Offenders,
    /// Calls whose served answer is not in the log any more, so that there is nothing to hold another against.
    not_compared: u64,
}

/// An answer, held together.
struct Held {
    status: Code,
    message: Option<[Bytes; 2]>,
    latency: Duration,
}

impl Held {
    fn new(status: Code, message: Option<&Bytes>, latency: Duration) -> Self {
        // Of what failed there is no message, whatever was received before.
        let message = message.filter(|_| status == Code::OK).map(|message| {
            let prefix = prefix(0, u32::try_from(message.len()).unwrap_or(u32::MAX));
            [Bytes::copy_from_slice(&prefix), message.clone()]
        });
        Held { status, message, latency }
    }

    fn of(answered: &Answered) -> Self {
        match &answered.answer {
            Ok(message) => Held::new(Code::OK, Some(message), answered.took),
            Err(status) => Held::new(Code(status.code() as u32), None, answered.took),
        }
    }

    fn answer(&self) -> Answer<'_> {
        let chunks = self.message.as_ref().map_or(&[][..], |message| &message[..]);
        let bytes = self.message.as_ref().map_or(0, |[_, message]| (PREFIX + message.len()) as u64);
        let messages = u64::from(self.message.is_some());
        Answer {
            status: self.status,
            messages,
            bytes,
            chunks: Some(chunks),
            encoding: None,
            latency: self.latency,
        }
    }
}

impl Verdict {
    /// Nothing is found yet; `controlled`: each call is sent to a control too.
    pub(super) fn new(judging: Judging, controlled: bool) -> Self {
        Verdict {
            judging,
            controlled,
            judge: Judge::default(),
            offenders: Offenders::default(),
            not_compared: 0,
        }
    }

    /// Adds a call that was sent again, and what the control answered, where there is one; `now` is since 1970.
    pub(super) fn add(
        &mut self,
        served: &Recorded,
        candidate: &Answered,
        control: Option<&Answered>,
        now: Duration,
    ) {
        let peek = protocol::recognise(&served.path).peek(&served.path);
        let rules = std::mem::take(&mut self.judging.compare);
        let reading = Reading { peek, rules: &rules, limit: LIMIT };
        if served.status == Code::OK && served.response.is_none() {
            self.not_compared += 1;
        } else {
            self.judge(&reading, (served, candidate, control), now);
        }
        self.judging.compare = rules;
    }

    fn judge(
        &mut self,
        reading: &Reading<'_>,
        (call, candidate, control): (&Recorded, &Answered, Option<&Answered>),
        now: Duration,
    ) {
        let terms = self.terms();
        let (held, other) =
            (Held::new(call.status, call.response.as_ref(), call.latency), Held::of(candidate));
        let (served, answer) = (held.answer(), other.answer());
        let Some(found) = compare(reading, &served, &answer) else { return };
        self.judge.pair(&found, [served.latency, answer.latency], &terms, now);
        if found.kind.is_none() {
            self.judge.values(Side::Base, 0.5, &drift::values(reading, &served));
            self.judge.values(Side::Candidate, 0.5, &drift::values(reading, &answer));
        }
        let keep = self.judging.offenders.keep;
        if let Some(place) = self.offenders.place(&found, keep) {
            let offender = offender(call, &found, [&served, &answer], (reading, &self.showing()), now);
            self.offenders.insert(place, offender, keep);
        }
        let other = control.map(Held::of);
        if let Some(noise) = other.as_ref().and_then(|control| compare(reading, &served, &control.answer())) {
            self.judge.control(&found, &noise, &terms, now);
        }
    }

    fn terms(&self) -> crate::comparison::judge::Terms {
        crate::comparison::judge::Terms { control: self.controlled, ..terms(&self.judging) }
    }

    /// The log has these values already, so more is shown than a shadow's status keeps by itself.
    fn showing(&self) -> Showing {
        let bytes = self.judging.offenders.values.map_or(SHOWN, |size| size.bytes());
        Showing { mask: self.judging.offenders.mask.clone(), bytes }
    }

    /// What is proven.
    pub(super) fn judgement(&self) -> Judgement {
        self.judge.verdict(&self.terms())
    }

    /// Calls whose served answer is not in the log any more.
    pub(super) fn not_compared(&self) -> u64 {
        self.not_compared
    }

    /// Everything, as it is told of a shadow.
    pub(super) fn judged(
        &self,
        model: &Arc<str>,
        candidate: &Arc<str>,
        control: Option<&Arc<str>>,
    ) -> Judged {
        Judged {
            model: Arc::clone(model),
            variant: Arc::clone(candidate),
            control: control.cloned(),
            report: self.judge.report(&self.terms()),
            offenders: self.offenders.all().to_vec(),
        }
    }
}

fn offender(
    call: &Recorded,
    found: &Comparison,
    [served, candidate]: [&Answer<'_>; 2],
    (reading, showing): (&Reading<'_>, &Showing),
    now: Duration,
) -> Offender {
    let (output, how) = how(found);
    Offender {
        prediction: call.prediction.clone(),
        trace: call.trace.clone(),
        at: now,
        output,
        how,
        far: far(found).unwrap_or_default(),
        served: show(reading, served, showing),
        shadow: show(reading, candidate, showing),
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use tonic::Status;

    use super::*;
    use crate::config::{Compare, Measure};
    use crate::pb::inference::model_infer_response::InferOutputTensor;
    use crate::pb::inference::{InferTensorContents, ModelInferResponse};

    const PATH: &str = "/inference.GRPCInferenceService/ModelInfer";
    const NOW: Duration = Duration::from_secs(1_700_000_000);

    fn answer(version: &str, scores: &[f64], label: i64) -> Bytes {
        let output = |name: &str, datatype: &str, shape: i64, contents| InferOutputTensor {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: vec![shape],
            contents: Some(contents),
            ..InferOutputTensor::default()
        };
        let numbers =
            InferTensorContents { fp64_contents: scores.to_vec(), ..InferTensorContents::default() };
        let labels = InferTensorContents { int64_contents: vec![label], ..InferTensorContents::default() };
        let message = ModelInferResponse {
            model_version: version.to_owned(),
            outputs: vec![
                output("scores", "FP64", scores.len() as i64, numbers),
                output("label", "INT64", 1, labels),
            ],
            ..ModelInferResponse::default()
        };
        message.encode_to_vec().into()
    }

    fn served(status: Code) -> Recorded {
        Recorded {
            prediction: "p".to_owned(),
            trace: "t".to_owned(),
            time: 0,
            path: PATH.to_owned(),
            request: Bytes::new(),
            response: (status == Code::OK).then(|| answer("1", &[0.25, 0.75], 1)),
            status,
            latency: Duration::from_millis(1),
        }
    }

    fn answered(answer: Result<Bytes, Status>) -> Answered {
        Answered { answer, took: Duration::from_millis(2) }
    }

    /// The kind of the only pair: of the answer as a whole, or of the output.
    fn kinds(rules: &[(&str, Measure)], call: &Recorded, answer: Result<Bytes, Status>) -> Vec<String> {
        let compare =
            rules.iter().map(|(output, measure)| Compare { output: (*output).into(), measure: *measure });
        let mut verdict = Verdict::new(Judging { compare: compare.collect(), ..Judging::default() }, false);
        verdict.add(call, &answered(answer), None, NOW);
        let report = verdict.judged(&"m".into(), &"c".into(), None).report;
        let outputs = report.outputs.iter().flat_map(|output| {
            output.kinds.iter().map(|(kind, _)| format!("{} {}", output.name, kind.name()))
        });
        outputs.collect()
    }

    #[test]
    fn outputs_are_compared_as_a_shadow_s_are_and_versions_are_not() {
        let call = served(Code::OK);
        let none: &[String] = &[];
        assert_eq!(kinds(&[], &call, Ok(answer("2", &[0.25, 0.75], 1))), none);
        assert_eq!(kinds(&[], &call, Ok(answer("2", &[0.26, 0.75], 1))), ["scores values"]);
        let near = crate::config::Numeric { absolute: Some(0.1), ..Default::default() };
        assert_eq!(
            kinds(&[("scores", Measure::Numeric(near))], &call, Ok(answer("2", &[0.26, 0.75], 1))),
            none
        );
        assert_eq!(kinds(&[("scores", Measure::Ignore)], &call, Ok(answer("2", &[9.0, 0.75], 1))), none);
        assert_eq!(
            kinds(&[], &call, Ok(answer("2", &[0.25, 0.75, 0.0], 0))),
            ["scores shape", "label values"]
        );
        assert_eq!(kinds(&[], &call, Ok(Bytes::from_static(b"\xff"))), ["(answer) unreadable"]);
    }

    #[test]
    fn a_failure_is_the_same_only_as_that_failure() {
        let failed = || Err(Status::invalid_argument("bad"));
        let none: &[String] = &[];
        assert_eq!(kinds(&[], &served(Code::OK), failed()), ["(answer) status"]);
        assert_eq!(kinds(&[], &served(Code::INVALID_ARGUMENT), failed()), none);
        assert_eq!(kinds(&[], &served(Code::INTERNAL), failed()), ["(answer) status"]);
    }

    #[test]
    fn what_is_proven_is_what_a_shadow_would_prove() {
        let call = served(Code::OK);
        let verdict = |label: &dyn Fn(u32) -> i64, controlled: bool| {
            let mut verdict = Verdict::new(Judging::default(), controlled);
            for number in 0..1_000 {
                let own = answered(Ok(answer("1", &[0.25, 0.75], i64::from(number % 10 != 3))));
                let other = answered(Ok(answer("2", &[0.25, 0.75], label(number))));
                verdict.add(&call, &other, Some(&own).filter(|_| controlled), NOW);
            }
            verdict
        };
        assert_eq!(verdict(&|_| 1, false).judgement(), Judgement::Equivalent);
        let flips = verdict(&|number| i64::from(number % 10 != 0), false);
        assert_eq!(flips.judgement(), Judgement::Different);
        let judged = flips.judged(&"m".into(), &"c".into(), None);
        assert_eq!((judged.offenders.len(), &*judged.offenders[0].prediction), (10, "p"));
        assert!(
            judged.offenders[0].shadow["outputs"]["label"]["values"][0] == 0.0,
            "{:?}",
            judged.offenders[0]
        );
        // The served version flips as often itself, so that is no difference.
        assert_ne!(verdict(&|number| i64::from(number % 10 != 0), true).judgement(), Judgement::Different);
    }

    #[test]
    fn an_answer_that_is_not_in_the_log_is_counted_and_not_compared() {
        let call = Recorded { response: None, ..served(Code::OK) };
        let mut verdict = Verdict::new(Judging::default(), false);
        verdict.add(&call, &answered(Ok(answer("1", &[0.5], 1))), None, NOW);
        assert_eq!(
            (verdict.not_compared(), verdict.judged(&"m".into(), &"c".into(), None).report.pairs),
            (1, 0)
        );
    }
}
