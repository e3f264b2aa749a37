use bytes::{BufMut, BytesMut};
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::config::Numeric;
use crate::pb::inference::model_infer_response::InferOutputTensor;
use crate::pb::inference::{InferTensorContents, ModelInferResponse, ModelStreamInferResponse};

/// An answer of these outputs: name, type, shape, raw contents.
fn raw(outputs: &[(&str, &str, &[i64], Vec<u8>)]) -> ModelInferResponse {
    ModelInferResponse {
        outputs: outputs
            .iter()
            .map(|(name, datatype, shape, _)| InferOutputTensor {
                name: (*name).into(),
                datatype: (*datatype).into(),
                shape: shape.to_vec(),
                ..Default::default()
            })
            .collect(),
        raw_output_contents: outputs.iter().map(|(.., bytes)| bytes.clone().into()).collect(),
        ..Default::default()
    }
}

fn typed(name: &str, datatype: &str, shape: &[i64], contents: InferTensorContents) -> ModelInferResponse {
    let output = InferOutputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: shape.to_vec(),
        contents: Some(contents),
        ..Default::default()
    };
    ModelInferResponse { outputs: vec![output], ..Default::default() }
}

fn framed(messages: &[Vec<u8>]) -> Bytes {
    let mut bytes = BytesMut::new();
    for message in messages {
        bytes.put_u8(0);
        bytes.put_u32(message.len() as u32);
        bytes.put_slice(message);
    }
    bytes.freeze()
}

fn answer(chunks: &[Bytes]) -> Answer<'_> {
    Answer {
        status: Code::OK,
        messages: 1,
        bytes: chunks.iter().map(|chunk| chunk.len() as u64).sum(),
        chunks: Some(chunks),
        encoding: None,
        latency: Duration::from_millis(1),
    }
}

fn held(rules: &[Compare], one: &ModelInferResponse, other: &ModelInferResponse) -> Comparison {
    let reading = Reading { peek: Some(Peek::Unary), rules, limit: 1 << 20 };
    let (one, other) = ([framed(&[one.encode_to_vec()])], [framed(&[other.encode_to_vec()])]);
    compare(&reading, &answer(&one), &answer(&other)).unwrap()
}

