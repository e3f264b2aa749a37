//! A log as a whole, on a real disk: what goes in comes out, whatever happens to the process and its files.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::read::{Reader, Wanted};
use super::rows::sample;
use super::shelf::Contents;
use super::table::Table;
use super::tally::{Cause, Figure, Part};
use super::*;
use crate::config::units::{Percent, Size};
use crate::config::{Full, Log as Config};

const LONG: Duration = Duration::from_secs(20);

fn config(directory: &Path) -> Config {
    Config {
        dir: directory.to_owned(),
        sample: Percent::ALL,
        flush: Duration::from_millis(10),
        seal_size: Size(64 << 20),
        seal_every: Duration::from_secs(600),
        disk: Size(1 << 30),
        full: Full::DropOldest,
        upload: None,
        payloads: None,
        cloudevents: None,
    }
}

/// A call of `model` with that number as its prediction.
fn call(number: u128) -> crate::outcome::Outcome {
    crate::outcome::Outcome { prediction: uuid::Uuid::from_u128(number), ..sample::outcome() }
}

/// Waits for what nobody tells of.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LONG, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

async fn close(log: Log) {
    log.close(LONG).await;
    assert!(*log.ended.borrow(), "it has not ended");
}

/// All predictions that can be read, and what could not.
fn predictions(directory: &Path) -> (Vec<u128>, Vec<String>) {
    let mut reader = Reader::open(directory).unwrap();
    let mut found = Vec::new();
    reader.rows(&Wanted::all(Table::Predictions), |partition, batch| {
        assert_eq!(partition.model.as_deref(), Some("fraud"));
        for row in 0..batch.num_rows() {
            let row = segment::row(batch, row);
            found.push(row["prediction_uuid"].as_str().unwrap().parse::<uuid::Uuid>().unwrap().as_u128());
        }
        ControlFlow::Continue(())
    });
    found.sort_unstable();
    (found, reader.problems().map(str::to_owned).collect())
}

fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found
}

#[tokio::test]
async fn all_that_happens_is_sealed_by_model_and_hour() {
    let root = tempfile::tempdir().unwrap();
    let log = Log::start(&config(root.path()), 2).unwrap();
    let (first, second, rest) = (log.door(0).unwrap(), log.door(1).unwrap(), log.door(2).unwrap());
    first.call(call(1));
    second.call(call(2));
    let later = sample::outcome().started + Duration::from_secs(3600);
    second.call(crate::outcome::Outcome { started: later, ..call(3) });
    first.copy(&sample::copy());
    rest.report(&sample::seen(0));
    rest.change(&Arc::new(sample::record()));
    let tally = Arc::clone(log.tally());
    close(log).await;
    assert_eq!(Table::ALL.map(|table| tally.written(table)), [3, 1, 1, 1]);
    assert_eq!((tally.get(Figure::Sealed), tally.get(Figure::Damaged), tally.troubles()), (5, 0, Vec::new()));
    assert_eq!(files(root.path(), "spool"), Vec::<PathBuf>::new());
    let contents = Contents::read(root.path()).unwrap();
    let places: Vec<_> =
        contents.sealed.iter().map(|one| one.place.parent().unwrap().display().to_string()).collect();
    for place in [
        "predictions/model=fraud/date=2023-11-14/hour=22",
        "predictions/model=fraud/date=2023-11-14/hour=23",
        "shadows/model=fraud/date=2023-11-14/hour=22",
        "feedback/model=fraud/date=2023-11-14/hour=22",
        "audit/model=fraud/date=2023-11-14/hour=22",
    ] {
        assert!(places.iter().any(|found| found == place), "{place}: {places:?}");
    }
    assert_eq!(contents.foreign, Vec::<PathBuf>::new());
    assert_eq!(predictions(root.path()), (vec![1, 2, 3], vec![]));
}

#[tokio::test]
async fn a_row_of_parquet_says_what_the_row_said() {
    let root = tempfile::tempdir().unwrap();
    let log = Log::start(&config(root.path()), 1).unwrap();
    log.door(0).unwrap().call(sample::outcome());
    close(log).await;
    let expected = sample::row(Table::Predictions, |row| {
        rows::prediction::write(&sample::outcome(), &[0, 1], None, row)
    });
    let mut read = Vec::new();
    Reader::open(root.path()).unwrap().rows(&Wanted::all(Table::Predictions), |_, batch| {
        read.push(segment::row(batch, 0));
        ControlFlow::Continue(())
    });
    assert_eq!(read, [expected]);
}

