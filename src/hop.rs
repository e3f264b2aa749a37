//! `parhelion-hop`: how one sidecar tells the next that a call is assigned already.
//!
//! The value is `1.KEY.PREDICTION.VARIANT.MAC`: the id of the key that signed it, the prediction's UUID in 32
//! hexadecimal digits, the variant's name (bytes other than letters, digits, `-`, `_` and `.` as `%XX`), and the
//! first 16 bytes of BLAKE3, keyed, over all the text before the last dot. The MAC covers the text as it stands, so
//! no second spelling of a value verifies. All sidecars of one path need a common key, hence the file; without one
//! a key is made and kept in the state directory, or in memory.

use std::fmt;
use std::path::{Path, PathBuf};

use http::HeaderValue;
use rand::TryRng;
use uuid::Uuid;

mod file;

/// The longest value that is looked at, in bytes.
pub const MAX_VALUE: usize = 288;

/// The longest variant name, in bytes, that always fits a value: each byte may take three.
pub const MAX_VARIANT: usize = 63;

const VERSION: &str = "1";
const MAC_LENGTH: usize = 16;
/// Contexts of key derivation: never changed, never used for anything else.
const MAC_CONTEXT: &str = "parhelion 2026-11-22 hop header mac";
const UNIT_CONTEXT: &str = "parhelion 2026-11-22 unit hash";
const NAME_CONTEXT: &str = "parhelion 2026-11-22 key id";

/// The request header that one sidecar sends to another.
pub const HEADER: http::HeaderName = http::HeaderName::from_static("parhelion-hop");

/// What a verified hop says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// The prediction that the first sidecar told its caller.
    pub prediction: Uuid,
    /// The variant that the first sidecar assigned.
    pub variant: Box<str>,
}

/// Secret keys: the first signs, all verify. Never empty.
pub struct Keys {
    first: Key,
    others: Vec<Key>,
}

struct Key {
    id: Box<str>,
    secret: [u8; 32],
    mac: [u8; 32],
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file or the directory cannot be used.
    #[error("{}: {source}; {remedy}", path.display())]
    Io {
        /// What was to be read or written.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// A line that is no key. The line's text is left out, for it may be half a secret.
    #[error("{}:{line}: {what}; a line is `ID HEX64`, for instance `2026a` and the output of `openssl rand -hex 32`", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Only comments, or nothing.
    #[error("{}: holds no key; add a line `ID HEX64`, for instance `2026a` and the output of `openssl rand -hex 32`", .0.display())]
    Empty(PathBuf),
    /// The system gave no random bytes.
    #[error(
        "no random key can be made, for the system's random source fails ({0}); give a file with `keys:`"
    )]
    Random(String),
}

impl Keys {
    /// The keys of `file` if there is one, else those kept in `state`, else a random one.
    ///
    /// # Errors
    /// When a file cannot be read, holds no keys, or cannot be made.
    pub fn load(file: Option<&Path>, state: Option<&Path>) -> Result<Self, KeysError> {
        match (file, state) {
            (Some(file), _) => Self::from_file(file),
            (None, Some(state)) => Self::in_state(state),
            (None, None) => Self::random(),
        }
    }

    /// Lines `ID HEX64`; empty ones and those that begin with `#` are skipped.
    ///
    /// # Errors
    /// When it cannot be read, a line is not a key, an id comes twice, or there is no key.
    pub fn from_file(path: &Path) -> Result<Self, KeysError> {
        let remedy = "`keys:` names a file that this process may read, with a line `ID HEX64` for each key";
        let text =
            file::read(path).map_err(|source| KeysError::Io { path: path.to_owned(), source, remedy })?;
        Self::parse(&text, path)
    }

    /// The keys in `keys` below `directory`, which is made with one random key where it is not there.
    ///
    /// # Errors
    /// As [`Keys::from_file`], and when the file cannot be written.
    pub fn in_state(directory: &Path) -> Result<Self, KeysError> {
        let path = directory.join("keys");
        match file::read(&path) {
            Ok(text) => return Self::parse(&text, &path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => {
                let remedy = "make it readable for this process, or remove it and a new key is made";
                return Err(KeysError::Io { path, source, remedy });
            }
        }
        let keys = Self::random()?;
        let text = format!("# Signs parhelion-hop and hashes units.\n{}\n", keys.first.line());
        match file::write(directory, &path, &text) {
            Ok(()) => Ok(keys),
            Err(source) => {
                let remedy = "`state:` names a directory that exists and that this process may write to";
                Err(KeysError::Io { path, source, remedy })
            }
        }
    }

    /// One random key, known to this process alone.
    ///
    /// # Errors
    /// When the system's random source fails.
    pub fn random() -> Result<Self, KeysError> {
        let mut secret = [0; 32];
        let filled = rand::rngs::SysRng.try_fill_bytes(&mut secret);
        filled.map_err(|error| KeysError::Random(error.to_string()))?;
        // Two processes that made their own keys must not mean different keys by one id.
        let id = hex(&blake3::derive_key(NAME_CONTEXT, &secret)[..4]);
        Ok(Keys { first: Key::new(&id, secret), others: Vec::new() })
    }

    fn parse(text: &str, path: &Path) -> Result<Self, KeysError> {
        let mut keys: Vec<Key> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what| KeysError::Line { path: path.to_owned(), line: index + 1, what };
            let key = Key::parse(line).map_err(wrong)?;
            if keys.iter().any(|known| known.id == key.id) {
                return Err(wrong("this id was given to a key above"));
            }
            keys.push(key);
        }
        let mut keys = keys.into_iter();
        let first = keys.next().ok_or_else(|| KeysError::Empty(path.to_owned()))?;
        Ok(Keys { first, others: keys.collect() })
    }