fn rule(output: &str, measure: Measure) -> Compare {
    Compare { output: output.into(), measure }
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn longs(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn texts(values: &[&str]) -> Vec<u8> {
    values.iter().flat_map(|text| [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()).collect()
}

/// The only output.
fn only(found: &Comparison) -> &Output {
    assert_eq!((found.kind, found.outputs.len()), (None, 1), "{found:?}");
    &found.outputs[0]
}

fn figure(output: &Output, name: &str) -> f64 {
    output.figures.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no {name}")).1
}

#[test]
fn numbers_are_close_or_not() {
    let one = raw(&[("y", "FP32", &[4, 1], floats(&[1.0, 2.0, 3.0, f32::NAN]))]);
    let other = raw(&[("y", "FP32", &[4, 1], floats(&[1.0, 2.0001, 3.5, f32::NAN]))]);
    let found = held(&[], &one, &other);
    let output = only(&found);
    assert_eq!((output.measure, output.inferred, output.kind), (Some("numeric"), true, Some(Kind::Values)));
    assert_eq!((output.rows, output.differing, output.distance), (4, 2, 0.5));
    assert!((figure(output, "bias") - 0.16670).abs() < 1e-4 && figure(output, "max_ulp") > 1e6);
    let numeric = Numeric { absolute: Some(1e-3), ..Numeric::default() };
    let loose = held(&[rule("y", Measure::Numeric(numeric))], &one, &other);
    assert_eq!((only(&loose).differing, only(&loose).inferred), (1, false));
    let strict = Numeric { equal_nan: false, absolute: Some(1.0), ..Numeric::default() };
    assert_eq!(only(&held(&[rule("y", Measure::Numeric(strict))], &one, &one)).differing, 1);
    let steps = Numeric { ulp: Some(1_000), ..Numeric::default() };
    assert_eq!(only(&held(&[rule("y", Measure::Numeric(steps))], &one, &other)).differing, 1);
    assert!(held(&[], &one, &one).agrees());
}

#[test]
fn a_number_that_becomes_none_is_a_kind_of_its_own() {
    for bad in [f32::NAN, f32::INFINITY] {
        let one = raw(&[("y", "FP32", &[2], floats(&[1.0, 2.0]))]);
        let other = raw(&[("y", "FP32", &[2], floats(&[1.0, bad]))]);
        for (measure, rows) in [
            (Measure::Numeric(Numeric::default()), 2),
            (Measure::Scores { tolerance: 0.1 }, 1),
            (Measure::Embedding { tolerance: 0.1 }, 1),
        ] {
            let found = held(&[rule("y", measure)], &one, &other);
            assert_eq!((only(&found).kind, only(&found).rows), (Some(Kind::NonFinite), rows), "{measure:?}");
        }
    }
}

#[test]
fn half_precision_is_read() {
    let halves = |values: &[f32]| values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect();
    let bfloats =
        |values: &[f32]| values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect();
    for (word, one, other) in [
        ("FP16", halves(&[0.5, 2.0]), halves(&[0.5, 2.5])),
        ("BF16", bfloats(&[0.5, 2.0]), bfloats(&[0.5, 2.5])),
    ] {
        let found = held(&[], &raw(&[("y", word, &[2], one)]), &raw(&[("y", word, &[2], other)]));
        assert_eq!((only(&found).differing, only(&found).distance), (1, 0.5), "{word}");
    }
}

#[test]
fn typed_and_raw_contents_of_every_type_are_the_same() {
    let contents = |fill: &dyn Fn(&mut InferTensorContents)| {
        let mut contents = InferTensorContents::default();
        fill(&mut contents);
        contents
    };
    for (word, contents, bytes) in [
        ("BOOL", contents(&|c| c.bool_contents = vec![true, false]), vec![1, 0]),
        ("INT8", contents(&|c| c.int_contents = vec![-3, 4]), vec![253, 4]),
        ("INT16", contents(&|c| c.int_contents = vec![-3, 4]), vec![253, 255, 4, 0]),
        ("INT32", contents(&|c| c.int_contents = vec![-3, 4]), vec![253, 255, 255, 255, 4, 0, 0, 0]),
        ("INT64", contents(&|c| c.int64_contents = vec![-3, 4]), longs(&[-3, 4])),
        ("UINT8", contents(&|c| c.uint_contents = vec![250, 4]), vec![250, 4]),
        ("UINT16", contents(&|c| c.uint_contents = vec![250, 4]), vec![250, 0, 4, 0]),
        ("UINT32", contents(&|c| c.uint_contents = vec![250, 4]), vec![250, 0, 0, 0, 4, 0, 0, 0]),
        ("UINT64", contents(&|c| c.uint64_contents = vec![3, 4]), longs(&[3, 4])),
        ("FP32", contents(&|c| c.fp32_contents = vec![0.5, -1.5]), floats(&[0.5, -1.5])),
        (
            "FP64",
            contents(&|c| c.fp64_contents = vec![0.5, 1.5]),
            [0.5_f64, 1.5].iter().flat_map(|v| v.to_le_bytes()).collect(),
        ),
        ("BYTES", contents(&|c| c.bytes_contents = vec!["a".into(), "bc".into()]), texts(&["a", "bc"])),
    ] {
        let (one, other) = (typed("y", word, &[2], contents), raw(&[("y", word, &[2], bytes.clone())]));
        assert!(held(&[], &one, &other).agrees(), "{word}");
        let mut broken = bytes;
        let last = broken.len() - 1;
        broken[last] ^= 1;
        let found = held(&[], &one, &raw(&[("y", word, &[2], broken)]));
        assert_eq!((only(&found).kind, only(&found).differing), (Some(Kind::Values), 1), "{word}");
    }
}

#[test]
fn structure_has_kinds_of_its_own() {
    let one = raw(&[("y", "FP32", &[2], floats(&[1.0, 2.0]))]);
    let of = |other: &ModelInferResponse| {
        held(&[], &one, other).outputs.iter().map(|o| o.kind.unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(of(&raw(&[("y", "FP32", &[1, 2], floats(&[1.0, 2.0]))])), [Kind::Shape]);
    assert_eq!(of(&raw(&[("y", "FP64", &[2], vec![0; 16])])), [Kind::Dtype]);
    assert_eq!(of(&raw(&[("z", "FP32", &[2], floats(&[1.0, 2.0]))])), [Kind::Missing, Kind::Extra]);
    assert_eq!(of(&raw(&[("y", "FP32", &[2], vec![0; 7])])), [Kind::Truncated]);
    assert_eq!(of(&raw(&[("y", "FP32", &[2], vec![0; 12])])), [Kind::Length]);
    assert_eq!(of(&ModelInferResponse { raw_output_contents: Vec::new(), ..one.clone() }), [Kind::Length]);
    let words = raw(&[("y", "BYTES", &[2], texts(&["a", "b"]))]);
    for (bytes, kind) in [
        (vec![1, 0, 0, 0, 65, 200, 0, 0, 0, 66], Kind::Ragged),
        (vec![1, 0, 0, 0, 65, 1, 0], Kind::Truncated),
        (texts(&["a"]), Kind::Length),
    ] {
        let found = held(&[], &words, &raw(&[("y", "BYTES", &[2], bytes)]));
        assert_eq!(only(&found).kind, Some(kind));
    }
    let huge = raw(&[("y", "FP32", &[i64::MAX, i64::MAX], Vec::new())]);
    assert_eq!(only(&held(&[], &huge, &huge)).kind, Some(Kind::Length));
    let negative = raw(&[("y", "FP32", &[-1], Vec::new())]);
    assert_eq!(only(&held(&[], &negative, &negative)).kind, Some(Kind::Length));
}

#[test]
fn what_is_declared_and_not_there_is_named() {
    let one = raw(&[("y", "FP32", &[1], floats(&[1.0])), ("at", "INT64", &[1], longs(&[1]))]);
    let other = raw(&[("y", "FP32", &[1], floats(&[1.0])), ("at", "INT64", &[1], longs(&[2]))]);
    let rules = [rule("scores", Measure::Scores { tolerance: 0.1 }), rule("at", Measure::Ignore)];
    let found = held(&rules, &one, &other);
    assert_eq!((found.agrees(), found.absent.as_slice()), (true, &["scores".into()][..]));
}

#[test]
fn a_measure_that_its_type_does_not_have_is_named() {
    let words = raw(&[("y", "BYTES", &[1], texts(&["a"]))]);
    let strange = raw(&[("y", "FP8", &[1], vec![1])]);
    let flags = raw(&[("y", "BOOL", &[1], vec![1])]);
    let ranking = Measure::Ranking { tolerance: 0.1, depth: 10 };
    for (answer, measure) in [
        (&words, Measure::Embedding { tolerance: 0.1 }),
        (&words, Measure::Numeric(Numeric::default())),
        (&strange, ranking),
        (&strange, Measure::Class { top: 1 }),
        (&flags, ranking),
    ] {
        let found = held(&[rule("y", measure)], answer, answer);
        assert_eq!(
            (only(&found).kind, only(&found).measure),
            (Some(Kind::Unsupported), Some(measure.name()))
        );
    }
    // Nobody declared anything: its bytes are compared.
    assert_eq!(only(&held(&[], &strange, &strange)).measure, Some("exact"));
    assert!(!held(&[], &strange, &raw(&[("y", "FP8", &[1], vec![2])])).agrees());
}

#[test]
fn labels_flip_and_so_do_the_largest_scores() {
    let label = |values: &[i64]| raw(&[("label", "INT64", &[values.len() as i64, 1], longs(values))]);
    let found = held(&[], &label(&[1, 2, 3, 4]), &label(&[1, 2, 9, 4]));
    let output = only(&found);
    assert_eq!((output.measure, output.differing, figure(output, "flips")), (Some("class"), 1, 0.25));
    let scores = |values: &[f32]| raw(&[("p", "FP32", &[2, 3], floats(values))]);
    let (one, other) = (scores(&[0.5, 0.4, 0.1, 0.1, 0.2, 0.7]), scores(&[0.4, 0.5, 0.1, 0.1, 0.1, 0.8]));
    let found = held(&[rule("p", Measure::Class { top: 2 })], &one, &other);
    let output = only(&found);
    assert_eq!((output.rows, output.differing, figure(output, "top_overlap")), (2, 1, 0.75));
    assert!((figure(output, "max_margin") - 0.1).abs() < 1e-6);
}

#[test]
fn scores_are_distributions() {
    let scores = |values: &[f32]| raw(&[("p", "FP32", &[1, values.len() as i64], floats(values))]);
    let close = |one: &[f32], other: &[f32]| {
        held(&[rule("p", Measure::Scores { tolerance: 0.01 })], &scores(one), &scores(other)).agrees()
    };
    assert!(close(&[0.5, 0.3, 0.2], &[0.51, 0.29, 0.2]));
    assert!(!close(&[0.5, 0.3, 0.2], &[0.2, 0.3, 0.5]));
    // One number is the chance of a yes; logits are made parts.
    assert!(close(&[0.4], &[0.41]) && !close(&[0.4], &[0.8]));
    assert!(close(&[-1.0, 4.0, 900.0], &[-1.0, 4.1, 910.0]) && !close(&[-1.0, 4.0], &[4.0, -1.0]));
}

#[test]
fn rankings_are_of_items_or_of_scores() {
    let ranking = |tolerance| [rule("items", Measure::Ranking { tolerance, depth: 10 })];
    let words = |items: &[&str]| raw(&[("items", "BYTES", &[1, items.len() as i64], texts(items))]);
    let found = held(&ranking(0.05), &words(&["a", "b", "c", "d"]), &words(&["b", "a", "c", "d"]));
    let output = only(&found);
    assert!(output.differing == 1 && (figure(output, "rbo") - 0.9).abs() < 1e-9, "{output:?}");
    assert!((figure(output, "kendall") - 2.0 / 3.0).abs() < 1e-9 && figure(output, "overlap") == 1.0);
    assert!(held(&ranking(0.2), &words(&["a", "b"]), &words(&["b", "a"])).agrees());
    let scores = |values: &[f32]| raw(&[("items", "FP32", &[values.len() as i64], floats(values))]);
    assert!(held(&ranking(0.0), &scores(&[0.1, 0.9, 0.5]), &scores(&[0.2, 0.8, 0.7])).agrees());
    assert!(!held(&ranking(0.0), &scores(&[0.1, 0.9, 0.5]), &scores(&[0.2, 0.6, 0.7])).agrees());
    let ids = |values: &[i64]| raw(&[("items", "INT64", &[1, values.len() as i64], longs(values))]);
    assert!(!held(&ranking(0.0), &ids(&[7, 8]), &ids(&[8, 7])).agrees());
}

#[test]
fn embeddings_point_the_same_way() {
    let rules = [rule("e", Measure::Embedding { tolerance: 1e-3 })];
    let vectors = |values: &[f32]| raw(&[("e", "FP32", &[2, 2], floats(values))]);
    let found = held(&rules, &vectors(&[1.0, 0.0, 0.0, 0.0]), &vectors(&[2.0, 0.001, 0.0, 0.0]));
    assert!(found.agrees(), "{found:?}");
    let found = held(&rules, &vectors(&[1.0, 0.0, 0.0, 0.0]), &vectors(&[0.0, 1.0, 1.0, 0.0]));
    assert_eq!((only(&found).differing, only(&found).distance), (2, 1.0));
}

#[test]
fn status_messages_and_bytes_come_first() {
    let reading = Reading { peek: None, rules: &[], limit: 1 << 20 };
    let (one, other) =
        ([Bytes::from_static(b"abc"), Bytes::from_static(b"def")], [Bytes::from_static(b"abcdef")]);
    let kind = |one: &Answer<'_>, other: &Answer<'_>| compare(&reading, one, other).unwrap().kind;
    assert_eq!(kind(&answer(&one), &answer(&other)), None);
    assert_eq!(kind(&answer(&one), &Answer { status: Code::INTERNAL, ..answer(&other) }), Some(Kind::Status));
    assert_eq!(kind(&answer(&one), &Answer { messages: 2, ..answer(&other) }), Some(Kind::Messages));
    assert_eq!(kind(&answer(&one), &answer(&[Bytes::from_static(b"abcdeX")])), Some(Kind::Bytes));
    assert_eq!(kind(&answer(&one), &answer(&[Bytes::from_static(b"abc")])), Some(Kind::Size));
    let gone = Answer { chunks: None, ..answer(&one) };
    assert_eq!(compare(&reading, &gone, &answer(&other)), None);
    // Both refused, without a word.
    let refused = Answer { status: Code::INVALID_ARGUMENT, bytes: 0, messages: 0, chunks: None, ..gone };
    assert_eq!(compare(&reading, &refused, &refused).map(|found| found.agrees()), Some(true));
}

#[test]
fn streams_are_compared_message_by_message() {
    let reading = Reading { peek: Some(Peek::Stream), rules: &[], limit: 1 << 20 };
    let wrapped = |values: &[f32]| {
        let response = raw(&[("y", "FP32", &[values.len() as i64], floats(values))]);
        ModelStreamInferResponse { infer_response: Some(response), ..Default::default() }.encode_to_vec()
    };
    let bare = |values: &[f32]| {
        let mut response = raw(&[("y", "FP32", &[values.len() as i64], floats(values))]);
        (response.model_name, response.model_version) = ("m".into(), "1".into());
        response.encode_to_vec()
    };
    let error = ModelStreamInferResponse { error_message: "no".into(), ..Default::default() }.encode_to_vec();
    let found = |one: &[Vec<u8>], other: &[Vec<u8>]| {
        let (one, other) = ([framed(one)], [framed(other)]);
        compare(&reading, &answer(&one), &answer(&other)).unwrap()
    };
    let same = found(&[wrapped(&[1.0]), wrapped(&[2.0, 3.0])], &[bare(&[1.0]), bare(&[2.0, 4.0])]);
    assert_eq!((only(&same).rows, only(&same).differing), (3, 1));
    assert_eq!(found(&[wrapped(&[1.0])], std::slice::from_ref(&error)).kind, Some(Kind::Status));
    assert!(found(std::slice::from_ref(&error), std::slice::from_ref(&error)).agrees());
}

#[test]
fn compressed_answers_are_inflated_within_bounds() {
    use std::io::Write as _;
    let plain = raw(&[("y", "FP32", &[2], floats(&[1.0, 2.0]))]).encode_to_vec();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&plain).unwrap();
    let packed = encoder.finish().unwrap();
    let mut bytes = BytesMut::new();
    bytes.put_u8(1);
    bytes.put_u32(packed.len() as u32);
    bytes.put_slice(&packed);
    let (one, other) = ([framed(std::slice::from_ref(&plain))], [bytes.freeze()]);
    let with = |limit| {
        let reading = Reading { peek: Some(Peek::Unary), rules: &[], limit };
        let other = Answer { encoding: Some(b"gzip"), ..answer(&other) };
        compare(&reading, &answer(&one), &other).unwrap()
    };
    assert!(with(1 << 20).agrees());
    assert_eq!(with(plain.len() - 1).kind, Some(Kind::Unreadable));
}

#[test]
fn values_are_shown_masked_and_cut() {
    use shown::{Showing, show};
    let reading = Reading { peek: Some(Peek::Unary), rules: &[], limit: 1 << 20 };
    let chunks = [framed(&[raw(&[
        ("label", "BYTES", &[1], texts(&["cat"])),
        ("p", "FP32", &[2], floats(&[0.5, f32::NAN])),
        ("secret", "INT64", &[1], longs(&[42])),
    ])
    .encode_to_vec()])];
    let showing = Showing { mask: vec!["secret".into()], bytes: 4096 };
    let shown = show(&reading, &answer(&chunks), &showing).to_string();
    assert!(shown.contains("cat") && shown.contains("0.5") && shown.contains("NaN"), "{shown}");
    assert!(!shown.contains("42") && shown.contains("masked"), "{shown}");
    let all = Showing { mask: vec!["*".into()], bytes: 4096 };
    assert!(!show(&reading, &answer(&chunks), &all).to_string().contains("cat"));
    let cut = Showing { mask: Vec::new(), bytes: 60 };
    assert!(show(&reading, &answer(&chunks), &cut).to_string().len() < 250);
}

fn measures() -> impl Strategy<Value = Measure> {
    prop_oneof![
        Just(Measure::Exact),
        Just(Measure::Numeric(Numeric::default())),
        Just(Measure::Class { top: 3 }),
        Just(Measure::Scores { tolerance: 0.01 }),
        Just(Measure::Ranking { tolerance: 0.01, depth: 5 }),
        Just(Measure::Embedding { tolerance: 0.01 }),
    ]
}

const WORDS: [&str; 16] = [
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32",
    "FP64", "BYTES", "FP8", "",
];

proptest! {
    /// Whatever comes, it is only named.
    #[test]
    fn no_bytes_break_anything(one in prop::collection::vec(any::<u8>(), 0..200), other in prop::collection::vec(any::<u8>(), 0..200), framing in any::<bool>(), stream in any::<bool>(), measure in measures()) {
        let rules = [rule("y", measure)];
        let peek = if stream { Peek::Stream } else { Peek::Unary };
        let reading = Reading { peek: Some(peek), rules: &rules, limit: 1 << 16 };
        let whole = |bytes: Vec<u8>| if framing { framed(&[bytes]) } else { Bytes::from(bytes) };
        let (one, other) = ([whole(one)], [whole(other)]);
        compare(&reading, &answer(&one), &answer(&other));
        drift::values(&reading, &answer(&one));
        shown::show(&reading, &answer(&other), &shown::Showing { mask: Vec::new(), bytes: 1000 });
    }

    /// The same of outputs that nearly are what they say.
    #[test]
    fn no_tensor_breaks_anything(word in prop::sample::select(&WORDS[..]), shape in prop::collection::vec(-1_i64..5, 0..4), one in prop::collection::vec(any::<u8>(), 0..64), other in prop::collection::vec(any::<u8>(), 0..64), measure in measures(), declared in any::<bool>()) {
        let (one, other) = (raw(&[("y", word, &shape, one)]), raw(&[("y", word, &shape, other)]));
        let rules = [rule("y", measure)];
        let rules = if declared { &rules[..] } else { &[] };
        let found = held(rules, &one, &other);
        for output in &found.outputs {
            prop_assert!(output.differing <= output.rows && output.part() <= 1.0, "{:?}", output);
            prop_assert!(!output.distance.is_nan());
        }
        if let Some(output) = held(rules, &one, &one).outputs.first() {
            let broken = output.kind.is_some_and(|kind| kind != Kind::Values && kind != Kind::NonFinite);
            prop_assert!(broken || output.differing == 0, "{:?}", output);
        }
    }
}
