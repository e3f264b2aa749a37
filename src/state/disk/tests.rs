use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;

use super::*;

fn batch(model: &str, value: &[u8], number: u64) -> Batch {
    Batch {
        progress: HashMap::from([(model.to_owned(), Some(value.to_vec()))]),
        audit: vec![(number, value.to_vec())],
        ..Batch::default()
    }
}

#[test]
fn what_was_written_is_there_in_the_next_process() {
    let directory = tempfile::tempdir().unwrap();
    let below = directory.path().join("not/yet/there");
    let disk = Disk::open(&below).unwrap();
    disk.write(&batch("m", b"one", 1)).unwrap();
    disk.write(&Batch { blocks: HashMap::from([("m\nb".into(), Some(vec![7]))]), ..batch("m", b"two", 2) })
        .unwrap();
    disk.write(&Batch { progress: HashMap::from([("gone".into(), None)]), ..Batch::default() }).unwrap();
    drop(disk);
    let left = Disk::open(&below).unwrap().left().unwrap();
    assert_eq!(left.progress, HashMap::from([("m".to_owned(), b"two".to_vec())]));
    assert_eq!(left.blocks, HashMap::from([("m\nb".to_owned(), vec![7])]));
    assert_eq!(left.audit, [(1, b"one".to_vec()), (2, b"two".to_vec())]);
}

#[test]
fn only_the_newest_records_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::open(directory.path()).unwrap();
    let audit = (0..RECORDS + 3).map(|number| (number, vec![])).collect();
    disk.write(&Batch { audit, ..Batch::default() }).unwrap();
    let left = disk.left().unwrap();
    assert_eq!((left.audit.len() as u64, left.audit[0].0), (RECORDS, 3));
}

#[test]
fn marks_are_found_told_in_order_and_forgotten_by_the_hour() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::open(directory.path()).unwrap();
    let mark = |expires, key| Mark { expires, key: [key; 16] };
    let marks = [(mark(9, 1), vec![1]), (mark(7, 2), vec![2]), (mark(8, 3), vec![3])].to_vec();
    disk.write(&Batch { marks, ..Batch::default() }).unwrap();
    assert_eq!(disk.find(mark(7, 2)).unwrap(), Some(vec![2]));
    assert_eq!(disk.find(mark(7, 1)).unwrap(), None);
    disk.write(&Batch { expired: Some(8), ..Batch::default() }).unwrap();
    let mut told = Vec::new();
    disk.marks(0, |mark, value| told.push((mark.expires, value.to_vec()))).unwrap();
    assert_eq!(told, [(8, vec![3]), (9, vec![1])]);
}

#[test]
fn another_process_and_a_newer_one_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::open(directory.path()).unwrap();
    let error = Disk::open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("another process has it open"), "{error}");
    let transaction = disk.database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("schema", SCHEMA + 6).unwrap();
    transaction.commit().unwrap();
    drop(disk);
    let error = Disk::open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("schema 7 is newer than 1"), "{error}");
    let again = Disk::open(directory.path()).unwrap_err();
    assert!(matches!(again, StateError::Newer { found: 7, .. }), "it was not touched: {again}");
}

#[test]
fn what_is_no_directory_or_no_database_is_said_so() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "text").unwrap();
    let error = Disk::open(&file).unwrap_err().to_string();
    assert!(error.contains("must be a directory"), "{error}");
    std::fs::write(directory.path().join(FILE), [7; 10_000]).unwrap();
    assert!(Disk::open(directory.path()).is_err());
}

/// Memory that has room for nothing more when it is told so.
#[derive(Debug)]
struct Full(redb::backends::InMemoryBackend, Arc<AtomicBool>);

impl StorageBackend for Full {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        if self.1.load(Ordering::Relaxed) {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        self.0.write(offset, data)
    }
}

#[test]
fn a_full_disk_is_an_error_that_says_so() {
    let full = Arc::new(AtomicBool::new(false));
    let backend = Full(redb::backends::InMemoryBackend::new(), Arc::clone(&full));
    let database = Database::builder().create_with_backend(backend).unwrap();
    let disk = Disk::over("/there".into(), database).unwrap();
    disk.write(&batch("m", b"one", 1)).unwrap();
    full.store(true, Ordering::Relaxed);
    let error = disk.write(&batch("m", b"two", 2)).unwrap_err().to_string();
    assert!(error.starts_with("/there: ") && error.contains("storage space"), "{error}");
}