    /// The header for a call of that prediction, given to that variant.
    ///
    /// A name over [`MAX_VARIANT`] bytes may make a value that is too long, and that no sidecar takes.
    pub fn sign(&self, prediction: Uuid, variant: &str) -> HeaderValue {
        let mut text = String::with_capacity(128);
        for part in [VERSION, ".", &self.first.id, "."] {
            text.push_str(part);
        }
        text.push_str(prediction.simple().encode_lower(&mut Uuid::encode_buffer()));
        text.push('.');
        escape(variant, &mut text);
        let mac = hex(&self.first.authenticate(&text));
        text.push('.');
        text.push_str(&mac);
        // All of it is visible ASCII, so this always holds; an empty value would verify nowhere.
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
    }

    /// What `value` says, if one of the keys signed it.
    pub fn verify(&self, value: &HeaderValue) -> Option<Hop> {
        if value.len() > MAX_VALUE {
            return None;
        }
        let (signed, mac) = value.to_str().ok()?.rsplit_once('.')?;
        let mut parts = signed.splitn(4, '.');
        if parts.next()? != VERSION {
            return None;
        }
        let id = parts.next()?;
        let key = std::iter::once(&self.first).chain(&self.others).find(|key| *key.id == *id)?;
        if !same(&key.authenticate(signed), &unhex(mac)?) {
            return None;
        }
        let prediction = Uuid::from_bytes(unhex(parts.next()?)?);
        Some(Hop { prediction, variant: unescape(parts.next()?)?.into() })
    }

    /// The key for hashing units, derived from the first key: the same in all sidecars that share it.
    pub fn unit_key(&self) -> [u8; 32] {
        blake3::derive_key(UNIT_CONTEXT, &self.first.secret)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&str> = std::iter::once(&self.first).chain(&self.others).map(|key| &*key.id).collect();
        f.debug_struct("Keys").field("ids", &ids).finish_non_exhaustive()
    }
}

impl Key {
    fn new(id: &str, secret: [u8; 32]) -> Self {
        Key { id: id.into(), mac: blake3::derive_key(MAC_CONTEXT, &secret), secret }
    }

    fn parse(line: &str) -> Result<Self, &'static str> {
        let (id, secret) =
            line.split_once(char::is_whitespace).ok_or("there is no blank between id and key")?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if id.len() > 16 || !id.chars().all(plain) {
            return Err("the id is not 1 to 16 letters, digits, `-` or `_`");
        }
        let secret = secret.trim().to_ascii_lowercase();
        let secret = unhex(&secret).ok_or("the key is not 64 hexadecimal digits (32 bytes)")?;
        if secret == [0; 32] {
            return Err("the key is all zeros");
        }
        Ok(Key::new(id, secret))
    }

    fn line(&self) -> String {
        format!("{} {}", self.id, hex(&self.secret))
    }

    fn authenticate(&self, text: &str) -> [u8; MAC_LENGTH] {
        let mut mac = [0; MAC_LENGTH];
        mac.copy_from_slice(&blake3::keyed_hash(&self.mac, text.as_bytes()).as_bytes()[..MAC_LENGTH]);
        mac
    }
}

/// In time that does not depend on where they differ, which is what equality of [`blake3::Hash`] promises.
fn same(one: &[u8; MAC_LENGTH], other: &[u8; MAC_LENGTH]) -> bool {
    let whole = |half: &[u8; MAC_LENGTH]| {
        let mut bytes = [0; 32];
        bytes[..MAC_LENGTH].copy_from_slice(half);
        blake3::Hash::from_bytes(bytes)
    };
    whole(one) == whole(other)
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

/// Lower-case digits only, and exactly as many as fill `N` bytes.
fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

fn escape(name: &str, into: &mut String) {
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            into.push(char::from(byte));
        } else {
            into.push('%');
            into.push_str(&hex(&[byte]));
        }
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('%') {
        bytes.extend_from_slice(plain.as_bytes());
        bytes.extend(unhex::<1>(escaped.get(..2)?)?);
        rest = escaped.get(2..)?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
