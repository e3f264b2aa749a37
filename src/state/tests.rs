use std::collections::HashMap;
use std::time::Duration;

use super::*;

const LONG: Duration = Duration::from_secs(20);

fn progress(value: u8) -> Batch {
    Batch { progress: HashMap::from([("m".to_owned(), Some(vec![value]))]), ..Batch::default() }
}

fn kept(state: &State) -> Option<Vec<u8>> {
    let left = state.left().borrow().clone();
    left.and_then(|left| left.progress.get("m").cloned())
}

#[tokio::test]
async fn what_is_committed_is_on_the_disk_and_what_is_deferred_comes_along() {
    let directory = tempfile::tempdir().unwrap();
    let state = State::start(directory.path()).unwrap();
    let mark = Mark { expires: 5, key: [1; 16] };
    state.defer(Batch { marks: vec![(mark, vec![9])], ..Batch::default() });
    assert!(state.commit(progress(1), LONG).await);
    assert_eq!(state.find(mark).unwrap(), Some(vec![9]));
    state.defer(progress(2));
    state.close(LONG).await;
    let state = State::start(directory.path()).unwrap();
    assert_eq!(kept(&state), Some(vec![2]), "the end writes what waits");
}

#[tokio::test]
async fn a_directory_that_fails_is_tried_again_and_nothing_is_lost() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("state");
    std::fs::write(&directory, "in the way").unwrap();
    let state = State::start(&directory).unwrap();
    assert!(state.left().borrow().is_none() && state.trouble().is_some() && state.errors() == 1);
    assert!(!state.commit(progress(3), Duration::from_millis(10)).await);
    std::fs::remove_file(&directory).unwrap();
    let mut left = state.left();
    tokio::time::timeout(LONG, left.wait_for(Option::is_some)).await.unwrap().unwrap();
    assert!(state.commit(Batch::default(), LONG).await);
    assert_eq!(state.trouble(), None);
    state.close(LONG).await;
    assert_eq!(kept(&State::start(&directory).unwrap()), Some(vec![3]));
}

#[tokio::test]
async fn without_a_directory_nothing_is_kept_and_nothing_is_waited_for() {
    let state = State::memory();
    assert!(!state.is_kept() && state.left().borrow().is_some());
    assert!(!state.commit(progress(1), LONG).await);
    assert_eq!(state.find(Mark { expires: 0, key: [0; 16] }).unwrap(), None);
    state.close(LONG).await;
}

#[tokio::test]
async fn a_file_that_is_deleted_while_it_is_open_is_made_anew_with_all_that_stood_in_it() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("state");
    let state = State::start(&directory).unwrap();
    let mark = Mark { expires: 5, key: [1; 16] };
    let batch = Batch { marks: vec![(mark, vec![9])], audit: vec![(1, vec![1])], ..progress(1) };
    assert!(state.commit(batch, LONG).await);
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(state.commit(Batch { audit: vec![(2, vec![2])], ..Batch::default() }, LONG).await);
    assert_eq!((state.errors(), state.trouble()), (1, None), "it was said, and is over");
    assert_eq!(state.find(mark).unwrap(), Some(vec![9]));
    state.close(LONG).await;
    let state = State::start(&directory).unwrap();
    assert_eq!(kept(&state), Some(vec![1]));
    let left = state.left().borrow().clone().unwrap();
    assert_eq!(left.audit, [(1, vec![1]), (2, vec![2])]);
}

#[tokio::test]
async fn an_errand_is_tried_until_it_is_done_and_again_in_a_new_directory() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("state");
    let asked = Arc::new(AtomicU64::new(0));
    let errand = {
        let asked = Arc::clone(&asked);
        move |_: &Path| match asked.fetch_add(1, Ordering::Relaxed) {
            0 => Err("not yet".to_owned()),
            _ => Ok(()),
        }
    };
    let state = State::start_with(&directory, Box::new(errand)).unwrap();
    assert_eq!((state.undone().as_deref(), state.trouble(), state.errors()), (Some("not yet"), None, 1));
    assert!(state.commit(progress(1), LONG).await, "it holds up nothing else");
    let until = |times: u64| {
        let asked = Arc::clone(&asked);
        async move {
            let start = Instant::now();
            while asked.load(Ordering::Relaxed) < times {
                assert!(start.elapsed() < LONG);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    until(2).await;
    std::fs::remove_dir_all(&directory).unwrap();
    until(3).await;
    state.close(LONG).await;
    assert_eq!((state.undone(), asked.load(Ordering::Relaxed)), (None, 3));
}
