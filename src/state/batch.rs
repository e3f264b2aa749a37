//! What is written at once: the newest of each value, and what was appended.

use std::collections::HashMap;

use super::disk::RECORDS;

/// Marks that wait while the directory takes nothing; more are lost, and counted.
const WAITING: usize = 1 << 16;

/// Evidence by the key that it is kept under; none: it is to be forgotten.
pub type Changed = HashMap<String, Option<Vec<u8>>>;

/// What shall be on the disk together, or not at all.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Batch {
    /// By key; none: it is removed.
    pub progress: HashMap<String, Option<Vec<u8>>>,
    /// By key; none: it is removed.
    pub blocks: HashMap<String, Option<Vec<u8>>>,
    /// What answers proved, by key; none: it is removed.
    pub evidence: Changed,
    /// By growing number.
    pub audit: Vec<(u64, Vec<u8>)>,
    /// What was seen, with a few bytes about it.
    pub marks: Vec<(Mark, Vec<u8>)>,
    /// Marks that expire in an hour before this are removed.
    pub expired: Option<u32>,
}

/// Something that is remembered until its hour is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark {
    /// Hours since 1970.
    pub expires: u32,
    /// Unique in its hour.
    pub key: [u8; 16],
}

impl Mark {
    pub(super) fn bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        let (hour, key) = bytes.split_at_mut(4);
        hour.copy_from_slice(&self.expires.to_be_bytes());
        key.copy_from_slice(&self.key);
        bytes
    }

    pub(super) fn read(bytes: &[u8; 20]) -> Self {
        let mut mark = Mark { expires: 0, key: [0; 16] };
        let (hour, key) = bytes.split_at(4);
        mark.key.copy_from_slice(key);
        mark.expires = hour.iter().fold(0, |hour, byte| hour << 8 | u32::from(*byte));
        mark
    }
}

impl Batch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        *self == Batch::default()
    }

    /// Adds what came later; returns how many records and marks were lost for want of room.
    pub(super) fn add(&mut self, later: Batch) -> usize {
        self.progress.extend(later.progress);
        self.blocks.extend(later.blocks);
        self.evidence.extend(later.evidence);
        self.audit.extend(later.audit);
        self.expired = self.expired.max(later.expired);
        let records = self.audit.len().saturating_sub(RECORDS as usize);
        self.audit.drain(..records);
        let room = WAITING.saturating_sub(self.marks.len());
        let marks = later.marks.len().saturating_sub(room);
        self.marks.extend(later.marks.into_iter().take(room));
        records + marks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_values_win_and_what_was_appended_stays() {
        let value = |byte| HashMap::from([("m".to_owned(), Some(vec![byte]))]);
        let mut batch = Batch { progress: value(1), audit: vec![(1, vec![])], ..Batch::default() };
        let later =
            Batch { progress: value(2), audit: vec![(2, vec![])], expired: Some(3), ..Batch::default() };
        assert_eq!(batch.add(later), 0);
        assert_eq!(batch.progress, value(2));
        assert_eq!(batch.audit.len(), 2);
        assert_eq!(batch.expired, Some(3));
    }

    #[test]
    fn what_waits_is_bounded_and_the_loss_is_told() {
        let mark = |number: u32| (Mark { expires: number, key: [1; 16] }, vec![]);
        let mut batch = Batch::default();
        let many = Batch { marks: (0..WAITING as u32 + 5).map(mark).collect(), ..Batch::default() };
        assert_eq!(batch.add(many), 5);
        let records = (0..RECORDS + 2).map(|number| (number, vec![])).collect();
        assert_eq!(batch.add(Batch { audit: records, ..Batch::default() }), 2);
        assert_eq!(batch.audit.first().map(|first| first.0), Some(2), "the oldest go");
    }

    #[test]
    fn marks_sort_by_their_hour_and_read_back() {
        let early = Mark { expires: 255, key: [255; 16] };
        let late = Mark { expires: 256, key: [0; 16] };
        assert!(early.bytes() < late.bytes());
        assert_eq!([Mark::read(&early.bytes()), Mark::read(&late.bytes())], [early, late]);
    }
}
