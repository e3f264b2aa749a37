//! The thread that writes: empties the doors into columns, and columns into spools at each flush.
//!
//! It is the only one that waits for the disk on the way in. While it waits the doors fill, and what finds no room there
//! is counted; nobody else notices. A directory that cannot be used is tried again every two seconds; until then rows are
//! counted as lost for that.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant, SystemTime};

use uuid::Uuid;

use super::columns::Columns;
use super::directory::{self, Held};
use super::door::{Door, Other};
use super::events::Events;
use super::partition::Partition;
use super::payload::Written;
use super::rows;
use super::seal;
use super::sealer::Order;
use super::segment;
use super::shelf::{Contents, Shelf};
use super::spool::Spool;
use super::table::Table;
use super::tally::{Cause, Figure, Part, Tally};
use crate::config::Model;
use crate::failpoint;

/// How often the doors are emptied.
const TICK: Duration = Duration::from_millis(20);
/// How long a directory that cannot be used is left alone.
const RETRY: Duration = Duration::from_secs(2);
/// Rows, and about as many bytes, of a segment at most.
const ROWS: usize = 16 * 1024;
const BYTES: usize = 8 << 20;

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Command {
    /// Write what waits, seal it, and end.
    End,
}

/// What it works by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    /// How long a row lies in memory at most.
    pub(super) flush: Duration,
    /// How large a spool grows, and how old it gets, before it is sealed.
    pub(super) size: u64,
    pub(super) every: Duration,
}

/// The thread's own.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) doors: Vec<Door>,
    pub(super) shelf: Arc<Shelf>,
    pub(super) settings: Settings,
    pub(super) tally: Arc<Tally>,
    pub(super) orders: Sender<Order>,
    /// Where calls are told of as events; none: nowhere.
    pub(super) events: Option<Events>,
    held: Option<Held>,
    retry: Option<Instant>,
    waiting: HashMap<(Table, Partition), Gathered>,
    spools: [Option<(Spool, Instant)>; Table::ALL.len()],
}

/// Rows that wait for the flush.
#[derive(Debug)]
struct Gathered {
    columns: Columns,
    /// The arms of the model that the last row was of.
    arms: Option<(Arc<Model>, Vec<usize>)>,
}

impl Gathered {
    fn arms(&mut self, model: &Arc<Model>) -> (&mut Columns, &[usize]) {
        if !self.arms.as_ref().is_some_and(|(known, _)| Arc::ptr_eq(known, model)) {
            self.arms = Some((Arc::clone(model), model.arms()));
        }
        (&mut self.columns, self.arms.as_ref().map_or(&[], |(_, arms)| arms))
    }
}

impl Writer {
    pub(super) fn new(
        doors: Vec<Door>,
        shelf: Arc<Shelf>,
        settings: Settings,
        tally: Arc<Tally>,
        (orders, events): (Sender<Order>, Option<Events>),
    ) -> Self {
        Writer {
            doors,
            shelf,
            settings,
            tally,
            orders,
            events,
            held: None,
            retry: None,
            waiting: HashMap::new(),
            spools: Default::default(),
        }
    }

    /// Works until it is told to end, or nobody is left who could.
    pub(super) fn run(&mut self, commands: &Receiver<Command>) {
        self.open();
        let mut next = Instant::now() + self.settings.flush;
        loop {
            let ends = match commands.recv_timeout(TICK) {
                Err(RecvTimeoutError::Timeout) => false,
                Ok(Command::End) | Err(RecvTimeoutError::Disconnected) => true,
            };
            self.gather();
            if ends || Instant::now() >= next {
                self.open();
                self.flush();
                self.rotate(ends);
                next = Instant::now() + self.settings.flush;
            }
            if ends {
                let late: u64 = self.doors.iter().map(Door::waiting).sum();
                self.tally.lose(Cause::Ended, late);
                return;
            }
        }
    }

    /// Takes the directory, where it is not held and its time has come; what an earlier process left there is sealed.
    fn open(&mut self) {
        if self.held.is_some() || self.retry.is_some_and(|at| Instant::now() < at) {
            return;
        }
        match directory::take(self.shelf.directory()) {
            Ok(held) => {
                self.held = Some(held);
                self.tally.trouble(Part::Disk, None);
                if let Err(error) = self.recover() {
                    let why = format!("{}: {error}", self.shelf.directory().display());
                    self.tally.trouble(Part::Seal, Some(why));
                }
            }
            Err(refused) => {
                self.retry = Some(Instant::now() + RETRY);
                self.tally.trouble(Part::Disk, Some(refused.to_string()));
            }
        }
    }

    /// Hands on what an earlier process left to be sealed, and removes what it had begun. Before any spool of our own is
    /// there: who looked later would seal that under our hands.
    fn recover(&self) -> std::io::Result<()> {
        seal::sweep(self.shelf.directory())?;
        let contents = Contents::read(self.shelf.directory())?;
        for (path, _) in contents.spools {
            // Nobody seals only while the process ends.
            let _ = self.orders.send(Order(path));
        }
        // Files that wait are known from the start, also to who uploads them.
        self.shelf.make_room(0).map(drop)
    }

