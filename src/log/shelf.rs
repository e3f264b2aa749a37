//! What lies in a log's directory: spools, sealed files, and what was put there by somebody else; and the cap on it all.
//!
//! ```text
//! DIR/schema.json                                       which version wrote here, and what its fields mean
//! DIR/lock                                              held by the process that writes
//! DIR/spool/TABLE-UUID.spool                            grows
//! DIR/TABLE/model=M/date=D/hour=H/UUID-ROWS.parquet     sealed; UUID is the spool's that it was made of
//! ```

use std::collections::HashSet;
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use super::partition::Partition;
use super::spool;
use super::table::Table;
use super::tally::{Cause, Figure, Tally};

/// One sealed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Where it is, below the log's directory.
    pub place: PathBuf,
    /// Which table.
    pub table: Table,
    /// Whose rows, of when.
    pub partition: Partition,
    /// Of the spool that it was made of; later ones are greater.
    pub id: Uuid,
    /// How many rows it has.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
}

/// Everything in a directory.
#[derive(Debug, Default)]
pub struct Contents {
    /// Oldest first.
    pub sealed: Vec<Sealed>,
    /// Spools with their sizes, oldest first.
    pub spools: Vec<(PathBuf, u64)>,
    /// What no log has written: below tables and `spool`.
    pub foreign: Vec<PathBuf>,
}

impl Contents {
    /// Reads the names in `directory`; what is not there is empty.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn read(directory: &Path) -> io::Result<Self> {
        let mut contents = Contents::default();
        contents.read_spools(&directory.join(spool::FOLDER))?;
        for table in Table::ALL {
            for model in entries(&directory.join(table.name()))? {
                for date in below(&model, &mut contents.foreign)? {
                    for hour in below(&date, &mut contents.foreign)? {
                        let partition = partition(&model, &date, &hour);
                        for file in below(&hour, &mut contents.foreign)? {
                            contents.file(directory, table, partition.as_ref(), &file)?;
                        }
                    }
                }
            }
        }
        contents.sealed.sort_by(|one, other| (one.id, &one.place).cmp(&(other.id, &other.place)));
        contents.spools.sort();
        Ok(contents)
    }

    fn read_spools(&mut self, folder: &Path) -> io::Result<()> {
        for entry in entries(folder)? {
            match spool::named(&entry.path()) {
                Some(_) => self.spools.push((entry.path(), size(&entry)?)),
                // What is being sealed.
                None if entry.path().extension().is_some_and(|extension| extension == "tmp") => {}
                None => self.foreign.push(entry.path()),
            }
        }
        Ok(())
    }

    fn file(
        &mut self,
        root: &Path,
        table: Table,
        partition: Option<&Partition>,
        entry: &DirEntry,
    ) -> io::Result<()> {
        let path = entry.path();
        let named = path.file_name().and_then(|name| name.to_str()).and_then(named);
        match (named, partition, path.strip_prefix(root)) {
            (Some((id, rows)), Some(partition), Ok(place)) => {
                let (place, partition) = (place.to_owned(), partition.clone());
                self.sealed.push(Sealed { place, table, partition, id, rows, bytes: size(entry)? });
            }
            _ => self.foreign.push(path),
        }
        Ok(())
    }

    /// Sealed files of spools that are no longer there: what is not finished may be made again.
    pub fn finished(&self) -> impl Iterator<Item = &Sealed> {
        let open: HashSet<Uuid> =
            self.spools.iter().filter_map(|(path, _)| Some(spool::named(path)?.1)).collect();
        self.sealed.iter().filter(move |sealed| !open.contains(&sealed.id))
    }

    /// Bytes of spools and sealed files together.
    pub fn bytes(&self) -> u64 {
        self.sealed.iter().map(|sealed| sealed.bytes).chain(self.spools.iter().map(|(_, bytes)| *bytes)).sum()
    }
}

/// The name of a sealed file.
pub fn file_name(id: Uuid, rows: u64) -> String {
    format!("{id}-{rows}.parquet")
}

/// The reverse of [`file_name`].
fn named(name: &str) -> Option<(Uuid, u64)> {
    let (id, rows) = name.strip_suffix(".parquet")?.rsplit_once('-')?;
    Some((Uuid::try_parse(id).ok()?, rows.parse().ok()?))
}

fn partition(model: &DirEntry, date: &DirEntry, hour: &DirEntry) -> Option<Partition> {
    let name = |entry: &DirEntry| entry.file_name().to_str().map(str::to_owned);
    Partition::read(&name(model)?, &name(date)?, &name(hour)?)
}

fn size(entry: &DirEntry) -> io::Result<u64> {
    gone_is(0, entry.metadata().map(|metadata| metadata.len()))
}

fn entries(folder: &Path) -> io::Result<Vec<DirEntry>> {
    gone_is(Vec::new(), fs::read_dir(folder).and_then(Iterator::collect))
}

/// What is in a folder; what is none is foreign.
fn below(entry: &DirEntry, foreign: &mut Vec<PathBuf>) -> io::Result<Vec<DirEntry>> {
    if entry.file_type()?.is_dir() {
        return entries(&entry.path());
    }
    foreign.push(entry.path());
    Ok(Vec::new())
}

/// What went away meanwhile is not there.
fn gone_is<T>(nothing: T, result: io::Result<T>) -> io::Result<T> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(nothing),
        other => other,
    }
}

