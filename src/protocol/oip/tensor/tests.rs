use prost::Message;

use super::*;
use crate::pb::inference::ModelInferResponse;

/// One output of each datatype that has a field of its own, and some that are raw.
fn typed() -> ModelInferResponse {
    let output = |name: &str, shape: &[i64], contents: InferTensorContents| InferOutputTensor {
        name: name.to_owned(),
        datatype: name.to_owned(),
        shape: shape.to_vec(),
        contents: Some(contents),
        ..Default::default()
    };
    let contents = InferTensorContents::default;
    ModelInferResponse {
        model_name: "m".into(),
        id: "7".into(),
        outputs: vec![
            output("BOOL", &[2], InferTensorContents { bool_contents: vec![true, false], ..contents() }),
            output("INT8", &[2], InferTensorContents { int_contents: vec![-1, 127], ..contents() }),
            output("INT16", &[1, 2], InferTensorContents { int_contents: vec![-300, 5], ..contents() }),
            output("INT32", &[2], InferTensorContents { int_contents: vec![i32::MIN, 1], ..contents() }),
            output("INT64", &[2], InferTensorContents { int64_contents: vec![-9, i64::MAX], ..contents() }),
            output("UINT8", &[2], InferTensorContents { uint_contents: vec![0, 255], ..contents() }),
            output("UINT32", &[1], InferTensorContents { uint_contents: vec![u32::MAX], ..contents() }),
            output("UINT64", &[1], InferTensorContents { uint64_contents: vec![u64::MAX], ..contents() }),
            output("FP32", &[2], InferTensorContents { fp32_contents: vec![0.5, -0.25], ..contents() }),
            output("FP64", &[1], InferTensorContents { fp64_contents: vec![1e300], ..contents() }),
            output(
                "BYTES",
                &[2],
                InferTensorContents { bytes_contents: vec![Bytes::from("one"), Bytes::new()], ..contents() },
            ),
        ],
        ..Default::default()
    }
}

/// The same answer with raw contents.
fn raw() -> ModelInferResponse {
    let mut message = typed();
    let answer = Answer::read(&message.encode_to_vec().into()).unwrap();
    for output in &mut message.outputs {
        message.raw_output_contents.push(answer.tensor(&output.name).unwrap().cells.raw());
        output.contents = None;
    }
    message
}

fn read(message: &ModelInferResponse) -> Answer {
    Answer::read(&message.encode_to_vec().into()).unwrap()
}

#[test]
fn typed_and_raw_contents_are_the_same_tensors() {
    let (one, other) = (read(&typed()), read(&raw()));
    assert_eq!(one.names().count(), 11);
    for name in one.names() {
        assert_eq!(one.tensor(name), other.tensor(name), "{name}");
    }
    assert_eq!(one.tensor("INT8").unwrap().cells.cell(0), Some(&[0xff][..]));
    assert_eq!(one.tensor("INT16").unwrap().numbers().unwrap(), [-300.0, 5.0]);
    assert_eq!(one.tensor("UINT8").unwrap().numbers().unwrap(), [0.0, 255.0]);
    assert_eq!(one.tensor("FP32").unwrap().numbers().unwrap(), [0.5, -0.25]);
    assert_eq!(one.tensor("BYTES").unwrap().numbers(), None);
}

#[test]
fn what_is_replaced_by_itself_is_as_it_was() {
    for message in [typed(), raw()] {
        let answer = read(&message);
        let tensors: Vec<(String, Tensor)> =
            answer.names().map(|name| (name.to_owned(), answer.tensor(name).unwrap())).collect();
        let replaced: Vec<(&str, &Tensor)> = tensors.iter().map(|(name, tensor)| (&**name, tensor)).collect();
        let again = answer.with(&replaced).unwrap();
        assert_eq!(ModelInferResponse::decode(again).unwrap(), message);
        assert_eq!(ModelInferResponse::decode(answer.with(&[]).unwrap()).unwrap(), message);
    }
}

#[test]
fn fields_that_nobody_knows_go_through() {
    let mut bytes = raw().encode_to_vec();
    token::put(&mut bytes, 900, b"new");
    token::put_scalar(&mut bytes, 901, 1, 77);
    token::put_scalar(&mut bytes, 902, 0, 3000);
    let again = Answer::read(&bytes.into()).unwrap().with(&[]).unwrap();
    let mut seen = Vec::new();
    each(&again, |field, part| {
        match part {
            Part::Bytes(bytes) if field == 900 => seen.push(bytes.len() as u64),
            Part::Scalar { value, .. } => seen.push(value),
            Part::Bytes(_) => {}
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(seen, [3, 77, 3000]);
}

#[test]
fn what_makes_no_sense_is_said() {
    let mut message = raw();
    message.raw_output_contents.pop();
    let read = |message: &ModelInferResponse| Answer::read(&message.encode_to_vec().into());
    assert_eq!(read(&message), Err(TensorError::Contents { raw: 10, outputs: 11 }));
    assert!(matches!(Answer::read(&Bytes::from_static(b"\x2a\xff")), Err(TensorError::Message(_))));
    let mut message = typed();
    message.outputs[0].shape = vec![3];
    message.outputs[1].shape = vec![-1, 2];
    message.outputs[2].datatype = "INT15".into();
    let answer = read(&message).unwrap();
    assert_eq!(answer.tensor("none"), Err(TensorError::Missing("none".into())));
    for name in ["BOOL", "INT8"] {
        assert!(matches!(answer.tensor(name), Err(TensorError::Shape { .. })), "{name}");
    }
    assert!(matches!(answer.tensor("INT16"), Err(TensorError::Datatype { .. })));
    let mut message = raw();
    message.raw_output_contents[10] = Bytes::from_static(b"\x09\0\0\0one");
    message.raw_output_contents[4] = Bytes::from_static(b"\x09\0\0");
    let answer = read(&message).unwrap();
    for name in ["BYTES", "INT64"] {
        assert_eq!(answer.tensor(name), Err(TensorError::CutOff(name.into())));
    }
}

#[test]
fn cells_are_taken_apart_and_joined() {
    let answer = read(&typed());
    let texts = answer.tensor("BYTES").unwrap().cells;
    let numbers = answer.tensor("INT64").unwrap().cells;
    for (datatype, cells) in [(Datatype::Bytes, texts), (Datatype::Int64, numbers)] {
        let (first, second) = (cells.part(0, 1), cells.part(1, 5));
        assert_eq!((first.len(), second.len(), cells.part(7, 1).len()), (1, 1, 0));
        let turned = Cells::joined(datatype, [&second, &first].into_iter());
        assert_eq!((turned.cell(0), turned.cell(1)), (cells.cell(1), cells.cell(0)));
        assert_eq!(turned.apart(), turned);
        assert!(Cells::none(datatype).is_empty());
    }
}