    /// Turns what waits at the doors into rows.
    fn gather(&mut self) {
        let now = SystemTime::now();
        for door in self.doors.clone() {
            for outcome in door.calls() {
                failpoint::panics("log");
                let model = outcome.route.as_ref().map(|route| Arc::clone(&route.model));
                let name = model.as_ref().map(|model| Arc::clone(&model.name));
                let taken = outcome.payload.as_ref();
                let messages = taken.map(|taken| taken.write(model.as_deref(), outcome.protocol));
                if let Some(events) = &self.events {
                    events.tell(&outcome, messages.as_ref(), now);
                }
                let gathered = self.place(Table::Predictions, name, outcome.started);
                let (columns, arms) = match &model {
                    Some(model) => gathered.arms(model),
                    None => (&mut gathered.columns, &[][..]),
                };
                let kept = messages.as_ref().map(Written::kept);
                rows::prediction::write(&outcome, arms, kept.as_ref(), &mut columns.row());
                self.flush_if_large(Table::Predictions);
            }
            for other in door.others() {
                self.other(other);
            }
        }
    }

    fn other(&mut self, other: Other) {
        match other {
            Other::Copy(copy) => {
                let gathered = self.place(Table::Shadows, Some(Arc::clone(&copy.model.name)), copy.started);
                rows::copy::write(&copy, &mut gathered.columns.row());
                self.flush_if_large(Table::Shadows);
            }
            Other::Report(seen) => {
                let gathered = self.place(Table::Feedback, Some(Arc::clone(&seen.model.name)), seen.at);
                let (columns, arms) = gathered.arms(&seen.model);
                rows::report::write(&seen, arms, &mut columns.row());
                self.flush_if_large(Table::Feedback);
            }
            Other::Change(record) => {
                let time = SystemTime::UNIX_EPOCH + Duration::from_millis(record.millis);
                let gathered = self.place(Table::Audit, Some(Arc::clone(&record.model)), time);
                rows::change::write(&record, &mut gathered.columns.row());
            }
        }
    }

    fn place(&mut self, table: Table, model: Option<Arc<str>>, time: SystemTime) -> &mut Gathered {
        let key = (table, Partition::new(model, time));
        self.waiting.entry(key).or_insert_with(|| Gathered { columns: Columns::new(table), arms: None })
    }

    /// Writes at once what would become too large a segment.
    fn flush_if_large(&mut self, table: Table) {
        let large = |columns: &Columns| columns.rows() >= ROWS || columns.bytes() >= BYTES;
        if self.waiting.iter().any(|((of, _), gathered)| *of == table && large(&gathered.columns)) {
            self.flush();
        }
    }

    /// Writes all rows that wait. Columns are made anew each time: hours pass, and models come and go.
    fn flush(&mut self) {
        for ((table, partition), mut gathered) in std::mem::take(&mut self.waiting) {
            let rows = gathered.columns.rows() as u64;
            if rows == 0 {
                continue;
            }
            let outcome =
                match gathered.columns.finish().and_then(|batch| segment::write(table, &partition, &batch)) {
                    Ok(segment) => self.append(table, rows, &segment),
                    // A bug here, and rows that nobody can have any more.
                    Err(error) => Err((Cause::Write, Some(error.to_string()))),
                };
            match outcome {
                Ok(()) => {
                    self.tally.write(table, rows);
                    self.tally.trouble(Part::Disk, None);
                }
                Err((cause, why)) => {
                    self.tally.lose(cause, rows);
                    if why.is_some() {
                        self.tally.trouble(Part::Disk, why);
                    }
                }
            }
        }
    }

    /// Appends to the table's spool; else how the rows are counted, and what to say where nobody has yet.
    fn append(&mut self, table: Table, rows: u64, segment: &[u8]) -> Result<(), (Cause, Option<String>)> {
        if self.held.is_none() {
            return Err((Cause::Directory, None));
        }
        let bytes = (segment.len() + super::frame::HEADER) as u64;
        if !self.shelf.fits(bytes) {
            return Err((Cause::Cap, Some("the directory is at its cap (log.disk)".to_owned())));
        }
        let known = &mut self.spools[table as usize];
        let (spool, _) = match known {
            Some(spool) => spool,
            None => {
                let made = Spool::create(self.shelf.directory(), table, Uuid::now_v7());
                known.insert((
                    made.map_err(|failed| (failed.cause, Some(failed.to_string())))?,
                    Instant::now(),
                ))
            }
        };
        let appended = spool.append(u32::try_from(rows).unwrap_or(u32::MAX), segment);
        if !spool.is_usable() {
            self.close(table);
        }
        match appended {
            Ok(()) => {
                self.tally.add(Figure::DiskBytes, bytes);
                Ok(())
            }
            Err(failed) => Err((failed.cause, Some(failed.to_string()))),
        }
    }

    /// Hands spools on that are large or old enough, or all.
    fn rotate(&mut self, all: bool) {
        for table in Table::ALL {
            let due = |(spool, since): &(Spool, Instant)| {
                all || spool.length() >= self.settings.size || since.elapsed() >= self.settings.every
            };
            if self.spools[table as usize].as_ref().is_some_and(due) {
                self.close(table);
            }
        }
    }

    /// Hands a spool on to be sealed.
    fn close(&mut self, table: Table) {
        if let Some((spool, _)) = self.spools[table as usize].take() {
            // Nobody seals only while the process ends; the next start does.
            let _ = self.orders.send(Order(Path::to_owned(spool.path())));
        }
    }
}
