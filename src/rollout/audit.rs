//! The audit trail: every change of every rollout, the newest 2,048 of them.

use std::collections::VecDeque;
use std::sync::Arc;

use super::record::AuditRecord;
use crate::state::RECORDS;

/// In the order they were made.
#[derive(Debug, Default)]
pub(super) struct Audit {
    records: VecDeque<Arc<AuditRecord>>,
    last: u64,
}

impl Audit {
    /// Takes in what an earlier process left, before what this one added already; that is numbered anew behind it.
    /// Returns the records that got another number.
    pub(super) fn read(&mut self, left: &[(u64, Vec<u8>)]) -> Vec<Arc<AuditRecord>> {
        let own = std::mem::take(&mut self.records);
        for (number, bytes) in left {
            self.last = self.last.max(*number);
            match serde_json::from_slice(bytes) {
                Ok(record) => self.records.push_back(Arc::new(record)),
                Err(error) => tracing::error!(number, %error, "an audit record in the state cannot be read"),
            }
        }
        let renumbered: Vec<_> = own.iter().map(|record| self.add((**record).clone())).collect();
        self.bound();
        renumbered
    }

    /// Numbers a record and keeps it.
    pub(super) fn add(&mut self, mut record: AuditRecord) -> Arc<AuditRecord> {
        self.last += 1;
        record.sequence = self.last;
        let record = Arc::new(record);
        self.records.push_back(Arc::clone(&record));
        self.bound();
        record
    }

    /// Gives `record` another time; none where it is not kept any more, or was numbered anew meanwhile.
    pub(super) fn time(&mut self, record: &Arc<AuditRecord>, millis: u64) -> Option<Arc<AuditRecord>> {
        let kept = self.records.iter_mut().rev().find(|kept| Arc::ptr_eq(kept, record))?;
        *kept = Arc::new(AuditRecord { millis, ..(**record).clone() });
        Some(Arc::clone(kept))
    }

    /// The newest, newest first.
    pub(super) fn newest(&self, model: Option<&str>, limit: usize) -> Vec<Arc<AuditRecord>> {
        let wanted = |record: &&Arc<AuditRecord>| model.is_none_or(|model| *record.model == *model);
        self.records.iter().rev().filter(wanted).take(limit).cloned().collect()
    }

    fn bound(&mut self) {
        while self.records.len() as u64 > RECORDS {
            self.records.pop_front();
        }
    }
}

/// As it is written down.
pub(super) fn entry(record: &AuditRecord) -> (u64, Vec<u8>) {
    // A record is plain data: it can always be written.
    (record.sequence, serde_json::to_vec(record).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::record::Actor;
    use super::*;
    use crate::verdict::{Action, Change, State};

    fn record(millis: u64) -> AuditRecord {
        let change = Change {
            action: Action::Flipped,
            why: String::new(),
            from: State::Waiting,
            to: State::Running,
            step: None,
            share: 1.0,
            variants: Vec::new(),
            findings: Vec::new(),
        };
        let (model, config) = ("m".into(), "c".into());
        AuditRecord { sequence: 0, millis, model, revision: 1, epoch: 1, config, actor: Actor::Judge, change }
    }

    #[test]
    fn a_record_that_is_kept_may_be_given_the_time_from_which_it_holds() {
        let mut audit = Audit::default();
        let (first, second) = (audit.add(record(10)), audit.add(record(11)));
        let timed = audit.time(&first, 40).unwrap();
        assert_eq!((timed.sequence, timed.millis), (first.sequence, 40));
        let times: Vec<u64> = audit.newest(None, 9).iter().map(|record| record.millis).collect();
        assert_eq!(times, [11, 40]);
        assert!(audit.time(&first, 50).is_none(), "what was replaced is not kept");
        // An earlier process left one: ours is another from now on, and its number the other's.
        audit.read(&[entry(&AuditRecord { sequence: second.sequence, ..record(1) })]);
        assert!(audit.time(&second, 60).is_none());
        assert!(audit.newest(None, 9).iter().all(|record| record.millis != 60));
    }
}
