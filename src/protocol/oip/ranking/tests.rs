use prost::Message;

use super::*;
use crate::pb::inference::model_infer_response::InferOutputTensor;
use crate::pb::inference::{InferTensorContents, ModelInferResponse};

fn outputs() -> Outputs {
    Outputs { items: "items".into(), scores: Some("scores".into()), along: vec!["titles".into()] }
}

fn output(name: &str, datatype: &str, shape: &[i64], contents: InferTensorContents) -> InferOutputTensor {
    InferOutputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        contents: Some(contents),
        ..Default::default()
    }
}

/// Items, their scores, titles, and one output that is said once.
fn answer(shape: &[i64], items: &[i64], scores: &[f32]) -> ModelInferResponse {
    let contents = InferTensorContents::default;
    let titles = items.iter().flat_map(|item| [format!("t{item}"), format!("u{item}")]);
    let wide = [shape, &[2]].concat();
    ModelInferResponse {
        model_name: "films".into(),
        outputs: vec![
            output(
                "items",
                "INT64",
                shape,
                InferTensorContents { int64_contents: items.to_vec(), ..contents() },
            ),
            output(
                "scores",
                "FP32",
                shape,
                InferTensorContents { fp32_contents: scores.to_vec(), ..contents() },
            ),
            output(
                "titles",
                "BYTES",
                &wide,
                InferTensorContents { bytes_contents: titles.map(Bytes::from).collect(), ..contents() },
            ),
            output("took", "FP64", &[1], InferTensorContents { fp64_contents: vec![0.5], ..contents() }),
        ],
        ..Default::default()
    }
}

fn read(message: &ModelInferResponse) -> Result<Ranking, Unranked> {
    Ranking::read(&message.encode_to_vec().into(), &outputs())
}

#[test]
fn a_list_is_its_items_and_what_goes_along() {
    let ranking = read(&answer(&[3], &[5, -7, 9], &[0.9, 0.9, -1.0])).unwrap();
    let keys: Vec<Key<'_>> = ranking.rows[0].iter().map(Entry::key).collect();
    assert_eq!(keys, [Key::Number(5), Key::Number(-7), Key::Number(9)]);
    assert_eq!(keys[1].text(), "-7");
    assert_eq!(ranking.rows[0][1].bytes(), 8 + 4 + 6);
    assert_eq!(ranking.rows[0][1].apart(), ranking.rows[0][1]);
}

#[test]
fn one_answer_is_made_of_two() {
    let one = read(&answer(&[2, 2], &[1, 2, 3, 4], &[0.9, 0.5, 0.8, 0.1])).unwrap();
    let other = read(&answer(&[2, 2], &[2, 7, 4, 8], &[0.7, 0.6, 0.3, 0.2])).unwrap();
    one.fits(&other, &outputs()).unwrap();
    let lists =
        [vec![&one.rows[0][0], &other.rows[0][1], &one.rows[0][1]], vec![&other.rows[1][1], &one.rows[1][0]]];
    let merged = ModelInferResponse::decode(one.with(&lists, &outputs()).unwrap()).unwrap();
    let expected = answer(&[2, 2], &[1, 7, 8, 3], &[0.9, 0.6, 0.2, 0.8]);
    assert_eq!(merged, expected, "cut to the shortest list, and what is said once stays");
}

#[test]
fn texts_are_items_too_and_raw_stays_raw() {
    let mut message = answer(&[2], &[1, 2], &[0.9, 0.5]);
    message.outputs[0].datatype = "BYTES".into();
    message.outputs[0].contents = None;
    message.outputs[1].contents = None;
    message.outputs[2].contents = None;
    message.outputs[3].contents = None;
    message.raw_output_contents = vec![
        Bytes::from_static(b"\x01\0\0\0a\x02\0\0\0bc"),
        Bytes::copy_from_slice(&[0.9_f32.to_le_bytes(), 0.5_f32.to_le_bytes()].concat()),
        Bytes::from_static(b"\x01\0\0\0t\x00\0\0\0\x01\0\0\0u\x01\0\0\0v"),
        Bytes::copy_from_slice(&0.5_f64.to_le_bytes()),
    ];
    let ranking = read(&message).unwrap();
    assert_eq!(ranking.rows[0][1].key(), Key::Text(b"bc"));
    let again = ranking.with(&[ranking.rows[0].iter().collect()], &outputs()).unwrap();
    assert_eq!(ModelInferResponse::decode(again).unwrap(), message);
    let turned = ranking.with(&[ranking.rows[0].iter().rev().collect()], &outputs()).unwrap();
    let turned = ModelInferResponse::decode(turned).unwrap();
    assert_eq!(turned.raw_output_contents[0], &b"\x02\0\0\0bc\x01\0\0\0a"[..]);
    assert_eq!(turned.raw_output_contents[3], message.raw_output_contents[3]);
    let numbers = read(&answer(&[2], &[1, 2], &[0.9, 0.5])).unwrap();
    assert_eq!(ranking.fits(&numbers, &outputs()), Err(Unranked::Differs("items".into())));
}