/// A directory, and the cap on it.
#[derive(Debug)]
pub struct Shelf {
    directory: PathBuf,
    cap: u64,
    /// Whether the oldest sealed files go where there is no room; else nothing new comes in.
    oldest_goes: bool,
    tally: Arc<Tally>,
    /// The file that is being uploaded, which nobody may take away.
    busy: Mutex<Option<PathBuf>>,
}

impl Shelf {
    /// Of that directory.
    pub fn new(directory: &Path, cap: u64, oldest_goes: bool, tally: Arc<Tally>) -> Self {
        Shelf { directory: directory.to_owned(), cap, oldest_goes, tally, busy: Mutex::default() }
    }

    /// The log's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether so many bytes more fit. Where they do not and the oldest may go, it goes.
    pub fn fits(&self, bytes: u64) -> bool {
        if self.tally.get(Figure::DiskBytes) + bytes <= self.cap {
            return true;
        }
        // What is known may be too much, for files are uploaded meanwhile.
        self.make_room(bytes).is_ok_and(|held| held + bytes <= self.cap)
    }

    /// Removes the oldest sealed files until so many bytes more fit, where that is the policy; returns how many bytes
    /// there are then.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn make_room(&self, bytes: u64) -> io::Result<u64> {
        let contents = Contents::read(&self.directory)?;
        self.tally.see_foreign(&contents.foreign);
        let (mut held, mut files) = (contents.bytes(), contents.sealed.len() as u64);
        for sealed in contents.finished().filter(|_| self.oldest_goes) {
            if held + bytes <= self.cap {
                break;
            }
            if self.remove(sealed) {
                self.tally.lose(Cause::Cap, sealed.rows);
                held -= sealed.bytes;
                files -= 1;
            }
        }
        self.tally.set(Figure::DiskBytes, held);
        self.tally.set(Figure::Waiting, files);
        Ok(held)
    }

    /// Removes a file, unless it is being uploaded.
    fn remove(&self, sealed: &Sealed) -> bool {
        let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.as_ref() != Some(&sealed.place) && fs::remove_file(self.directory.join(&sealed.place)).is_ok()
    }

    /// Says that a file must stay, until another is named or none.
    pub fn hold(&self, place: Option<&Path>) {
        *self.busy.lock().unwrap_or_else(PoisonError::into_inner) = place.map(Path::to_owned);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, place: &str, bytes: usize) {
        let path = root.join(place);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![0; bytes]).unwrap();
    }

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn hour(table: &str, number: u128, rows: u64) -> String {
        format!("{table}/model=m/date=2026-11-29/hour=07/{}", file_name(id(number), rows))
    }

    #[test]
    fn what_lies_there_is_told_apart() {
        let root = tempfile::tempdir().unwrap();
        assert!(Contents::read(&root.path().join("absent")).unwrap().sealed.is_empty());
        put(root.path(), &hour("predictions", 2, 10), 5);
        put(root.path(), &hour("feedback", 1, 7), 6);
        put(root.path(), &format!("spool/predictions-{}.spool", id(2)), 3);
        let foreign = [
            "spool/notes.txt",
            "predictions/notes.txt",
            "predictions/model=m/date=2026-11-29/hour=07/other.parquet",
            "predictions/model=m/date=2026-11-32/hour=07/00000000-0000-0000-0000-000000000001-1.parquet",
        ];
        foreign.iter().for_each(|place| put(root.path(), place, 1));
        put(root.path(), "schema.json", 9);
        put(root.path(), "spool/half.tmp", 9);
        let contents = Contents::read(root.path()).unwrap();
        assert_eq!(contents.foreign.len(), foreign.len(), "{:?}", contents.foreign);
        assert_eq!(
            contents.sealed.iter().map(|one| (one.id, one.rows)).collect::<Vec<_>>(),
            [(id(1), 7), (id(2), 10)]
        );
        assert_eq!(contents.finished().map(|one| one.id).collect::<Vec<_>>(), [id(1)], "2 is not finished");
        assert_eq!(contents.bytes(), 14);
    }

    #[test]
    fn the_oldest_goes_where_there_is_no_room_and_is_counted() {
        let root = tempfile::tempdir().unwrap();
        for number in 1..=4 {
            put(root.path(), &hour("predictions", number, 10 * number as u64), 100);
        }
        let tally = Arc::new(Tally::default());
        let shelf = Shelf::new(root.path(), 350, true, Arc::clone(&tally));
        assert_eq!(shelf.make_room(0).unwrap(), 300);
        assert_eq!((tally.lost(Cause::Cap), tally.get(Figure::Waiting)), (10, 3));
        let held = Contents::read(root.path()).unwrap().sealed[0].place.clone();
        shelf.hold(Some(&held));
        assert!(shelf.fits(100));
        assert_eq!(tally.lost(Cause::Cap), 40, "the second is held, so the third went");
        assert!(root.path().join(held).exists());
    }

    #[test]
    fn where_the_newest_goes_nothing_is_removed() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), &hour("predictions", 1, 10), 100);
        let tally = Arc::new(Tally::default());
        let shelf = Shelf::new(root.path(), 150, false, Arc::clone(&tally));
        shelf.make_room(0).unwrap();
        assert!(shelf.fits(50) && !shelf.fits(51));
        fs::remove_file(root.path().join(hour("predictions", 1, 10))).unwrap();
        assert!(shelf.fits(51), "it was uploaded meanwhile");
        assert_eq!(tally.lost(Cause::Cap), 0);
    }
}