/// What a `kill -9` leaves is what is in the files at that moment: a copy of them is that.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, target) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() {
            copy(&path, &target);
        } else if let Err(error) = fs::copy(&path, &target) {
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
        }
    }
}

#[tokio::test]
async fn what_was_flushed_is_there_after_a_crash() {
    let root = tempfile::tempdir().unwrap();
    let (alive, crashed) = (root.path().join("alive"), root.path().join("crashed"));
    let log = Log::start(&config(&alive), 1).unwrap();
    let door = log.door(0).unwrap();
    for number in 0..500 {
        door.call(call(number));
        if number % 100 == 0 {
            until("flushed", || log.tally().written(Table::Predictions) > number as u64);
        }
    }
    until("all flushed", || log.tally().written(Table::Predictions) == 500);
    copy(&alive, &crashed);
    assert_eq!(predictions(&crashed).0.len(), 500, "spools can be read as they are");
    // What the crash had begun to seal is made anew.
    fs::write(crashed.join("spool/begun-0.tmp"), "half a file").unwrap();
    close(log).await;
    let next = Log::start(&config(&crashed), 1).unwrap();
    until("sealed", || next.tally().get(Figure::Sealed) == 1);
    assert_eq!(predictions(&crashed), ((0..500).collect(), vec![]));
    assert_eq!(files(&crashed, "tmp"), Vec::<PathBuf>::new());
    close(next).await;
}

#[tokio::test]
async fn a_crash_between_sealing_and_removing_makes_no_row_twice() {
    let root = tempfile::tempdir().unwrap();
    let log = Log::start(&config(root.path()), 1).unwrap();
    log.door(0).unwrap().call(call(1));
    until("flushed", || log.tally().written(Table::Predictions) == 1);
    let spool = files(root.path(), "spool").pop().unwrap();
    let kept = fs::read(&spool).unwrap();
    close(log).await;
    let sealed = files(root.path(), "parquet");
    let bytes = fs::read(&sealed[0]).unwrap();
    fs::write(&spool, kept).unwrap();
    assert_eq!(predictions(root.path()).0, [1], "read from the spool alone");
    assert_eq!(Contents::read(root.path()).unwrap().finished().count(), 0, "nobody uploads it");
    let next = Log::start(&config(root.path()), 1).unwrap();
    until("sealed again", || !spool.exists());
    close(next).await;
    assert_eq!(files(root.path(), "parquet"), sealed, "under the same name");
    assert_eq!(fs::read(&sealed[0]).unwrap(), bytes, "with the same bytes");
}

#[tokio::test]
async fn wherever_a_spool_is_cut_or_changed_the_others_segments_are_sealed() {
    let root = tempfile::tempdir().unwrap();
    let log = Log::start(&config(root.path()), 1).unwrap();
    let door = log.door(0).unwrap();
    for number in 0..3 {
        door.call(call(number));
        until("flushed", || log.tally().written(Table::Predictions) == number as u64 + 1);
    }
    let spool = files(root.path(), "spool").pop().unwrap();
    let whole = fs::read(&spool).unwrap();
    close(log).await;
    let third = whole.len() / 3;
    let again = tempfile::tempdir().unwrap();
    spool::make_folders(again.path()).unwrap();
    let place = again.path().join(spool::FOLDER).join(spool.file_name().unwrap());
    let seal = |bytes: &[u8]| {
        fs::write(&place, bytes).unwrap();
        let made = seal::seal(again.path(), &place).unwrap();
        let found = if made.rows == 0 { Vec::new() } else { predictions(again.path()).0 };
        files(again.path(), "parquet").into_iter().for_each(|file| fs::remove_file(file).unwrap());
        (found, made.damaged)
    };
    for at in (0..whole.len()).step_by(97) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x41;
        let (found, places) = seal(&damaged);
        let expected: Vec<u128> = (0..3).filter(|number| *number != at as u128 / third as u128).collect();
        assert_eq!((found, places), (expected, 1), "byte {at} of {}", whole.len());
        let (found, _) = seal(&whole[..at]);
        assert_eq!(found, (0..at as u128 / third as u128).collect::<Vec<_>>(), "cut at {at}");
    }
}

