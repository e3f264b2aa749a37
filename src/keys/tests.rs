use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn keys(text: &str) -> Result<Keys, KeysError> {
    Keys::parse(text, Path::new("/etc/keys"))
}

fn line(id: &str, digit: char) -> String {
    format!("{id} {}\n", String::from(digit).repeat(64))
}

fn error(text: &str) -> String {
    keys(text).unwrap_err().to_string()
}

#[test]
fn bad_files_are_told_by_line_and_never_repeat_a_secret() {
    assert!(error("").contains("/etc/keys: holds no key"));
    let doubled = error(&format!("{}# x\n{}", line("a", '1'), line("a", '2')));
    assert!(doubled.starts_with("/etc/keys:3: this id was given to a key above"), "{doubled}");
    for (text, what) in [
        ("5ecre7".to_owned(), "no blank"),
        ("a 5ecre7".to_owned(), "64 hexadecimal digits"),
        (format!("a.b {}", "5ecre7".repeat(8)), "the id is not"),
        (line("a", '0'), "all zeros"),
    ] {
        let told = error(&text);
        assert!(told.starts_with("/etc/keys:1: ") && told.contains(what), "{told}");
        assert!(!told.contains("5ecre7"), "{told}");
    }
}

#[test]
fn secrets_are_not_debugged() {
    let keys = keys(&line("k1", 'c')).unwrap();
    assert_eq!(format!("{keys:?}"), r#"Keys { ids: ["k1"], .. }"#);
}

#[test]
fn a_state_directory_keeps_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("not/there");
    let made = Keys::load(None, Some(&state)).unwrap();
    let found = Keys::load(None, Some(&state)).unwrap();
    assert_eq!(made.unit_key(), found.unit_key());
    assert_eq!((found.first().id(), found.first().mark()), (made.first().id(), made.first().mark()));
    assert_eq!(found.first().hop_mac(b"x"), made.first().hop_mac(b"x"));
    let mode = std::fs::metadata(state.join("keys")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(&state).unwrap().count(), 1, "no temporary file stays");
    assert_ne!(Keys::random().unwrap().unit_key(), made.unit_key());
}

#[test]
fn what_cannot_be_read_or_written_is_told_with_its_remedy() {
    let told = Keys::in_state(Path::new("/dev/null/state")).unwrap_err().to_string();
    assert!(told.contains("/dev/null/state/keys") && told.contains("make it readable"), "{told}");
    let told = Keys::from_file(Path::new("/no/such/file")).unwrap_err().to_string();
    assert!(told.contains("/no/such/file") && told.contains("`keys:`"), "{told}");
    let told = Keys::from_file(Path::new("/dev/zero")).unwrap_err().to_string();
    assert!(told.contains("64 KiB"), "{told}");
}

#[test]
fn a_state_directory_that_cannot_be_used_at_the_start_gets_the_key_later() {
    let directory = tempfile::tempdir().unwrap();
    let (state, file) = (directory.path().join("state"), directory.path().join("state/keys"));
    std::fs::write(&state, "in the way").unwrap();
    let mine = Keys::load(None, Some(&state)).unwrap();
    let told = mine.keep(&state).unwrap_err().to_string();
    assert!(told.contains("state/keys"), "{told}");
    std::fs::remove_file(&state).unwrap();
    mine.keep(&state).unwrap();
    mine.keep(&state).unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 2, "it stands there once");
    let next = Keys::load(None, Some(&state)).unwrap();
    assert_eq!((next.first().id(), next.unit_key()), (mine.first().id(), mine.unit_key()));
}

#[test]
fn keys_that_are_found_later_verify_and_sign_after_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("keys"),
        format!("# mine\n{}{}", line("new", 'b'), line("old", 'a')),
    )
    .unwrap();
    let mut mine = Keys::random().unwrap();
    while mine.keep(directory.path()).is_err() {
        mine = Keys::random().unwrap();
    }
    let id = mine.first().id().to_owned();
    assert_eq!(mine.named("old").unwrap().id(), "old");
    let known = keys(&format!("{}{}", line("new", 'b'), line("old", 'a'))).unwrap();
    assert_eq!(mine.marked(known.first().mark()).unwrap().id(), "new");
    let next = Keys::load(None, Some(directory.path())).unwrap();
    assert_eq!(next.first().id(), "new");
    assert_eq!(next.named(&id).unwrap().prediction_mac(b"x"), mine.first().prediction_mac(b"x"));
}

#[test]
fn a_key_that_ids_cannot_tell_from_one_that_is_there_is_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let one = |number: u32| format!("k{number} {number:064x}\n");
    let mine = keys(&one(1)).unwrap();
    let mark = |number| keys(&one(number)).unwrap().first().mark();
    let twin = (2..10_000).find(|number| mark(*number) == mark(1)).unwrap();
    std::fs::write(directory.path().join("keys"), one(twin)).unwrap();
    let told = mine.keep(directory.path()).unwrap_err().to_string();
    assert!(told.contains("restart"), "{told}");
    assert_eq!(std::fs::read_to_string(directory.path().join("keys")).unwrap(), one(twin));
}

#[test]
fn a_key_is_found_by_its_id_and_by_its_mark() {
    let both = keys(&format!("{}{}", line("new", 'b'), line("old", 'a'))).unwrap();
    assert_eq!(both.first().id(), "new");
    for id in ["new", "old"] {
        let key = both.named(id).unwrap();
        assert_eq!(both.marked(key.mark()).unwrap().id(), id);
    }
    assert!(both.named("other").is_none());
    let known = [both.first().mark(), both.named("old").unwrap().mark()];
    assert!((0..=255).filter(|mark| !known.contains(mark)).all(|mark| both.marked(mark).is_none()));
}

#[test]
fn two_keys_of_one_mark_are_refused() {
    let one = |number: u32| format!("k{number} {number:064x}\n");
    let mark = |number| keys(&one(number)).unwrap().first().mark();
    let twin = (2..10_000).find(|number| mark(*number) == mark(1)).unwrap();
    let told = error(&format!("{}{}", one(1), one(twin)));
    assert!(told.starts_with("/etc/keys:2: ") && told.contains("make another key"), "{told}");
}

#[test]
fn each_use_of_a_key_has_a_mac_of_its_own() {
    let keys = keys(&line("k", '1')).unwrap();
    assert_ne!(keys.first().hop_mac(b"x"), keys.first().prediction_mac(b"x"));
    assert!(same(&[7; MAC], &[7; MAC]));
    let other = |at: usize| std::array::from_fn(|index| if index == at { 6 } else { 7 });
    assert!((0..MAC).all(|at| !same(&[7; MAC], &other(at))));
}
