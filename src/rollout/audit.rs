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