#[tokio::test]
async fn what_others_left_is_named_and_the_rest_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let log = Log::start(&config(root.path()), 1).unwrap();
    log.door(0).unwrap().call(call(1));
    close(log).await;
    let sealed = files(root.path(), "parquet").pop().unwrap();
    let half = fs::read(&sealed).unwrap();
    let folder = sealed.parent().unwrap();
    fs::write(folder.join(shelf::file_name(uuid::Uuid::from_u128(5), 1)), &half[..half.len() / 2]).unwrap();
    fs::write(folder.join("part-0001.parquet"), "PAR1").unwrap();
    let (found, problems) = predictions(root.path());
    assert_eq!(found, [1]);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems.iter().any(|problem| problem.contains("no whole Parquet file")), "{problems:?}");
    assert!(
        problems.iter().any(|problem| problem.contains("part-0001.parquet: no prediction log")),
        "{problems:?}"
    );
}

#[tokio::test]
async fn a_spool_of_a_newer_version_is_left_for_it() {
    let root = tempfile::tempdir().unwrap();
    spool::make_folders(root.path()).unwrap();
    let mut columns = columns::Columns::new(Table::Predictions);
    rows::prediction::write(&call(1), &[0, 1], None, &mut columns.row());
    let batch = columns.finish().unwrap();
    let place = partition::Partition { model: Some("fraud".into()), hour: 7 };
    let mut said = segment::metadata(Table::Predictions, &place);
    let said_version = (table::VERSION + 1).to_string();
    said.insert(segment::SCHEMA, said_version.clone());
    let schema = arrow_schema::Schema::new(batch.schema().fields().clone()).with_metadata(said);
    let newer = arrow_array::RecordBatch::try_new(Arc::new(schema), batch.columns().to_vec()).unwrap();
    let mut stream = arrow_ipc::writer::StreamWriter::try_new(Vec::new(), &newer.schema()).unwrap();
    stream.write(&newer).unwrap();
    let mut spool = spool::Spool::create(root.path(), Table::Predictions, uuid::Uuid::from_u128(9)).unwrap();
    spool.append(1, &stream.into_inner().unwrap()).unwrap();
    let log = Log::start(&config(root.path()), 1).unwrap();
    until("it is named", || !log.tally().troubles().is_empty());
    let troubles = log.tally().troubles();
    let named = troubles[0].1.contains(&format!("is of schema {said_version}"));
    assert!(troubles[0].0 == Part::Seal && named, "{troubles:?}");
    log.door(0).unwrap().call(call(2));
    close(log).await;
    assert!(spool.path().exists());
    assert_eq!(predictions(root.path()).0, [2]);
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_costs_rows_and_nothing_else_until_it_can() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("log");
    fs::write(&directory, "in the way").unwrap();
    let log = Log::start(&config(&directory), 1).unwrap();
    let door = log.door(0).unwrap();
    (0..7).for_each(|number| door.call(call(number)));
    until("counted", || log.tally().lost(Cause::Directory) == 7);
    assert_eq!(log.tally().troubles()[0].0, Part::Disk);
    fs::remove_file(&directory).unwrap();
    until("it can be used", || log.tally().troubles().is_empty());
    door.call(call(8));
    close(log).await;
    assert_eq!(predictions(&directory).0, [8]);
}

#[tokio::test]
async fn the_directory_is_held_by_one_process_at_a_time() {
    let root = tempfile::tempdir().unwrap();
    let first = Log::start(&config(root.path()), 1).unwrap();
    until("held", || root.path().join("lock").exists());
    let second = Log::start(&config(root.path()), 1).unwrap();
    until("refused", || !second.tally().troubles().is_empty());
    assert!(second.tally().troubles()[0].1.contains("by another process"));
    close(first).await;
    until("taken over", || second.tally().troubles().is_empty());
    close(second).await;
}

