//! Two answers held against each other, as the task does it that compares: from their bytes to what differs.

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parhelion::comparison::{Answer, Reading, compare};
use parhelion::config::{Compare, Measure, Numeric};
use parhelion::fault::Code;
use parhelion::pb::inference::ModelInferResponse;
use parhelion::pb::inference::model_infer_response::InferOutputTensor;
use parhelion::protocol::Peek;
use prost::Message as _;

/// Bytes before each message.
const PREFIX: usize = 5;

/// One output of floats, number by number: 600 KB on either side.
pub(crate) fn floats(times: usize) -> Result<Vec<Duration>, Box<dyn Error>> {
    pairs((1, 150_000), Measure::Numeric(Numeric::default()), times)
}

/// A thousand vectors of a hundred scores, class by class.
pub(crate) fn classes(times: usize) -> Result<Vec<Duration>, Box<dyn Error>> {
    pairs((1_000, 100), Measure::Class { top: 5 }, times)
}

fn pairs(
    (rows, width): (usize, usize),
    measure: Measure,
    times: usize,
) -> Result<Vec<Duration>, Box<dyn Error>> {
    // No two numbers are the same, and none is far apart: the whole of both must be read.
    let served = answer(rows, width, 0.0);
    let candidate = answer(rows, width, 1e-7);
    let rules = [Compare { output: "y".into(), measure }];
    let reading = Reading { peek: Some(Peek::Unary), rules: &rules, limit: 64 << 20 };
    let (served, candidate) = ([served], [candidate]);
    let mut took = Vec::with_capacity(times);
    for _ in 0..times {
        let began = Instant::now();
        let found = compare(&reading, &as_answer(&served), &as_answer(&candidate));
        took.push(began.elapsed());
        let found = black_box(found).ok_or("they could not be compared")?;
        if !found.agrees() || found.outputs.first().is_none_or(|output| output.rows == 0) {
            return Err(format!("not as meant: {found:?}").into());
        }
    }
    Ok(took)
}

fn as_answer(chunks: &[Bytes]) -> Answer<'_> {
    Answer {
        status: Code::OK,
        messages: 1,
        bytes: chunks.iter().map(|chunk| chunk.len() as u64).sum(),
        chunks: Some(chunks),
        encoding: None,
        latency: Duration::ZERO,
    }
}

fn answer(rows: usize, width: usize, apart: f32) -> Bytes {
    let number = |at: usize| ((at * 7_919) % 10_007) as f32 / 10_007.0 + 0.5;
    let numbers = (0..rows * width).flat_map(|at| (number(at) * (1.0 + apart)).to_le_bytes());
    let output = InferOutputTensor {
        name: "y".into(),
        datatype: "FP32".into(),
        shape: vec![rows as i64, width as i64],
        ..InferOutputTensor::default()
    };
    let answer = ModelInferResponse {
        outputs: vec![output],
        raw_output_contents: vec![numbers.collect::<Vec<u8>>().into()],
        ..ModelInferResponse::default()
    };
    let length = answer.encoded_len();
    let mut framed = Vec::with_capacity(PREFIX + length);
    framed.push(0);
    framed.extend_from_slice(&(length as u32).to_be_bytes());
    framed.extend(answer.encode_to_vec());
    framed.into()
}
