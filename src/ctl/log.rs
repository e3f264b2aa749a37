//! How the prediction log does, for people and for scripts. Pure.

use serde_json::{Value, json};

use super::text;
use crate::config::units::{Size, write_count};
use crate::pb::v1::{Loss, PredictionLog};

/// What somebody should see to: what fails now, what was lost, what lies there that should not.
pub(super) fn troubles(log: &PredictionLog) -> Vec<String> {
    let failing = log.troubles.iter().filter(|trouble| trouble.now);
    let mut lines: Vec<String> = failing
        .map(|trouble| {
            format!("{} fails since {}: {}", trouble.part, text::time(trouble.since_unix_ms), trouble.why)
        })
        .collect();
    if !log.lost.is_empty() {
        lines.push(format!("lost {}", losses(&log.lost, "row")));
    }
    if !log.events_lost.is_empty() {
        lines.push(format!("did not tell {}", losses(&log.events_lost, "event")));
    }
    if log.foreign_files > 0 {
        let more = if log.foreign_files > log.foreign.len() as u64 { ", …" } else { "" };
        let what = if log.foreign_files == 1 {
            "file that no log has written, and leaves it"
        } else {
            "files that no log has written, and leaves them"
        };
        lines.push(format!(
            "found {} {what} alone: {}{more}",
            write_count(log.foreign_files),
            log.foreign.join(", ")
        ));
    }
    lines
}

/// Where it is and how much there is of it, and what is over.
pub(super) fn facts(log: &PredictionLog) -> Vec<String> {
    let (rows, files) = (write_count(log.rows), write_count(log.files));
    let files = format!("{files} {}", if log.files == 1 { "file" } else { "files" });
    let (held, most) = (mebibytes(log.bytes), Size(log.most_bytes));
    let mut lines = vec![format!("{}: {rows} rows, {files}, {held} of {most}", log.directory)];
    lines.extend(log.troubles.iter().filter(|trouble| !trouble.now).map(|trouble| {
        format!(
            "{} works again; it failed at {}: {}",
            trouble.part,
            text::time(trouble.since_unix_ms),
            trouble.why
        )
    }));
    lines
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1}MiB", bytes as f64 / f64::from(1 << 20))
}

/// `120 rows: 100 disk_full, 20 queue`.
fn losses(all: &[Loss], what: &str) -> String {
    let sum: u64 = all.iter().map(|loss| loss.count).sum();
    let each: Vec<String> =
        all.iter().map(|loss| format!("{} {}", write_count(loss.count), loss.cause)).collect();
    format!("{} {what}{}: {}", write_count(sum), if sum == 1 { "" } else { "s" }, each.join(", "))
}

pub(super) fn json(log: &PredictionLog) -> Value {
    let losses = |all: &[Loss]| {
        Value::Object(all.iter().map(|loss| (loss.cause.clone(), loss.count.into())).collect())
    };
    let troubles = log.troubles.iter().map(|trouble| {
        json!({"part": trouble.part, "why": trouble.why, "since_unix_ms": trouble.since_unix_ms, "now": trouble.now})
    });
    json!({
        "directory": log.directory,
        "rows": log.rows,
        "bytes": log.bytes,
        "most_bytes": log.most_bytes,
        "files": log.files,
        "lost": losses(&log.lost),
        "events_lost": losses(&log.events_lost),
        "troubles": troubles.collect::<Value>(),
        "foreign_files": log.foreign_files,
        "foreign": log.foreign,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::v1::LogTrouble;

    #[test]
    fn people_see_what_fails_what_is_lost_and_what_is_over() {
        let trouble = |part: &str, why: &str, now| LogTrouble {
            part: part.into(),
            why: why.into(),
            since_unix_ms: 0,
            now,
        };
        let log = PredictionLog {
            directory: "/log".into(),
            rows: 12_345,
            bytes: 3 << 19,
            most_bytes: 1 << 30,
            files: 1,
            lost: vec![
                Loss { cause: "disk_full".into(), count: 100 },
                Loss { cause: "queue".into(), count: 20 },
            ],
            events_lost: vec![Loss { cause: "refused".into(), count: 1 }],
            troubles: vec![trouble("disk", "No space left", true), trouble("upload", "503", false)],
            foreign_files: 12,
            foreign: vec!["/log/predictions/part-0.parquet".into()],
        };
        assert_eq!(
            troubles(&log),
            [
                "disk fails since 1970-01-01T00:00:00Z: No space left",
                "lost 120 rows: 100 disk_full, 20 queue",
                "did not tell 1 event: 1 refused",
                "found 12 files that no log has written, and leaves them alone: /log/predictions/part-0.parquet, …",
            ]
        );
        assert_eq!(
            facts(&log),
            [
                "/log: 12,345 rows, 1 file, 1.5MiB of 1GiB",
                "upload works again; it failed at 1970-01-01T00:00:00Z: 503"
            ]
        );
        assert_eq!(
            (&json(&log)["lost"]["disk_full"], &json(&log)["troubles"][0]["now"]),
            (&json!(100), &json!(true))
        );
        assert!(troubles(&PredictionLog::default()).is_empty());
    }
}
