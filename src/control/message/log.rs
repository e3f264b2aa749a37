//! How the prediction log does, in the words of the service.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::config;
use crate::log::Tally;
use crate::log::table::Table;
use crate::log::tally::{Cause, Figure, Missed};
use crate::pb::v1;

pub(in crate::control) fn log(config: &config::Log, tally: &Tally) -> v1::PredictionLog {
    let loss =
        |cause: &'static str, count: u64| (count > 0).then(|| v1::Loss { cause: cause.to_owned(), count });
    let troubles = tally.latest().into_iter().map(|(part, trouble)| v1::LogTrouble {
        part: part.name().to_owned(),
        why: trouble.why.to_string(),
        since_unix_ms: millis(trouble.since),
        now: trouble.now,
    });
    let foreign = tally.foreign();
    v1::PredictionLog {
        directory: config.dir.display().to_string(),
        rows: Table::ALL.iter().map(|table| tally.written(*table)).sum(),
        bytes: tally.get(Figure::DiskBytes),
        most_bytes: config.disk.0,
        files: tally.get(Figure::Waiting),
        lost: Cause::ALL.iter().filter_map(|cause| loss(cause.name(), tally.lost(*cause))).collect(),
        events_lost: Missed::ALL
            .iter()
            .filter_map(|cause| loss(cause.name(), tally.missed(*cause)))
            .collect(),
        troubles: troubles.collect(),
        foreign_files: foreign.files,
        foreign: foreign.named.iter().map(|path| path.display().to_string()).collect(),
    }
}

fn millis(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
