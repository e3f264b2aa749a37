use proptest::prelude::*;

use super::*;

fn tokens(chunks: &[&[u8]]) -> Result<Vec<String>, ScanError> {
    let mut walker = Walker::default();
    let mut seen: Vec<String> = Vec::new();
    for chunk in chunks {
        let mut rest = *chunk;
        while let Some(token) = walker.next(&mut rest)? {
            match (token, seen.last_mut()) {
                // Two parts of one field are as good as one.
                (Token::Bytes(part), Some(last)) if last.starts_with("bytes") => {
                    last.push_str(&part.escape_ascii().to_string());
                }
                (Token::Bytes(part), _) => seen.push(format!("bytes {}", part.escape_ascii())),
                (token, _) => seen.push(format!("{token:?}")),
            }
        }
    }
    if walker.is_between() { Ok(seen) } else { Err(ScanError::CutOff) }
}

#[test]
fn every_wire_type_is_read() {
    let bytes = b"\x08\x96\x01\x12\x02hi\x19\x01\0\0\0\0\0\0\x80\x25\x02\0\0\x80\x2a\0";
    let want = [
        "Scalar { field: 1, wire: 0, value: 150 }",
        "Open { field: 2, length: 2 }",
        "bytes hi",
        "Close",
        "Scalar { field: 3, wire: 1, value: 9223372036854775809 }",
        "Scalar { field: 4, wire: 5, value: 2147483650 }",
        "Open { field: 5, length: 0 }",
        "Close",
    ];
    assert_eq!(tokens(&[bytes]).unwrap(), want);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(tokens(&single).unwrap(), want);
}

#[test]
fn what_is_no_field_is_refused() {
    assert_eq!(tokens(&[b"\x00"]), Err(ScanError::Tag(0)));
    assert_eq!(tokens(&[b"\xff\xff\xff\xff\x1f"]), Err(ScanError::Tag(0x1_ffff_ffff)));
    assert_eq!(tokens(&[b"\x0b"]), Err(ScanError::WireType { field: 1, wire: 3 }));
    assert_eq!(tokens(&[b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"]), Err(ScanError::Varint));
    assert!(tokens(&[b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"]).is_ok());
    for cut in [&b"\x08"[..], b"\x0a", b"\x0a\x05abc", b"\x0d\0\0"] {
        assert_eq!(tokens(&[cut]), Err(ScanError::CutOff), "{cut:?}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(field in 1..1_000_u32, bytes in proptest::collection::vec(any::<u8>(), 1..300)) {
        let mut out = Vec::new();
        put(&mut out, field, &bytes);
        let want = vec![
            format!("Open {{ field: {field}, length: {} }}", bytes.len()),
            format!("bytes {}", bytes.escape_ascii()),
            "Close".to_owned(),
        ];
        prop_assert_eq!(tokens(&[&out]), Ok(want));
    }

    #[test]
    fn any_bytes_give_the_same_tokens_however_they_are_cut(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(tokens(&[&bytes]), tokens(&single));
    }
}
