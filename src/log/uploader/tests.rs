//! A store that is down, loses answers or comes back, on virtual time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use bytes::Bytes;
use uuid::Uuid;

use super::super::shelf::file_name;
use super::super::tally::Cause;
use super::*;

/// A store that does what is asked of it.
#[derive(Debug, Default, Clone)]
struct Fake(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// By name: how often something was put there.
    objects: BTreeMap<String, usize>,
    tries: usize,
    down: bool,
    /// Stores, and then says that it failed.
    loses_answers: usize,
    hangs: bool,
}

impl Fake {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }
}

impl Store for Fake {
    async fn put(&mut self, name: &str, _: Bytes) -> Result<(), String> {
        if self.with(|state| state.hangs) {
            std::future::pending::<()>().await;
        }
        self.with(|state| {
            state.tries += 1;
            if state.down {
                return Err("503 slow down".to_owned());
            }
            *state.objects.entry(name.to_owned()).or_default() += 1;
            if state.loses_answers > 0 {
                state.loses_answers -= 1;
                return Err("connection reset".to_owned());
            }
            Ok(())
        })
    }
}

struct Bench {
    root: tempfile::TempDir,
    store: Fake,
    tally: Arc<Tally>,
    shelf: Arc<Shelf>,
    sealed: watch::Sender<u64>,
}

impl Bench {
    fn new(cap: u64) -> Self {
        let root = tempfile::tempdir().unwrap();
        let tally = Arc::new(Tally::default());
        let shelf = Arc::new(Shelf::new(root.path(), cap, true, Arc::clone(&tally)));
        Bench { root, store: Fake::default(), tally, shelf, sealed: watch::Sender::new(0) }
    }

    /// As the sealer does.
    fn seal(&self, number: u128, bytes: usize) -> String {
        let place =
            format!("predictions/model=m/date=2026-11-29/hour=07/{}", file_name(Uuid::from_u128(number), 10));
        let path = self.root.path().join(&place);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut whole = vec![0; bytes];
        // As every Parquet file begins and ends.
        whole[..4].copy_from_slice(MAGIC);
        whole[bytes - 4..].copy_from_slice(MAGIC);
        fs::write(path, whole).unwrap();
        self.shelf.make_room(0).unwrap();
        self.sealed.send_modify(|times| *times += 1);
        place
    }

    #[expect(clippy::disallowed_methods, reason = "a test")]
    fn start(&self) -> tokio::task::JoinHandle<()> {
        let (shelf, tally) = (Arc::clone(&self.shelf), Arc::clone(&self.tally));
        let mut work = Uploader::new(self.store.clone(), shelf, tally, self.sealed.subscribe());
        tokio::spawn(async move { work.run().await })
    }

    fn left(&self) -> usize {
        Contents::read(self.root.path()).unwrap().sealed.len()
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what}");
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_is_removed_here_under_the_name_it_had() {
    let bench = Bench::new(1 << 20);
    let places: Vec<String> = (1..=3).map(|number| bench.seal(number, 10)).collect();
    let running = bench.start();
    until("stored", || bench.left() == 0).await;
    assert_eq!(bench.store.with(|state| state.objects.keys().cloned().collect::<Vec<_>>()), places);
    let fourth = bench.seal(4, 10);
    let Bench { root, store, tally, sealed, .. } = bench;
    drop(sealed);
    running.await.unwrap();
    assert_eq!(store.with(|state| state.objects[&fourth]), 1);
    assert_eq!((tally.get(Figure::Uploaded), tally.get(Figure::UploadedBytes)), (4, 40));
    assert!(!Path::exists(&root.path().join(fourth)));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_for_a_day_costs_what_is_over_the_cap_and_nothing_else() {
    let bench = Bench::new(1000);
    bench.store.with(|state| state.down = true);
    let running = bench.start();
    let start = tokio::time::Instant::now();
    // A file every ten minutes.
    for number in 1..=144 {
        bench.seal(number, 100);
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(bench.left() <= 10, "the cap holds");
    }
    assert_eq!(start.elapsed(), Duration::from_secs(86_400));
    assert!(bench.tally.troubles()[0].1.contains("503"));
    let tries = bench.store.with(|state| state.tries);
    assert!((1300..1700).contains(&tries), "about once a minute: {tries}");
    assert_eq!(bench.tally.lost(Cause::Cap), 134 * 10, "each row of each file that went");
    bench.store.with(|state| state.down = false);
    until("stored", || bench.left() == 0).await;
    let objects = bench.store.with(|state| state.objects.clone());
    assert_eq!(objects.len(), 10);
    assert!(objects.values().all(|times| *times == 1));
    assert!(bench.tally.troubles().is_empty());
    drop(bench.sealed);
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_makes_no_second_name() {
    let bench = Bench::new(1 << 20);
    bench.store.with(|state| state.loses_answers = 3);
    let place = bench.seal(1, 10);
    let running = bench.start();
    until("stored", || bench.left() == 0).await;
    drop(bench.sealed);
    running.await.unwrap();
    assert_eq!(bench.store.with(|state| state.objects.clone()), BTreeMap::from([(place, 4)]));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_is_given_up_and_tried_again() {
    let bench = Bench::new(1 << 20);
    bench.store.with(|state| state.hangs = true);
    bench.seal(1, 10);
    let running = bench.start();
    until("given up", || !bench.tally.troubles().is_empty()).await;
    assert!(bench.tally.troubles()[0].1.contains("no answer within"));
    bench.store.with(|state| state.hangs = false);
    until("stored", || bench.left() == 0).await;
    drop(bench.sealed);
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_not_finished_is_not_uploaded() {
    let bench = Bench::new(1 << 20);
    fs::create_dir_all(bench.root.path().join("spool")).unwrap();
    let spool = bench.root.path().join(format!("spool/predictions-{}.spool", Uuid::from_u128(1)));
    fs::write(&spool, "").unwrap();
    bench.seal(1, 10);
    bench.seal(2, 10);
    let running = bench.start();
    until("stored", || bench.left() == 1).await;
    fs::remove_file(&spool).unwrap();
    bench.sealed.send_modify(|times| *times += 1);
    until("stored", || bench.left() == 0).await;
    drop(bench.sealed);
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_no_whole_file_is_named_and_neither_stored_nor_removed() {
    let bench = Bench::new(1 << 20);
    let half = bench.root.path().join(bench.seal(1, 100));
    fs::write(&half, b"PAR1 and then it broke").unwrap();
    let whole = bench.seal(2, 100);
    let _uploader = bench.start();
    until("stored", || bench.store.with(|state| state.objects.contains_key(&whole))).await;
    until("named", || !bench.tally.troubles().is_empty()).await;
    assert!(bench.tally.troubles()[0].1.contains("is no whole Parquet file"), "{:?}", bench.tally.troubles());
    assert!(half.exists() && bench.store.with(|state| state.objects.len()) == 1);
}
