//! Secret keys: one set signs hops and prediction ids and hashes units. The first key signs, all verify, so a new key
//! is put first and the old one kept below it for as long as what it signed is still about.
//!
//! All sidecars of one path, and all replicas that hear of each other's predictions, need common keys, hence the file;
//! without one a key is made and kept in the state directory, or in memory. A state directory that cannot be used stops
//! nobody: the key is this process's own until [`Keys::keep`] gets it in there, beside those that it finds. What a key is
//! used for is derived from it, each use with a context of its own, so that nothing made for one use means anything to
//! another.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rand::TryRng;

mod file;
mod hex;

pub use hex::{hex, unhex};

/// Bytes of a MAC.
pub const MAC: usize = 16;

/// Its name in the state directory, and what stands above keys in it.
const FILE: &str = "keys";
const HEADING: &str = "# Signs parhelion-hop and prediction ids, and hashes units.";
const LATER: &str = "# Of a process that could not use this file when it started.";

/// Contexts of key derivation: never changed, never used for anything else.
const HOP_CONTEXT: &str = "parhelion 2026-11-22 hop header mac";
const UNIT_CONTEXT: &str = "parhelion 2026-11-22 unit hash";
const NAME_CONTEXT: &str = "parhelion 2026-11-22 key id";
const PREDICTION_CONTEXT: &str = "parhelion 2026-11-22 prediction id mac";
const MARK_CONTEXT: &str = "parhelion 2026-11-22 key mark";

/// Secret keys: the first signs, all verify. Never empty.
pub struct Keys {
    first: Key,
    others: Vec<Key>,
    /// Those that were found in the state directory after the start.
    later: OnceLock<Vec<Key>>,
}

/// One secret key, and what is derived from it.
pub struct Key {
    id: Box<str>,
    mark: u8,
    secret: [u8; 32],
    hop: [u8; 32],
    prediction: [u8; 32],
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
    /// One of the keys in the state directory has the mark of this process's own.
    #[error(
        "{}: this process made itself a key while the file could not be used, and ids cannot tell it from one in there, as happens to one pair in 256: restart, and those in there are used",
        .0.display()
    )]
    Twin(PathBuf),
    /// The system gave no random bytes.
    #[error(
        "no random key can be made, for the system's random source fails ({0}); give a file with `keys:`"
    )]
    Random(String),
}

impl Keys {
    /// The keys of `file` if there is one, else those kept in `state`, else a random one: where `state` cannot be used
    /// too, of which [`Keys::keep`] says why.
    ///
    /// # Errors
    /// When `file` cannot be read or holds no keys, for then replicas that share it would not know each other's ids; and
    /// when the system's random source fails.
    pub fn load(file: Option<&Path>, state: Option<&Path>) -> Result<Self, KeysError> {
        match (file, state) {
            (Some(file), _) => Self::from_file(file),
            (None, Some(state)) => Self::in_state(state).or_else(|_| Self::random()),
            (None, None) => Self::random(),
        }
    }

    /// Lines `ID HEX64`; empty ones and those that begin with `#` are skipped.
    ///
    /// # Errors
    /// When it cannot be read, a line is not a key, an id or a mark comes twice, or there is no key.
    pub fn from_file(path: &Path) -> Result<Self, KeysError> {
        let remedy = "`keys:` names a file that this process may read, with a line `ID HEX64` for each key";
        let text =
            file::read(path).map_err(|source| KeysError::Io { path: path.to_owned(), source, remedy })?;
        Self::parse(&text, path)
    }

    /// The keys in `keys` below `directory`; both are made, with one random key, where they are not there.
    ///
    /// # Errors
    /// As [`Keys::from_file`], and when the file cannot be written.
    pub fn in_state(directory: &Path) -> Result<Self, KeysError> {
        let path = directory.join(FILE);
        if let Some(text) = kept(&path)? {
            return Self::parse(&text, &path);
        }
        let keys = Self::random()?;
        keys.write(directory, HEADING)?;
        Ok(keys)
    }

    /// Gets the first key into `directory`, which could not be used before: what it signed is then known to the next
    /// process too. Keys that are found there verify from now on, and sign again after the next start.
    ///
    /// # Errors
    /// As [`Keys::in_state`]; also where a key that is found cannot be told from the first one by its mark.
    pub fn keep(&self, directory: &Path) -> Result<(), KeysError> {
        let path = directory.join(FILE);
        let Some(text) = kept(&path)? else { return self.write(directory, HEADING) };
        let found = Self::parse(&text, &path)?;
        if found.named(&self.first.id).is_some() {
            return Ok(());
        }
        if found.marked(self.first.mark).is_some() {
            return Err(KeysError::Twin(path));
        }
        self.write(directory, &format!("{}\n{LATER}", text.trim_end()))?;
        let Keys { first, others, .. } = found;
        self.later.get_or_init(|| std::iter::once(first).chain(others).collect());
        Ok(())
    }

