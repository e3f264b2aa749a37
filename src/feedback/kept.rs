//! What is remembered as bytes, for whoever keeps it on disk: an entry of the ledger in 16, an open bin as JSON. Pure.

use std::time::Duration;

use super::ledger::Entry;
use super::track::Bin;

/// Key of a bin among its entries, whose keys have no highest bit.
const OPEN: u64 = u64::MAX;
const HOUR: u64 = 3600;

/// Something to remember until its hour is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Hours since 1970; it may be forgotten when this hour begins.
    pub expires: u32,
    /// Unique in its hour.
    pub key: [u8; 16],
    /// Opaque; empty where there is nothing to remember any more.
    pub value: Vec<u8>,
}

/// Where something belongs: the feedback, the bin, and the entry in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) track: u32,
    pub(super) bin: u32,
    pub(super) key: u64,
}

impl Place {
    /// Of a bin itself.
    pub(super) fn open(track: u32, bin: u32) -> Self {
        Place { track, bin, key: OPEN }
    }

    /// Whether it is a bin itself.
    pub(super) fn is_open(self) -> bool {
        self.key == OPEN
    }

    pub(super) fn read(key: &[u8; 16]) -> Self {
        let number = u128::from_be_bytes(*key);
        Place { track: (number >> 96) as u32, bin: (number >> 64) as u32, key: number as u64 }
    }

    fn bytes(self) -> [u8; 16] {
        (u128::from(self.track) << 96 | u128::from(self.bin) << 64 | u128::from(self.key)).to_be_bytes()
    }

    /// With its value, until what closes then.
    pub(super) fn kept(self, closes: Duration, value: Vec<u8>) -> Kept {
        let expires = u32::try_from(closes.as_secs() / HOUR + 1).unwrap_or(u32::MAX);
        Kept { expires, key: self.bytes(), value }
    }
}

impl Entry {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16);
        bytes.extend_from_slice(&self.value.to_be_bytes());
        bytes.extend_from_slice(&self.at.to_be_bytes());
        bytes.extend_from_slice(&self.expected.to_be_bytes());
        bytes
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (value, rest) = bytes.split_first_chunk()?;
        let (at, rest) = rest.split_first_chunk()?;
        let expected = f32::from_be_bytes(rest.try_into().ok()?);
        Some(Entry { value: f64::from_be_bytes(*value), at: u32::from_be_bytes(*at), expected })
    }
}

impl Bin {
    pub(super) fn bytes(&self) -> Vec<u8> {
        // Numbers and maps of numbers only, so this always holds; nothing at all is read back as nothing.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_reads_back() {
        let entry = Entry { value: -1.5, at: 7, expected: 0.25 };
        assert_eq!(Entry::read(&entry.bytes()), Some(entry));
        assert_eq!(Entry::read(&entry.bytes()[1..]), None);
        let place = Place { track: 1, bin: u32::MAX, key: 3 };
        let kept = place.kept(Duration::from_secs(7199), entry.bytes());
        assert_eq!((Place::read(&kept.key), kept.expires, kept.value.len()), (place, 2, 16));
        assert!(Place::open(1, 2).is_open() && !place.is_open());
        assert_eq!(Bin::read(&Bin::new(0.5).bytes()), Some(Bin::new(0.5)));
        assert_eq!(Bin::read(b""), None);
    }
}
