//! Messages that a peer compressed: `grpc-encoding` names how.
//!
//! A few bytes can unfold to gigabytes, so the output is bounded and nothing is allocated ahead of it.

use std::io::{ErrorKind, Read};

use flate2::read::{MultiGzDecoder, ZlibDecoder};
use http::HeaderName;

/// The header that names how.
pub static HEADER: HeaderName = HeaderName::from_static("grpc-encoding");

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
        _ => Err(unknown(encoding)),
    }
}

/// Inflates the front of a message, at most `limit` bytes of it, for as long as `take` says that it wants more. The
/// message may be cut off anywhere. Returns whether all of it was taken.
///
/// # Errors
/// See [`InflateError`].
pub fn inflate_front(
    encoding: &[u8],
    message: &[u8],
    limit: usize,
    take: impl FnMut(&[u8]) -> bool,
) -> Result<bool, InflateError> {
    match encoding {
        b"gzip" => read_front(MultiGzDecoder::new(message), limit, take),
        b"deflate" => read_front(ZlibDecoder::new(message), limit, take),
        _ => Err(unknown(encoding)),
    }
}

fn unknown(encoding: &[u8]) -> InflateError {
    let name = &encoding[..encoding.len().min(32)];
    InflateError::Unknown(name.escape_ascii().to_string().into())
}

fn read_front(
    mut decoder: impl Read,
    limit: usize,
    mut take: impl FnMut(&[u8]) -> bool,
) -> Result<bool, InflateError> {
    let mut buffer = [0; 8 * 1024];
    let mut total = 0;
    loop {
        match decoder.read(&mut buffer) {
            Ok(0) => return Ok(true),
            Ok(n) => {
                total += n;
                if total > limit {
                    return Err(InflateError::TooLarge { limit });
                }
                if !take(&buffer[..n]) {
                    return Ok(false);
                }
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(InflateError::Corrupt(error.to_string().into())),
        }
    }
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
    fn the_front_of_a_message_that_is_cut_off_comes_back() {
        let message: Vec<u8> =
            (0..60_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
        for encoding in ["gzip", "deflate"] {
            let packed = deflated(encoding, &message);
            for (part, wanted) in
                [(packed.len(), usize::MAX), (packed.len() / 2, usize::MAX), (packed.len(), 10)]
            {
                let mut front = Vec::new();
                let all = inflate_front(encoding.as_bytes(), &packed[..part], message.len(), |plain| {
                    front.extend_from_slice(plain);
                    front.len() < wanted
                });
                assert_eq!(all, Ok(part == packed.len() && wanted == usize::MAX));
                assert!(message.starts_with(&front) && front.len() >= 10, "{encoding} {part} {wanted}");
            }
            let too_large = inflate_front(encoding.as_bytes(), &packed, 20_000, |_| true);
            assert_eq!(too_large, Err(InflateError::TooLarge { limit: 20_000 }));
        }
        assert!(inflate_front(b"gzip", b"no gzip at all", 100, |_| true).is_err());
        assert!(inflate_front(b"br", b"", 100, |_| true).is_err());
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
