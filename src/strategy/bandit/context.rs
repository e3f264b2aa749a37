//! What a call is told apart by: numbers read from where the file says, brought to a common size, in a fixed order.
//!
//! The first feature is always 1. A call whose context is not as declared (a value that is missing or no finite number, a
//! tensor of another length) has none: its answer is the baseline's, it is counted, and nothing is learnt from it.

use std::sync::Arc;

use crate::call::Call;
use crate::config::{ContextSource, Key};

/// The most features, the constant one included.
pub const MOST: usize = 64;

/// Reads contexts as a file declares them.
#[derive(Debug, Clone, Default)]
pub struct Reader {
    sources: Vec<ContextSource>,
}

impl Reader {
    /// Of these sources, which give fewer than [`MOST`] features.
    pub fn new(sources: &[ContextSource]) -> Self {
        Reader { sources: sources.to_vec() }
    }

    /// Whether calls are told apart at all.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// The input tensor whose numbers are asked for, if any.
    pub fn input(&self) -> Option<(&Arc<str>, usize)> {
        self.sources.iter().find_map(|source| match source {
            ContextSource::Input { name, size, .. } => Some((name, *size)),
            _ => None,
        })
    }

    /// Whether a parameter of the message is asked for.
    pub fn reads_parameters(&self) -> bool {
        self.sources.iter().any(|source| match source {
            ContextSource::Number { key, .. } | ContextSource::Words { key, .. } => {
                matches!(key, Key::Parameter(_))
            }
            ContextSource::Input { .. } => false,
        })
    }

    /// The features of a call, in `room`; none where they are not as declared, or nothing is.
    pub fn read<'r>(&self, call: &Call<'_>, room: &'r mut [f64; MOST]) -> Option<&'r [f64]> {
        if self.sources.is_empty() {
            return None;
        }
        room[0] = 1.0;
        let mut length = 1;
        let mut put = |value: f64, offset: f64, scale: f64| {
            let feature = (value - offset) / scale;
            let place = room.get_mut(length).filter(|_| feature.is_finite())?;
            *place = feature;
            length += 1;
            Some(())
        };
        for source in &self.sources {
            match source {
                ContextSource::Number { key, offset, scale } => {
                    put(call.value(key)?.trim().parse().ok()?, *offset, *scale)?;
                }
                ContextSource::Words { key, values } => {
                    let word = call.value(key)?;
                    for value in values {
                        put(f64::from(u8::from(**value == *word)), 0.0, 1.0)?;
                    }
                }
                ContextSource::Input { size, offset, scale, .. } => {
                    let numbers = call.input.filter(|numbers| numbers.len() == *size)?;
                    for number in numbers {
                        put(*number, *offset, *scale)?;
                    }
                }
            }
        }
        room.get(..length)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    fn reader() -> Reader {
        let metadata = |name| Key::Metadata(http::HeaderName::from_static(name));
        Reader::new(&[
            ContextSource::Number { key: metadata("x-age"), offset: 40.0, scale: 10.0 },
            ContextSource::Words {
                key: Key::Parameter("land".into()),
                values: vec!["se".into(), "de".into()],
            },
            ContextSource::Input { name: "features".into(), size: 2, offset: 0.0, scale: 0.5 },
        ])
    }

    fn read(age: &str, land: &str, input: Option<&[f64]>) -> Option<Vec<f64>> {
        let mut metadata = HeaderMap::new();
        metadata.insert("x-age", HeaderValue::from_str(age).unwrap());
        let parameters = [("land".to_owned(), land.to_owned())];
        let call = Call { metadata: &metadata, parameters: &parameters, input };
        reader().read(&call, &mut [0.0; MOST]).map(<[f64]>::to_vec)
    }

    #[test]
    fn features_come_in_the_order_of_the_file_and_in_their_size() {
        assert_eq!(read("50", "de", Some(&[1.0, 2.0])), Some(vec![1.0, 1.0, 0.0, 1.0, 2.0, 4.0]));
        assert_eq!(read(" 35.5 ", "fr", Some(&[0.0, -1.0])), Some(vec![1.0, -0.45, 0.0, 0.0, 0.0, -2.0]));
        assert!(
            reader().reads_parameters()
                && reader().input().is_some_and(|(name, size)| &**name == "features" && size == 2)
        );
    }

    #[test]
    fn what_is_not_as_declared_is_no_context() {
        for (age, land, input) in [
            ("old", "de", Some(&[1.0, 2.0][..])),
            ("NaN", "de", Some(&[1.0, 2.0][..])),
            ("inf", "de", Some(&[1.0, 2.0][..])),
            ("50", "", Some(&[1.0, 2.0][..])),
            ("50", "de", None),
            ("50", "de", Some(&[1.0][..])),
            ("50", "de", Some(&[1.0, 2.0, 3.0][..])),
            ("50", "de", Some(&[1.0, f64::NAN][..])),
            ("50", "de", Some(&[1.0, f64::INFINITY][..])),
        ] {
            assert_eq!(read(age, land, input), None, "{age} {land} {input:?}");
        }
        assert_eq!(
            Reader::default()
                .read(&Call { metadata: &HeaderMap::new(), parameters: &[], input: None }, &mut [0.0; MOST]),
            None
        );
    }
}
