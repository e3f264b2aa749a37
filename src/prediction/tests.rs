use std::path::Path;

use proptest::prelude::*;

use super::*;

const NOW: Duration = Duration::from_millis(0x0190_0000_0000);
const DAY: Duration = Duration::from_secs(86_400);

fn keys(lines: &[(&str, char)]) -> Keys {
    let line = |(id, digit): &(&str, char)| format!("{id} {}\n", String::from(*digit).repeat(64));
    Keys::parse(&lines.iter().map(line).collect::<String>(), Path::new("keys")).unwrap()
}

fn prediction(arms: usize) -> Prediction {
    let mut odds = Odds::new(arms);
    for arm in 0..arms {
        odds.set(arm, 1.0 / (arm + 2) as f64);
    }
    Prediction {
        uuid: Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001),
        rollout: rollout("fraud"),
        revision: 0x0102_0304,
        epoch: 7,
        assigned: 1,
        served: 0,
        reason: Reason::Split,
        unit: Some(0xfeed),
        bucket: 9,
        odds,
        slots: None,
    }
}

fn text(sealed: &Sealed) -> String {
    String::from_utf8(sealed.as_bytes().to_vec()).unwrap()
}

fn open(text: &str, keys: &Keys) -> Result<Prediction, Refused> {
    Prediction::open(text, keys, NOW, DAY)
}

#[test]
fn the_text_stays_as_it_is() {
    // Written down so that a change of the layout, which would make every id that is about worthless, is seen.
    let keys = keys(&[("k", '1')]);
    assert_eq!(text(&prediction(2).seal(&keys)), TEXT);
    assert_eq!(rollout("fraud"), 0x3945_95bd_6aab_240d);
}
const TEXT: &str =
    "AZkBkAAAAABwAIAAAAAAAAABOUWVvWqrJA0BAgMEAAAABwEAAQAAAAAAAP7tCYAAAABVVVVV3fZDMtazU-oulV0qAGu0YA";

#[test]
fn ids_are_as_long_as_promised() {
    let keys = keys(&[("k", '1')]);
    assert_eq!(prediction(0).seal(&keys).as_bytes().len(), 83, "62 bytes");
    assert_eq!(prediction(ARMS).seal(&keys).as_bytes().len(), 126, "94 bytes");
    assert_eq!(MAX_TEXT, 128);
}

#[test]
fn the_first_key_signs_and_all_open() {
    let (old, both) = (keys(&[("old", 'a')]), keys(&[("new", 'b'), ("old", 'a')]));
    let (before, after) = (text(&prediction(2).seal(&old)), text(&prediction(2).seal(&both)));
    assert_eq!(open(&before, &both), Ok(prediction(2)));
    assert_eq!(open(&after, &both), Ok(prediction(2)));
    assert_eq!(open(&after, &old), Err(Refused::Foreign));
}

#[test]
fn a_key_of_the_same_mark_is_still_another_key() {
    let one = |number: u32| Keys::parse(&format!("k {number:064x}"), Path::new("keys")).unwrap();
    let twin = (2..10_000).find(|number| one(*number).first().mark() == one(1).first().mark()).unwrap();
    assert_eq!(open(&text(&prediction(2).seal(&one(twin))), &one(1)), Err(Refused::Altered));
}

#[test]
fn what_is_no_id_is_told_from_what_is_no_longer_one() {
    let keys = keys(&[("k", '1')]);
    let good = text(&prediction(2).seal(&keys));
    for (bad, what) in [
        ("", "empty"),
        ("0192f0c1-7d4e-7cc3-98c5-2b1d3f4a5e6f", "cut off"),
        (&good[..40], "cut off"),
        (&good.repeat(2), "longer"),
        (&format!("{good}="), "base64url"),
        (&format!("{}é", &good[2..]), "base64url"),
        (&format!(" {}", &good[1..]), "base64url"),
    ] {
        let told = open(bad, &keys).unwrap_err();
        assert!(matches!(told, Refused::Malformed(_)) && told.to_string().contains(what), "{bad:?}: {told}");
    }
    let mut newer = URL_SAFE_NO_PAD.decode(&good).unwrap();
    newer[0] = 2;
    assert_eq!(open(&URL_SAFE_NO_PAD.encode(newer), &keys), Err(Refused::Version(2)));
}

#[test]
fn an_id_expires_and_none_comes_from_the_future() {
    let keys = keys(&[("k", '1')]);
    let id = text(&prediction(0).seal(&keys));
    let at = |now| Prediction::open(&id, &keys, now, DAY);
    assert_eq!(prediction(0).made(), NOW);
    assert!(at(NOW + DAY).is_ok());
    let age = DAY + Duration::from_millis(1);
    assert_eq!(at(NOW + age), Err(Refused::Expired { age, longest: DAY }));
    assert!(at(NOW - AHEAD).is_ok());
    let ahead = AHEAD + Duration::from_millis(1);
    assert_eq!(at(NOW - ahead), Err(Refused::Ahead(ahead)));
}

#[test]
fn a_units_predictions_share_a_bucket_and_others_spread() {
    let uuid = |number: u128| Uuid::from_u128(number << 80 | 5);
    assert_eq!(bucket(Some(5), uuid(1)), bucket(Some(5), uuid(2)));
    let mut units = [0; 256];
    let mut alone = [0; 256];
    for number in 0..25_600 {
        units[usize::from(bucket(Some(number), uuid(1)))] += 1;
        alone[usize::from(bucket(None, uuid(u128::from(number))))] += 1;
    }
    // 100 each on average, and a deviation of 10.
    assert!(units.iter().chain(&alone).all(|count| (50..=150).contains(count)), "{units:?} {alone:?}");
}