#[tokio::test]
async fn the_cap_holds_by_either_policy_and_every_row_is_counted() {
    for full in Full::ALL {
        let root = tempfile::tempdir().unwrap();
        let small = Config { seal_size: Size(32 << 10), disk: Size(128 << 10), full, ..config(root.path()) };
        let log = Log::start(&small, 1).unwrap();
        let door = log.door(0).unwrap();
        let mut told = 0;
        let known = |log: &Log| {
            let lost: u64 = [Cause::Cap, Cause::Queue].map(|cause| log.tally().lost(cause)).iter().sum();
            (log.tally().written(Table::Predictions), lost)
        };
        while log.tally().lost(Cause::Cap) < 200 {
            assert!(told < 200_000, "the cap was never reached: {:?}", log.tally());
            (told..told + 50).for_each(|number| door.call(call(number)));
            told += 50;
            let before = known(&log);
            until("seen", || known(&log) != before);
        }
        let tally = Arc::clone(log.tally());
        close(log).await;
        let left = predictions(root.path()).0.len() as u64;
        let lost: u64 = Cause::ALL.iter().map(|cause| tally.lost(*cause)).sum();
        assert_eq!(left + lost, told as u64, "{full:?}: {tally:?}");
        let held = Contents::read(root.path()).unwrap().bytes();
        assert!(held <= small.disk.0, "{full:?}: {held}");
    }
}

/// Calls as they are: random ids, times in order, latencies of a server.
fn calls(count: u64) -> impl Iterator<Item = crate::outcome::Outcome> {
    let mix = |seed: u64| {
        // SplitMix64.
        let mut mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    };
    (0..count).map(move |number| {
        let mut outcome = sample::outcome();
        let random = |which: u64| mix(number * 16 + which);
        let millis = 1_700_000_000_000 + number / 20;
        let bits: [u8; 10] = std::array::from_fn(|byte| random(1 + byte as u64 / 8).to_le_bytes()[byte % 8]);
        outcome.prediction = uuid::Builder::from_unix_timestamp_millis(millis, &bits).into_uuid();
        outcome.trace.trace_id = u128::from(random(3)) << 64 | u128::from(random(4));
        outcome.trace.span_id = random(5);
        outcome.started = std::time::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_000 + number * 50);
        outcome.latency.total = Duration::from_micros(2000 + random(6) % 8000);
        outcome.latency.upstream = outcome.latency.total - Duration::from_micros(100 + random(7) % 50);
        outcome.latency.own = Duration::from_micros(40 + random(8) % 30);
        outcome.request_id = None;
        if let Some(route) = &mut outcome.route {
            route.unit = Some(mix(random(9) % 5000));
        }
        outcome
    })
}

/// Writes and seals so many calls on this thread; how long that took, and the bytes of the file.
fn cost(count: u64) -> (Duration, u64) {
    let root = tempfile::tempdir().unwrap();
    spool::make_folders(root.path()).unwrap();
    let all: Vec<_> = calls(count).collect();
    let place = partition::Partition::new(Some("fraud".into()), all[0].started);
    let start = Instant::now();
    let mut spool = spool::Spool::create(root.path(), Table::Predictions, uuid::Uuid::from_u128(1)).unwrap();
    for flush in all.chunks(20_000) {
        let mut columns = columns::Columns::new(Table::Predictions);
        for outcome in flush {
            rows::prediction::write(outcome, &[0, 1], None, &mut columns.row());
        }
        let segment = segment::write(Table::Predictions, &place, &columns.finish().unwrap()).unwrap();
        spool.append(flush.len() as u32, &segment).unwrap();
    }
    let made = seal::seal(root.path(), spool.path()).unwrap();
    let took = start.elapsed();
    assert_eq!(made.rows, count);
    (took, Contents::read(root.path()).unwrap().sealed.iter().map(|one| one.bytes).sum())
}

#[test]
fn a_row_without_messages_takes_at_most_120_bytes() {
    let (_, bytes) = cost(20_000);
    let each = bytes as f64 / 20_000.0;
    assert!(each <= 120.0, "{each}");
}

#[test]
#[ignore = "a figure of a release: cargo test --release --lib -- --ignored --nocapture a_row_takes_at_most_4_us"]
fn a_row_takes_at_most_4_us_of_one_core() {
    let (took, bytes) = cost(400_000);
    let each = took.as_secs_f64() * 1e6 / 400_000.0;
    eprintln!("{each:.2} µs and {:.1} bytes a row", bytes as f64 / 400_000.0);
    assert!(each <= 4.0, "{each} µs, {} bytes a row", bytes as f64 / 400_000.0);
}
