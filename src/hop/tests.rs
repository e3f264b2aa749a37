use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::keys::KeysError;

fn keys(text: &str) -> Result<Keys, KeysError> {
    Keys::parse(text, Path::new("/etc/keys"))
}

fn line(id: &str, digit: char) -> String {
    format!("{id} {}\n", String::from(digit).repeat(64))
}

#[test]
fn the_first_key_signs_and_all_verify() {
    let old = keys(&line("old", 'a')).unwrap();
    let both = keys(&format!("# rotated\n\n{}{}", line("new", 'B'), line("old", 'a'))).unwrap();
    let prediction = Uuid::now_v7();
    let hop = Hop { prediction, variant: "v2".into() };
    assert_eq!(verify(&both, &sign(&old, prediction, "v2")), Some(hop.clone()));
    assert_eq!(verify(&both, &sign(&both, prediction, "v2")), Some(hop));
    assert_eq!(verify(&old, &sign(&both, prediction, "v2")), None);
    assert!(sign(&both, prediction, "v2").to_str().unwrap().starts_with("1.new."));
    assert_ne!(old.unit_key(), both.unit_key());
}

#[test]
fn one_id_with_another_secret_does_not_verify() {
    let mine = keys(&line("k", 'a')).unwrap();
    let theirs = keys(&line("k", 'b')).unwrap();
    assert_eq!(verify(&mine, &sign(&theirs, Uuid::now_v7(), "v1")), None);
}

#[test]
fn of_many_forgeries_none_is_believed() {
    const TIMES: u32 = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
    let keys = keys(&line("k", 'a')).unwrap();
    let good = sign(&keys, Uuid::from_u128(7), "v1").to_str().unwrap().to_owned();
    let (head, tag) = good.rsplit_once('.').unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for turn in 0..TIMES {
        // Xorshift: any bits will do, the same ones each time.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let random = format!("{state:016x}");
        let bad = match turn % 4 {
            0 => format!("{head}.{random}{random}"),
            1 => format!("{}.{tag}", head.replace("v1", ["v2", "v10", "V1", "v1%20"][(state % 4) as usize])),
            2 => format!("{}{tag}", &good[..(state % (good.len() - tag.len()) as u64) as usize]),
            _ => format!("1.k.{random}{random}.v1.{tag}"),
        };
        assert_eq!(verify(&keys, &HeaderValue::from_str(&bad).unwrap()), None, "{bad}");
    }
    assert!(verify(&keys, &HeaderValue::from_str(&good).unwrap()).is_some());
}

#[test]
fn the_value_stays_as_it_is() {
    // Written down so that a change of the format, which would break mixed versions of sidecars, is seen.
    let keys = keys(&line("k", '1')).unwrap();
    let value = sign(&keys, Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001), "v 1");
    assert_eq!(value, VALUE);
}
const VALUE: &str = "1.k.01900000000070008000000000000001.v%201.5d0080e43823a06aa396c318a6ab9242";

proptest! {
    #[test]
    fn any_variant_name_comes_back(name in "\\PC{0,14}", prediction: u128) {
        let keys = keys(&line("sixteen-letters-", 'a')).unwrap();
        let prediction = Uuid::from_u128(prediction);
        let value = sign(&keys, prediction, &name);
        prop_assert_eq!(verify(&keys, &value), Some(Hop { prediction, variant: name.into() }));
    }

    #[test]
    fn names_up_to_the_bound_fit(name in "[^a-z]{1,14}") {
        prop_assume!(name.len() <= MAX_VARIANT);
        let keys = keys(&line("sixteen-letters-", 'a')).unwrap();
        prop_assert!(verify(&keys, &sign(&keys, Uuid::max(), &name)).is_some());
    }

    #[test]
    fn a_flipped_bit_never_verifies(at: prop::sample::Index, bit in 0..8_u32, name in "[a-z0-9. ]{1,20}") {
        let keys = keys(&line("k", 'a')).unwrap();
        let mut bytes = sign(&keys, Uuid::now_v7(), &name).as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        if let Ok(value) = HeaderValue::from_bytes(&bytes) {
            prop_assert_eq!(verify(&keys, &value), None);
        }
    }

    #[test]
    fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), text in "1\\.k\\.[0-9a-f%é.]{0,90}") {
        let keys = keys(&line("k", 'a')).unwrap();
        for bytes in [bytes, text.into_bytes()] {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                prop_assert_eq!(verify(&keys, &value), None);
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