proptest! {
    #[test]
    fn what_is_sealed_is_opened(
        low: [u64; 3], revision: u32, epoch: u32, arms in prop::array::uniform2(any::<u8>()), reason: prop::sample::Index,
        bucket: u8, unit: Option<std::num::NonZero<u64>>, odds in prop::collection::vec(0.0..=1.0, 0..=ARMS),
        rows in 0..9_usize, filled in prop::collection::vec(0..8_u8, 64),
    ) {
        let reason = *reason.get(&Reason::ALL);
        let merged = reason == Reason::Interleaved;
        let odds = if merged { Vec::new() } else { odds };
        let mut slots = Slots::new(rows, 7).filter(|_| merged);
        if let Some(slots) = &mut slots {
            (0..slots.count()).for_each(|slot| slots.set(slot, filled[slot]));
        }
        let mut all = Odds::new(odds.len());
        odds.iter().enumerate().for_each(|(arm, odds)| all.set(arm, *odds));
        let prediction = Prediction {
            uuid: Uuid::from_u128((NOW.as_millis() << 80) | u128::from(low[0])),
            rollout: low[1],
            revision,
            epoch,
            assigned: arms[0],
            served: arms[1],
            reason,
            unit: unit.map(std::num::NonZero::get),
            bucket,
            odds: all,
            slots,
        };
        let keys = keys(&[("k", '1')]);
        prop_assert_eq!(open(&text(&prediction.seal(&keys)), &keys), Ok(prediction));
        for (arm, odds) in odds.iter().enumerate() {
            prop_assert!((all.get(arm).unwrap() - odds).abs() < 1e-9);
        }
    }

    #[test]
    fn no_changed_character_is_taken(arms in 0..=ARMS, at: prop::sample::Index, with in "[A-Za-z0-9_-]") {
        let keys = keys(&[("k", '1')]);
        let mut text = text(&prediction(arms).seal(&keys));
        let at = at.index(text.len());
        prop_assume!(text[at..=at] != with);
        text.replace_range(at..=at, &with);
        prop_assert!(open(&text, &keys).is_err());
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,140}", plain in "[A-Za-z0-9_-]{60,130}") {
        let keys = keys(&[("k", '1')]);
        prop_assert!(open(&text, &keys).is_err() && open(&plain, &keys).is_err());
    }
}

#[test]
fn the_longest_lists_fit_an_id_and_cut_ones_are_none() {
    let keys = keys(&[("k", '1')]);
    let slots = Slots::new(1, slots::SLOTS);
    let longest = Prediction { reason: Reason::Interleaved, odds: Odds::NONE, slots, ..prediction(0) };
    let text = text(&longest.seal(&keys));
    assert!(text.len() <= 128, "{}", text.len());
    assert_eq!(open(&text, &keys), Ok(longest));
}

#[test]
fn every_flipped_bit_is_seen() {
    let keys = keys(&[("k", '1')]);
    let good = URL_SAFE_NO_PAD.decode(prediction(2).seal(&keys).as_bytes()).unwrap();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let told = open(&URL_SAFE_NO_PAD.encode(bad), &keys).unwrap_err();
        let expected = match bit / 8 {
            0 => matches!(told, Refused::Version(_)),
            1 => told == Refused::Foreign,
            _ => told == Refused::Altered,
        };
        assert!(expected, "bit {bit}: {told:?}");
    }
}

#[test]
fn of_many_forgeries_none_is_believed() {
    const TIMES: u64 = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
    let keys = keys(&[("k", '1'), ("old", '2')]);
    let sealed = |arms| URL_SAFE_NO_PAD.decode(prediction(arms).seal(&keys).as_bytes()).unwrap();
    let (good, other) = (sealed(2), sealed(1));
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = |below: usize| {
        // Xorshift: any bits will do, the same ones each time.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for turn in 0..TIMES {
        let mut bad = good.clone();
        match turn % 5 {
            // Another signature; some flipped bits; cut off; longer; another id's head before this one's end.
            0 => {
                let end = bad.len() - 16;
                bad[end..].iter_mut().for_each(|byte| *byte = draw(256) as u8);
            }
            1 => (0..=draw(8)).for_each(|_| {
                let bit = draw(good.len() * 8);
                bad[bit / 8] ^= 1 << (bit % 8);
            }),
            2 => bad.truncate(draw(good.len())),
            3 => bad.extend((0..=draw(20)).map(|_| 0)),
            _ => {
                let cut = draw(other.len().min(good.len()));
                bad[..cut].copy_from_slice(&other[..cut]);
            }
        }
        if bad != good && bad != other {
            assert!(open(&URL_SAFE_NO_PAD.encode(&bad), &keys).is_err(), "turn {turn}: {bad:?}");
        }
    }
}

#[test]
#[ignore = "a measurement: cargo test --release --lib prediction -- --ignored --nocapture"]
fn an_id_costs_little() {
    const TIMES: u32 = 200_000;
    let keys = keys(&[("k", '1')]);
    for arms in [0, 2, ARMS] {
        let prediction = prediction(arms);
        let id = text(&prediction.seal(&keys));
        let begin = std::time::Instant::now();
        for _ in 0..TIMES {
            let sealed = std::hint::black_box(&prediction).seal(&keys);
            std::hint::black_box(http::HeaderValue::from_bytes(sealed.as_bytes()).unwrap());
        }
        let (sealing, begin) = (begin.elapsed() / TIMES, std::time::Instant::now());
        for _ in 0..TIMES {
            std::hint::black_box(open(std::hint::black_box(&id), &keys).unwrap());
        }
        eprintln!("{arms} arms: {sealing:?} to seal, {:?} to open", begin.elapsed() / TIMES);
    }
}
