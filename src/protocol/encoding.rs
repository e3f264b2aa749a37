//! Messages that a peer compressed: `grpc-encoding` names how.
//!
//! A few bytes can unfold to gigabytes, so the output is bounded and nothing is allocated ahead of it.

use std::io::Read;

use flate2::read::{MultiGzDecoder, ZlibDecoder};

/// Why a message cannot be inflated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// No such encoding, or one that is not read here. A message marked as compressed with `identity` is one too.
    #[error("grpc-encoding `{0}` is not one of gzip, deflate")]
    Unknown(
        /// Its first 32 bytes, escaped.
        Box<str>,
    ),
    /// It is more than allowed once inflated.
    #[error("a message inflates to more than {limit} bytes")]
    TooLarge {
        /// Bytes it may have.
        limit: usize,
    },
    /// The bytes are not of that encoding, or end too early.
    #[error("a compressed message cannot be read: {0}")]
    Corrupt(Box<str>),
}

/// Inflates a whole message to at most `limit` bytes; `encoding` is the value of `grpc-encoding`.
///
/// # Errors
/// See [`InflateError`].
pub fn inflate(encoding: &[u8], message: &[u8], limit: usize) -> Result<Vec<u8>, InflateError> {
    match encoding {
        b"gzip" => read(MultiGzDecoder::new(message), limit),
        b"deflate" => read(ZlibDecoder::new(message), limit),
        _ => {
            let name = &encoding[..encoding.len().min(32)];
            Err(InflateError::Unknown(name.escape_ascii().to_string().into()))
        }
    }
}

/// Inflates the beginning of a message of which only `part` has come yet: as much as that gives, at most `limit`
/// bytes. What cannot be inflated gives nothing.
pub fn inflate_head(encoding: &[u8], part: &[u8], limit: usize) -> Vec<u8> {
    match encoding {
        b"gzip" => read_some(MultiGzDecoder::new(part), limit),
        b"deflate" => read_some(ZlibDecoder::new(part), limit),
        _ => Vec::new(),
    }
}

fn read_some(mut decoder: impl Read, limit: usize) -> Vec<u8> {
    let mut out = vec![0; limit];
    let mut filled = 0;
    while filled < limit {
        match decoder.read(&mut out[filled..]) {
            // The end of the part is an error like any other: what came before it counts.
            Ok(0) | Err(_) => break,
            Ok(n) => filled += n,
        }
    }
    out.truncate(filled);
    out
}

fn read(decoder: impl Read, limit: usize) -> Result<Vec<u8>, InflateError> {
    let mut out = Vec::new();
    let most = (limit as u64).saturating_add(1);
    decoder
        .take(most)
        .read_to_end(&mut out)
        .map_err(|error| InflateError::Corrupt(error.to_string().into()))?;
    if out.len() > limit { Err(InflateError::TooLarge { limit }) } else { Ok(out) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    use super::*;

    fn deflated(encoding: &str, message: &[u8]) -> Vec<u8> {
        let level = Compression::best();
        if encoding == "gzip" {
            let mut encoder = GzEncoder::new(Vec::new(), level);
            encoder.write_all(message).unwrap();
            encoder.finish().unwrap()
        } else {
            let mut encoder = ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(message).unwrap();
            encoder.finish().unwrap()
        }
    }

    #[test]
    fn both_encodings_come_back() {
        for encoding in ["gzip", "deflate"] {
            for message in [&b""[..], b"a", &[7; 10_000]] {
                let packed = deflated(encoding, message);
                assert_eq!(inflate(encoding.as_bytes(), &packed, message.len()).as_deref(), Ok(message));
            }
        }
    }

    #[test]
    fn the_head_of_a_message_is_read_before_its_rest_has_come() {
        let message: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
        for encoding in ["gzip", "deflate"] {
            let packed = deflated(encoding, &message);
            let head = inflate_head(encoding.as_bytes(), &packed[..packed.len() / 2], 4096);
            assert_eq!(head, message[..4096]);
            assert_eq!(inflate_head(encoding.as_bytes(), &deflated(encoding, b"all"), 4096), b"all");
        }
        assert!(inflate_head(b"gzip", b"nonsense", 10).is_empty());
        assert!(inflate_head(b"snappy", b"", 10).is_empty());
    }

    #[test]
    fn a_bomb_ends_at_the_limit() {
        let bomb = deflated("gzip", &vec![0; 50_000_000]);
        assert!(bomb.len() < 60_000, "{}", bomb.len());
        assert_eq!(inflate(b"gzip", &bomb, 1_000_000), Err(InflateError::TooLarge { limit: 1_000_000 }));
        assert_eq!(inflate(b"gzip", &bomb, 49_999_999), Err(InflateError::TooLarge { limit: 49_999_999 }));
    }

    #[test]
    fn other_encodings_and_broken_bytes_are_told_apart() {
        for encoding in ["identity", "snappy", "", "GZIP"] {
            assert_eq!(inflate(encoding.as_bytes(), b"", 10), Err(InflateError::Unknown(encoding.into())));
        }
        let whole = deflated("deflate", b"whole");
        for broken in [&whole[..whole.len() - 3], b"nonsense", b""] {
            assert!(matches!(inflate(b"deflate", broken, 10), Err(InflateError::Corrupt(_))));
        }
        assert!(matches!(inflate(b"gzip", &whole, 10), Err(InflateError::Corrupt(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), gzip: bool) {
            let encoding: &[u8] = if gzip { b"gzip" } else { b"deflate" };
            if let Ok(out) = inflate(encoding, &bytes, 100) {
                prop_assert!(out.len() <= 100);
            }
        }
    }
}
