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
