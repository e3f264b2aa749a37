//! What became of the prediction log's rows.

use super::text::{Kind, Text};
use crate::log::Tally;
use crate::log::events::Side;
use crate::log::table::Table;
use crate::log::tally::{Cause, Figure, Missed, Part};
use crate::telemetry::names::metric;

/// Without a log nothing is said of it.
pub(super) fn write(text: &mut Text, tally: Option<&Tally>) {
    let Some(tally) = tally else { return };
    text.family(metric::LOG_ROWS, Kind::Counter, "Rows that are on the disk, by table.");
    for table in Table::ALL {
        text.sample(metric::LOG_ROWS, &[("table", table.name())], tally.written(table));
    }
    text.family(metric::LOG_LOST, Kind::Counter, "Rows that were lost, by cause.");
    for cause in Cause::ALL {
        text.sample(metric::LOG_LOST, &[("cause", cause.name())], tally.lost(cause));
    }
    let figures = [
        (metric::LOG_SEALED, Kind::Counter, Figure::Sealed, "Parquet files that were made."),
        (metric::LOG_SEAL_ERRORS, Kind::Counter, Figure::SealErrors, "Tries to make them that failed."),
        (metric::LOG_DAMAGED, Kind::Counter, Figure::Damaged, "Places in spools that could not be read."),
        (metric::LOG_UPLOADED, Kind::Counter, Figure::Uploaded, "Files that the store has taken."),
        (metric::LOG_UPLOADED_BYTES, Kind::Counter, Figure::UploadedBytes, "Bytes of those."),
        (
            metric::LOG_UPLOAD_ERRORS,
            Kind::Counter,
            Figure::UploadErrors,
            "Times that the store took nothing.",
        ),
        (
            metric::LOG_PAYLOADS_DROPPED,
            Kind::Counter,
            Figure::PayloadsDropped,
            "Calls whose messages found no room.",
        ),
        (
            metric::LOG_EVENT_ERRORS,
            Kind::Counter,
            Figure::EventErrors,
            "Times that the receiver did not take an event.",
        ),
        (metric::LOG_DISK, Kind::Gauge, Figure::DiskBytes, "Bytes in the log's directory."),
        (metric::LOG_FILES, Kind::Gauge, Figure::Waiting, "Parquet files in the log's directory."),
    ];
    for (name, kind, figure, help) in figures {
        text.family(name, kind, help);
        text.sample(name, &[], tally.get(figure));
    }
    text.family(metric::LOG_FOREIGN, Kind::Gauge, "Files in it that no log has written.");
    text.sample(metric::LOG_FOREIGN, &[], tally.foreign().files);
    text.family(metric::LOG_EVENTS, Kind::Counter, "Events that the receiver has taken, by type.");
    for side in Side::ALL {
        text.sample(metric::LOG_EVENTS, &[("type", side.name())], tally.told(side));
    }
    text.family(metric::LOG_EVENTS_LOST, Kind::Counter, "Events that were not told, by cause.");
    for cause in Missed::ALL {
        text.sample(metric::LOG_EVENTS_LOST, &[("cause", cause.name())], tally.missed(cause));
    }
    text.family(metric::LOG_FAILING, Kind::Gauge, "Whether a part of the log fails now: 1 or 0.");
    let troubles = tally.troubles();
    for part in Part::ALL {
        let failing = troubles.iter().any(|(found, _)| *found == part);
        text.sample(metric::LOG_FAILING, &[("part", part.name())], u64::from(failing));
    }
}
