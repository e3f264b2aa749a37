use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;

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
fn the_first_key_signs_and_all_verify() {
    let old = keys(&line("old", 'a')).unwrap();
    let both = keys(&format!("# rotated\n\n{}{}", line("new", 'B'), line("old", 'a'))).unwrap();
    let prediction = Uuid::now_v7();
    let hop = Hop { prediction, variant: "v2".into() };
    assert_eq!(both.verify(&old.sign(prediction, "v2")), Some(hop.clone()));
    assert_eq!(both.verify(&both.sign(prediction, "v2")), Some(hop));
    assert_eq!(old.verify(&both.sign(prediction, "v2")), None);
    assert!(both.sign(prediction, "v2").to_str().unwrap().starts_with("1.new."));
    assert_ne!(old.unit_key(), both.unit_key());
}

#[test]
fn one_id_with_another_secret_does_not_verify() {
    let mine = keys(&line("k", 'a')).unwrap();
    let theirs = keys(&line("k", 'b')).unwrap();
    assert_eq!(mine.verify(&theirs.sign(Uuid::now_v7(), "v1")), None);
}

#[test]
fn the_value_stays_as_it_is() {
    // Written down so that a change of the format, which would break mixed versions of sidecars, is seen.
    let keys = keys(&line("k", '1')).unwrap();
    let value = keys.sign(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001), "v 1");
    assert_eq!(value, VALUE);
}
const VALUE: &str = "1.k.01900000000070008000000000000001.v%201.5d0080e43823a06aa396c318a6ab9242";

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
    let made = Keys::load(None, Some(directory.path())).unwrap();
    let found = Keys::load(None, Some(directory.path())).unwrap();
    assert_eq!(made.unit_key(), found.unit_key());
    assert!(found.verify(&made.sign(Uuid::now_v7(), "v1")).is_some());
    let mode = std::fs::metadata(directory.path().join("keys")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file stays");
    assert_ne!(Keys::random().unwrap().unit_key(), made.unit_key());
}

#[test]
fn what_cannot_be_read_or_written_is_told_with_its_remedy() {
    let told = Keys::in_state(Path::new("/no/such/directory")).unwrap_err().to_string();
    assert!(told.contains("/no/such/directory/keys") && told.contains("`state:`"), "{told}");
    let told = Keys::from_file(Path::new("/no/such/file")).unwrap_err().to_string();
    assert!(told.contains("/no/such/file") && told.contains("`keys:`"), "{told}");
    let told = Keys::from_file(Path::new("/dev/zero")).unwrap_err().to_string();
    assert!(told.contains("64 KiB"), "{told}");
}

proptest! {
    #[test]
    fn any_variant_name_comes_back(name in "\\PC{0,14}", prediction: u128) {
        let keys = keys(&line("sixteen-letters-", 'a')).unwrap();
        let prediction = Uuid::from_u128(prediction);
        let value = keys.sign(prediction, &name);
        prop_assert_eq!(keys.verify(&value), Some(Hop { prediction, variant: name.into() }));
    }

    #[test]
    fn names_up_to_the_bound_fit(name in "[^a-z]{1,14}") {
        prop_assume!(name.len() <= MAX_VARIANT);
        let keys = keys(&line("sixteen-letters-", 'a')).unwrap();
        prop_assert!(keys.verify(&keys.sign(Uuid::max(), &name)).is_some());
    }

    #[test]
    fn a_flipped_bit_never_verifies(at: prop::sample::Index, bit in 0..8_u32, name in "[a-z0-9. ]{1,20}") {
        let keys = keys(&line("k", 'a')).unwrap();
        let mut bytes = keys.sign(Uuid::now_v7(), &name).as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        if let Ok(value) = HeaderValue::from_bytes(&bytes) {
            prop_assert_eq!(keys.verify(&value), None);
        }
    }

    #[test]
    fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), text in "1\\.k\\.[0-9a-f%é.]{0,90}") {
        let keys = keys(&line("k", 'a')).unwrap();
        for bytes in [bytes, text.into_bytes()] {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                prop_assert_eq!(keys.verify(&value), None);
            }
        }
    }

    #[test]
    fn unescaping_any_text_does_not_panic(text in "[%0-9a-gé]{0,12}") {
        if let Some(name) = unescape(&text) {
            prop_assert!(name.len() <= text.len());
        }
    }
}
