//! Who may use the admin port, where a file says so: one token a line, with a name and a right.
//!
//! A line is `NAME RIGHT SECRET`. RIGHT is `read`, or `act` which includes it. SECRET is the token itself, 32 to 128
//! hexadecimal digits, or `blake3:` and the hash of its text, so that who reads the file cannot use it. The file is
//! looked at again at every request, so that a token that was taken out is refused from then on; a file that cannot be
//! read, or has a bad line, changes nothing, which the log says once. Tokens are compared by their hashes, all of them
//! each time, so that the time it takes tells nothing.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// More than any sensible number of tokens, and a bound for a path that turns out to be a device or a log.
const MAX_FILE: u64 = 64 * 1024;
/// Before a hash that stands for its token.
const HASHED: &str = "blake3:";

/// What somebody may do on the admin port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// See everything that is not secret.
    Read,
    /// Tell rollouts what to do and report feedback, too.
    Act,
}

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    name: Arc<str>,
    right: Right,
    hash: blake3::Hash,
}

/// The tokens of a file, as it stands now.
#[derive(Debug)]
pub struct Tokens {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    /// What was read last, or could not be.
    stamp: Option<Stamp>,
    tokens: Arc<[Token]>,
}

/// Tells two versions of a file apart without reading them.
type Stamp = (SystemTime, u64, u64);

/// Why a file of tokens is refused.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// It cannot be read.
    #[error("{}: {source}; `control.tokens` names a file that this process may read", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line is no token. What it holds is not shown, for it may be a secret.
    #[error("{}:{line}: {what}; a line is `NAME read SECRET` or `NAME act SECRET`, and `parhelion ctl token` makes one", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Only comments, or nothing: nobody could come in.
    #[error("{}: holds no token; `parhelion ctl token` makes a line for it", .0.display())]
    Empty(PathBuf),
}

impl Tokens {
    /// Those of the file at `path`.
    ///
    /// # Errors
    /// When it cannot be read, a line is no token, a name comes twice, or there is none.
    pub fn load(path: &Path) -> Result<Self, TokensError> {
        // Before the text: what changes between the two is seen at the next look.
        let stamp = stamp(path);
        let tokens = read(path)?;
        Ok(Tokens { path: path.to_owned(), known: Mutex::new(Known { stamp, tokens }) })
    }

    /// Whose token that is, and what it may do; `None` where it is nobody's.
    pub fn find(&self, secret: &[u8]) -> Option<(Arc<str>, Right)> {
        let hash = blake3::hash(secret);
        let mut found = None;
        for token in self.current().iter() {
            // Equality of these hashes takes the same time wherever they differ.
            if token.hash == hash {
                found = Some((Arc::clone(&token.name), token.right));
            }
        }
        found
    }

    fn current(&self) -> Arc<[Token]> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamp(&self.path);
        if now != known.stamp {
            known.stamp = now;
            match read(&self.path) {
                Ok(tokens) => {
                    tracing::info!(file = %self.path.display(), tokens = tokens.len(), "tokens read again");
                    known.tokens = tokens;
                }
                Err(error) => tracing::error!(%error, "tokens refused, those before go on"),
            }
        }
        Arc::clone(&known.tokens)
    }
}

impl Right {
    /// As written in the file.
    pub fn name(self) -> &'static str {
        match self {
            Right::Read => "read",
            Right::Act => "act",
        }
    }
}

/// The line of a file for the token `secret`, without the secret itself.
pub fn line(name: &str, right: Right, secret: &str) -> String {
    format!("{name} {} {HASHED}{}", right.name(), blake3::hash(secret.as_bytes()).to_hex())
}

/// Why `name` cannot be the name of a token; `None` if it can.
pub fn refuse_name(name: &str) -> Option<&'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    let good = (1..=63).contains(&name.len()) && name.chars().all(plain);
    (!good).then_some("a name has 1 to 63 letters, digits, `-`, `_`, `.` and `@`")
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = fs::metadata(path).ok()?;
    Some((found.modified().ok()?, found.len(), found.ino()))
}

