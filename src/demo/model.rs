//! The three classifiers of the demo, computed in Rust from the weights that scikit-learn found.
//!
//! `examples/classifier/train.py` writes dense layers as JSON; they are part of the binary. A prediction is what
//! the file's layers give in `f64`, nothing else, so it can be held against what the script says of the same rows.
//! Pure: no clock, no network, no chance.

use serde::Deserialize;

/// Values of one input row: an 8 × 8 image, row by row.
pub const PIXELS: usize = 64;
/// Classes a row can belong to: the digits 0 to 9.
pub const CLASSES: usize = 10;

const FILES: [&str; 3] = [
    include_str!("../../examples/classifier/digits-1.0.0.json"),
    include_str!("../../examples/classifier/digits-2.0.0.json"),
    include_str!("../../examples/classifier/digits-3.0.0-rc1.json"),
];

/// One version of the classifier.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    name: String,
    version: String,
    pixel_max: f64,
    right: usize,
    layers: Vec<Layer>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Layer {
    activation: Activation,
    /// `weights[i][j]` leads from input i to output j.
    weights: Vec<Vec<f64>>,
    bias: Vec<f64>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Activation {
    Relu,
    Softmax,
}

/// What a model says of one row.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The likeliest digit, 0 to 9.
    pub class: u8,
    /// Of each digit; they sum to 1.
    pub probabilities: [f32; CLASSES],
}

/// Why weights cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Not the JSON of a model.
    #[error("the weights are not a model: {0}")]
    Json(#[from] serde_json::Error),
    /// Layers that do not fit each other, the input or the classes.
    #[error("layer {layer} turns {found} values into {width}, but must take {expected}")]
    Shape {
        /// Counted from 0; the number of layers where the end is wrong.
        layer: usize,
        /// How many values it takes.
        found: usize,
        /// How many values it gives.
        width: usize,
        /// How many it must take.
        expected: usize,
    },
}

impl Model {
    /// The versions that are part of the binary, oldest first.
    ///
    /// # Errors
    /// Where a committed file was altered into something else.
    pub fn bundled() -> Result<[Model; 3], ModelError> {
        let [first, second, third] = FILES;
        Ok([Model::parse(first)?, Model::parse(second)?, Model::parse(third)?])
    }

    /// Reads the weights of one version.
    ///
    /// # Errors
    /// Not JSON of that form, or layers that do not fit together.
    pub fn parse(text: &str) -> Result<Model, ModelError> {
        let model: Model = serde_json::from_str(text)?;
        let mut expected = PIXELS;
        for (layer, Layer { weights, bias, .. }) in model.layers.iter().enumerate() {
            let ragged = weights.iter().any(|row| row.len() != bias.len());
            if weights.len() != expected || ragged {
                return Err(ModelError::Shape { layer, found: weights.len(), width: bias.len(), expected });
            }
            expected = bias.len();
        }
        if expected != CLASSES {
            let layer = model.layers.len();
            return Err(ModelError::Shape { layer, found: CLASSES, width: CLASSES, expected });
        }
        Ok(model)
    }

    /// What callers ask for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version these weights are.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// How many of the held-out rows it gets right, as the training script counted.
    pub fn right(&self) -> usize {
        self.right
    }

    /// Says which digit a row of pixels, each 0 to 16, shows.
    pub fn predict(&self, pixels: &[f32; PIXELS]) -> Prediction {
        let mut values: Vec<f64> = pixels.iter().map(|&pixel| f64::from(pixel) / self.pixel_max).collect();
        for layer in &self.layers {
            values = layer.apply(&values);
        }
        let mut probabilities = [0.0; CLASSES];
        let mut best = 0;
        for (class, value) in values.into_iter().enumerate() {
            probabilities[class] = value as f32;
            if probabilities[class] > probabilities[best] {
                best = class;
            }
        }
        Prediction { class: best as u8, probabilities }
    }
}

impl Layer {
    fn apply(&self, inputs: &[f64]) -> Vec<f64> {
        let mut outputs = self.bias.clone();
        for (input, row) in inputs.iter().zip(&self.weights) {
            for (output, weight) in outputs.iter_mut().zip(row) {
                *output += input * weight;
            }
        }
        match self.activation {
            Activation::Relu => outputs.iter_mut().for_each(|value| *value = value.max(0.0)),
            Activation::Softmax => softmax(&mut outputs),
        }
        outputs
    }
}

/// Turns scores into probabilities; the largest is taken off first, so that none overflows.
fn softmax(values: &mut [f64]) {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    values.iter_mut().for_each(|value| *value = (*value - largest).exp());
    let sum: f64 = values.iter().sum();
    values.iter_mut().for_each(|value| *value /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::rows::Row;

    #[test]
    fn predictions_and_accuracy_are_those_of_the_training_script() {
        let rows = Row::bundled().unwrap();
        assert_eq!(rows.len(), 600);
        for (index, model) in Model::bundled().unwrap().iter().enumerate() {
            let mut right = 0;
            for (number, row) in rows.iter().enumerate() {
                let said = model.predict(&row.pixels);
                assert_eq!(said.class, row.said[index], "row {number}, version {}", model.version());
                assert!((said.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                right += usize::from(said.class == row.label);
            }
            assert_eq!(right, model.right());
        }
    }

    #[test]
    fn the_versions_differ_visibly() {
        let [first, second, third] = Model::bundled().unwrap();
        assert_eq!((first.name(), first.version(), first.right()), ("digits", "1.0.0", 534));
        assert_eq!((second.name(), second.version(), second.right()), ("digits", "2.0.0", 589));
        assert_eq!((third.name(), third.version(), third.right()), ("digits", "3.0.0-rc1", 581));
        let rows = Row::bundled().unwrap();
        assert_eq!(rows.iter().filter(|row| row.said[1] != row.said[2]).count(), 11);
    }

    #[test]
    fn layers_that_do_not_fit_are_refused() {
        let text = |layers: &str| {
            format!(r#"{{"name":"m","version":"1","pixel_max":16,"right":0,"layers":{layers}}}"#)
        };
        let narrow = text(r#"[{"activation":"softmax","weights":[[1.0]],"bias":[0.0]}]"#);
        let error = Model::parse(&narrow).unwrap_err().to_string();
        assert_eq!(error, "layer 0 turns 1 values into 1, but must take 64");
        assert!(matches!(Model::parse(&text("[]")), Err(ModelError::Shape { layer: 0, expected: 64, .. })));
        assert!(matches!(Model::parse("{}"), Err(ModelError::Json(_))));
    }
}