#[test]
fn what_is_declared_is_held_to_what_the_model_says() {
    let of =
        |name: &str, datatype: &str, shape: &[i64]| (name.to_owned(), datatype.to_owned(), shape.to_vec());
    let good = [
        of("items", "INT64", &[-1, 10]),
        of("scores", "FP32", &[-1, 10]),
        of("titles", "BYTES", &[-1, 10, 2]),
    ];
    assert_eq!(outputs().mismatch(&good), None);
    assert_eq!(outputs().mismatch(&[]), None, "it says nothing");
    for (changed, told) in [
        (of("item", "INT64", &[-1, 10]), "no output items, but item, scores, titles"),
        (of("items", "INT32", &[-1, 10]), "items is INT32"),
        (of("items", "INT64", &[1, 1, 10]), "3 dimensions"),
        (of("items", "INT64", &[-1, 20]), "scores is [-1, 10], which does not begin like items, [-1, 20]"),
    ] {
        let said = [changed, good[1].clone(), good[2].clone()];
        let mismatch = outputs().mismatch(&said).unwrap();
        assert!(mismatch.contains(told), "{mismatch}");
    }
    let texts = [good[0].clone(), of("scores", "BYTES", &[-1, 10]), good[2].clone()];
    assert!(outputs().mismatch(&texts).unwrap().contains("scores are numbers"));
    assert!(outputs().mismatch(&good[..2]).unwrap().contains("no output titles"));
}

#[test]
fn empty_lists_are_lists() {
    let ranking = read(&answer(&[0], &[], &[])).unwrap();
    assert_eq!(ranking.rows, [Vec::new()]);
    let again = ranking.with(&[Vec::new()], &outputs()).unwrap();
    assert_eq!(read(&ModelInferResponse::decode(again).unwrap()).unwrap().rows, [Vec::new()]);
    assert_eq!(read(&answer(&[3, 0], &[], &[])).unwrap().rows.len(), 3);
}

#[test]
fn what_is_no_ranking_is_told() {
    let good = answer(&[2], &[1, 2], &[0.9, 0.5]);
    let wrong = |change: &dyn Fn(&mut ModelInferResponse)| {
        let mut message = good.clone();
        change(&mut message);
        read(&message).unwrap_err().to_string()
    };
    assert_eq!(wrong(&|message| drop(message.outputs.remove(0))), "output items is missing");
    assert_eq!(wrong(&|message| drop(message.outputs.remove(2))), "output titles is missing");
    let other = wrong(&|message| message.outputs[0].datatype = "FP32".into());
    assert!(other.starts_with("output items has the shape [2], but 0 elements"), "{other}");
    let floats = wrong(&|message| {
        message.outputs[0].datatype = "FP32".into();
        message.outputs[0].contents =
            Some(InferTensorContents { fp32_contents: vec![1.0, 2.0], ..Default::default() });
    });
    assert_eq!(floats, "output items is FP32: items are INT64 or BYTES");
    assert_eq!(
        wrong(&|message| message.outputs[0].shape = vec![1, 1, 2]),
        "output items has 3 dimensions: a list has one, several have two"
    );
    assert!(wrong(&|message| message.outputs[2].shape = vec![4]).contains("does not begin like"));
    for (scores, place) in [([0.5, 0.9], 1), ([f32::NAN, 0.9], 1)] {
        let text = wrong(&|message| {
            message.outputs[1].contents =
                Some(InferTensorContents { fp32_contents: scores.to_vec(), ..Default::default() });
        });
        assert!(text.contains(&format!("item {place} has a better one")), "{text}");
    }
    let rows = read(&answer(&[1, 2], &[1, 2], &[0.9, 0.5])).unwrap();
    let two = read(&answer(&[2, 1], &[1, 2], &[0.9, 0.5])).unwrap();
    assert_eq!(rows.fits(&two, &outputs()), Err(Unranked::Rows(1, 2)));
}