fn read(path: &Path) -> Result<Arc<[Token]>, TokensError> {
    let mut text = String::new();
    let io = |source| TokensError::Io { path: path.to_owned(), source };
    File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text)).map_err(io)?;
    if text.len() as u64 > MAX_FILE {
        return Err(io(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 64 KiB")));
    }
    let mut tokens: Vec<Token> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let token = parse(line).and_then(|token| match tokens.iter().any(|known| known.name == token.name) {
            true => Err("the name comes twice"),
            false => Ok(token),
        });
        let refuse = |what| TokensError::Line { path: path.to_owned(), line: index + 1, what };
        tokens.push(token.map_err(refuse)?);
    }
    if tokens.is_empty() {
        return Err(TokensError::Empty(path.to_owned()));
    }
    Ok(tokens.into())
}

fn parse(line: &str) -> Result<Token, &'static str> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [name, right, secret] = words[..] else { return Err("it has not three words") };
    if let Some(what) = refuse_name(name) {
        return Err(what);
    }
    let right = match right {
        "read" => Right::Read,
        "act" => Right::Act,
        _ => return Err("the right is neither `read` nor `act`"),
    };
    let hash = match secret.strip_prefix(HASHED) {
        Some(hex) => blake3::Hash::from_hex(hex).map_err(|_| "after `blake3:` come 64 hexadecimal digits")?,
        None if (32..=128).contains(&secret.len()) && secret.chars().all(|c| c.is_ascii_hexdigit()) => {
            blake3::hash(secret.as_bytes())
        }
        None => return Err("the secret is neither 32 to 128 hexadecimal digits nor `blake3:` and a hash"),
    };
    Ok(Token { name: name.into(), right, hash })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: &str = "00112233445566778899aabbccddeeff";
    const BOB: &str = "ffeeddccbbaa99887766554433221100";

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        fs::write(&path, text).unwrap();
        (directory, path)
    }

    #[test]
    fn tokens_have_a_name_and_a_right_and_may_be_hashed() {
        let (_keep, path) = file(&format!("# who\n\nann read {ANN}\n{}\n", line("bob", Right::Act, BOB)));
        let tokens = Tokens::load(&path).unwrap();
        assert_eq!(tokens.find(ANN.as_bytes()), Some(("ann".into(), Right::Read)));
        assert_eq!(tokens.find(BOB.as_bytes()), Some(("bob".into(), Right::Act)));
        assert_eq!(tokens.find(b""), None);
        assert_eq!(tokens.find(&ANN.as_bytes()[..31]), None);
        assert!(!line("bob", Right::Act, BOB).contains(BOB));
        assert!(Right::Read < Right::Act);
    }

    #[test]
    fn bad_lines_are_refused_with_their_number_and_never_shown() {
        for (text, want) in [
            (format!("ann read {ANN}\nbob act\n"), ":2: it has not three words"),
            (format!("ann write {ANN}\n"), ":1: the right is neither `read` nor `act`"),
            (format!("a/b read {ANN}\n"), ":1: a name has"),
            ("ann read topsecret\n".to_owned(), ":1: the secret is neither"),
            ("ann read blake3:12\n".to_owned(), ":1: after `blake3:` come 64"),
            (format!("ann read {ANN}\n# and\nann act {BOB}\n"), ":3: the name comes twice"),
            ("# nobody\n".to_owned(), "holds no token"),
        ] {
            let (_keep, path) = file(&text);
            let told = Tokens::load(&path).unwrap_err().to_string();
            assert!(told.contains(want), "{text}: {told}");
            assert!(!told.contains("topsecret") && !told.contains(ANN), "{told}");
        }
        assert!(
            Tokens::load(Path::new("/nowhere/tokens")).unwrap_err().to_string().contains("/nowhere/tokens")
        );
    }

    #[test]
    fn a_changed_file_counts_at_once_and_a_broken_one_changes_nothing() {
        let (_keep, path) = file(&format!("ann act {ANN}\n"));
        let tokens = Tokens::load(&path).unwrap();
        fs::write(&path, format!("bob read {BOB}\n# longer\n")).unwrap();
        assert_eq!(tokens.find(ANN.as_bytes()), None);
        assert_eq!(tokens.find(BOB.as_bytes()), Some(("bob".into(), Right::Read)));
        fs::write(&path, "bob").unwrap();
        assert_eq!(tokens.find(BOB.as_bytes()), Some(("bob".into(), Right::Read)));
        fs::remove_file(&path).unwrap();
        assert_eq!(tokens.find(BOB.as_bytes()), Some(("bob".into(), Right::Read)));
        fs::write(&path, format!("ann read {ANN}\n")).unwrap();
        assert_eq!(tokens.find(ANN.as_bytes()), Some(("ann".into(), Right::Read)));
    }
}
