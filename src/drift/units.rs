//! Which units were counted already, so that one who calls again and again is one witness.
//!
//! One bit for each of many places that a unit's keyed hash falls on. Two units may share a place: then the second is
//! not counted, whatever it gets, which favours nobody. It never grows.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Places; a power of two.
const PLACES: u64 = 1 << 17;

/// Units that were counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Units(Box<[u8]>);

impl Default for Units {
    fn default() -> Self {
        Units(vec![0; (PLACES / 8) as usize].into())
    }
}

impl Units {
    /// Whether that unit was not counted yet; from now on it was.
    pub fn first(&mut self, unit: u64) -> bool {
        let place = unit % PLACES;
        let bit = 1 << (place % 8);
        match self.0.get_mut((place / 8) as usize) {
            Some(byte) if *byte & bit == 0 => {
                *byte |= bit;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Nobody was counted.
    pub fn clear(&mut self) {
        self.0.fill(0);
    }
}

/// As text without the zeros at its end, so that a rollout without units writes nothing.
impl Serialize for Units {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let used = self.0.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        to.serialize_str(&STANDARD_NO_PAD.encode(&self.0[..used]))
    }
}

impl<'de> Deserialize<'de> for Units {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = STANDARD_NO_PAD.decode(text).map_err(D::Error::custom)?;
        let mut units = Units::default();
        match units.0.get_mut(..bytes.len()) {
            Some(used) => used.copy_from_slice(&bytes),
            None => return Err(D::Error::custom("more places than there are")),
        }
        Ok(units)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_counted_once_and_that_is_remembered() {
        let mut units = Units::default();
        assert!(units.first(0xbeef) && !units.first(0xbeef) && units.first(7));
        assert!(!units.first(7 + PLACES), "it shares a place");
        let text = serde_json::to_string(&units).unwrap();
        let mut read: Units = serde_json::from_str(&text).unwrap();
        assert!(read == units && !read.first(7));
        read.clear();
        assert_eq!((serde_json::to_string(&read).unwrap(), read.first(7)), ("\"\"".to_owned(), true));
        assert!(serde_json::from_str::<Units>(&format!("\"{}\"", "A".repeat(100_000))).is_err());
    }
}