    /// Writes `before` and the first key into `directory`.
    fn write(&self, directory: &Path, before: &str) -> Result<(), KeysError> {
        let path = directory.join(FILE);
        let text = format!("{before}\n{}\n", self.first.line());
        let remedy = "`state:` names a directory that this process may write to";
        file::write(directory, &path, &text).map_err(|source| KeysError::Io { path, source, remedy })
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
        Ok(Keys { first: Key::new(&id, secret), others: Vec::new(), later: OnceLock::new() })
    }

    /// Reads the text of a key file; `path` is what errors call it.
    ///
    /// # Errors
    /// As [`Keys::from_file`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, KeysError> {
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
            if keys.iter().any(|known| known.mark == key.mark) {
                return Err(wrong(
                    "prediction ids could not tell this key from one above, as happens to one pair in 256: \
                     make another key",
                ));
            }
            keys.push(key);
        }
        let mut keys = keys.into_iter();
        let first = keys.next().ok_or_else(|| KeysError::Empty(path.to_owned()))?;
        Ok(Keys { first, others: keys.collect(), later: OnceLock::new() })
    }

    /// The key that signs.
    pub fn first(&self) -> &Key {
        &self.first
    }

    /// The key of that id.
    pub fn named(&self, id: &str) -> Option<&Key> {
        self.all().find(|key| *key.id == *id)
    }

    /// The key of that mark.
    pub fn marked(&self, mark: u8) -> Option<&Key> {
        self.all().find(|key| key.mark == mark)
    }

    /// The key for hashing units, derived from the first key: the same in all sidecars that share it.
    pub fn unit_key(&self) -> [u8; 32] {
        blake3::derive_key(UNIT_CONTEXT, &self.first.secret)
    }

    fn all(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.first).chain(&self.others).chain(self.later.get().into_iter().flatten())
    }
}

/// The text of the key file in a state directory, if there is one.
fn kept(path: &Path) -> Result<Option<String>, KeysError> {
    match file::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => {
            let remedy = "make it readable for this process, or remove it and a new key is made";
            Err(KeysError::Io { path: path.to_owned(), source, remedy })
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&str> = self.all().map(|key| &*key.id).collect();
        f.debug_struct("Keys").field("ids", &ids).finish_non_exhaustive()
    }
}

impl Key {
    fn new(id: &str, secret: [u8; 32]) -> Self {
        let [mark, ..] = blake3::derive_key(MARK_CONTEXT, &secret);
        Key {
            id: id.into(),
            mark,
            hop: blake3::derive_key(HOP_CONTEXT, &secret),
            prediction: blake3::derive_key(PREDICTION_CONTEXT, &secret),
            secret,
        }
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

    /// As the file names it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// One byte that tells it from the others of its file; made from the secret, and says nothing of it.
    pub fn mark(&self) -> u8 {
        self.mark
    }

    /// The MAC of a hop.
    pub fn hop_mac(&self, bytes: &[u8]) -> [u8; MAC] {
        mac(&self.hop, bytes)
    }

    /// The MAC of a prediction id.
    pub fn prediction_mac(&self, bytes: &[u8]) -> [u8; MAC] {
        mac(&self.prediction, bytes)
    }

    fn line(&self) -> String {
        format!("{} {}", self.id, hex(&self.secret))
    }
}

/// The first 16 bytes of BLAKE3, keyed.
fn mac(key: &[u8; 32], bytes: &[u8]) -> [u8; MAC] {
    let mut mac = [0; MAC];
    mac.copy_from_slice(&blake3::keyed_hash(key, bytes).as_bytes()[..MAC]);
    mac
}

/// In time that does not depend on where they differ, which is what equality of [`blake3::Hash`] promises.
pub fn same(one: &[u8; MAC], other: &[u8; MAC]) -> bool {
    let whole = |half: &[u8; MAC]| {
        let mut bytes = [0; 32];
        bytes[..MAC].copy_from_slice(half);
        blake3::Hash::from_bytes(bytes)
    };
    whole(one) == whole(other)
}

#[cfg(test)]
mod tests;
