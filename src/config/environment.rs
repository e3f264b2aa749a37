//! What the surroundings say about a configuration: who is at home, how many cores there are, and whether the files
//! and directories it names can be used.

use std::fs::File;
use std::num::NonZeroUsize;
use std::path::Path;

use super::{Config, Problem};
use crate::admin::tokens::Tokens;
use crate::keys::Keys;
use crate::tls;

/// Names the variant whose container runs beside this sidecar: `v2`, or `MODEL/v2`.
pub const LOCAL: &str = "PARHELION_LOCAL";
/// Where that container listens; `http://127.0.0.1:8001` where it is not set.
pub const LOCAL_ENDPOINT: &str = "PARHELION_LOCAL_ENDPOINT";

/// What may influence a configuration from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// The variant at home: in every model that has it, its endpoints become `local_endpoint`.
    pub local: Option<String>,
    /// Where the variant at home is reached.
    pub local_endpoint: String,
    /// What `workers: auto` means.
    pub cores: NonZeroUsize,
}

impl Default for Environment {
    fn default() -> Self {
        Environment {
            local: None,
            local_endpoint: "http://127.0.0.1:8001".to_owned(),
            cores: NonZeroUsize::MIN,
        }
    }
}

impl Environment {
    /// What this process was started with. The cores are those that its affinity and the CPU quota of its cgroup
    /// (version 1 or 2) grant, rounded down, at least one: the standard library reads both.
    pub fn of_process() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let default = Environment::default();
        Environment {
            local: set(LOCAL),
            local_endpoint: set(LOCAL_ENDPOINT).unwrap_or(default.local_endpoint),
            cores: std::thread::available_parallelism().unwrap_or(default.cores),
        }
    }
}

/// Whether what `config` names outside of itself can be used: the state directory can be written, or made; the keys
/// and tokens can be read. Leaves nothing behind.
pub fn check_environment(config: &Config) -> Vec<Problem> {
    let key = if config.fleet.is_some() { "fleet.cache" } else { "state" };
    let state = config.state.as_deref().and_then(|path| check_directory(key, path));
    let own =
        state.into_iter().chain(check_log(config)).chain(check_keys(config)).chain(check_tokens(config));
    own.chain(check_fleet(config)).chain(tls::check(config)).collect()
}

/// Whether the files can be read that the way to a shared store needs.
fn check_fleet(config: &Config) -> Vec<Problem> {
    let Some(fleet) = &config.fleet else { return Vec::new() };
    let pair = fleet.pair.as_ref();
    let files = [
        ("fleet.password_file", fleet.password_file.as_ref()),
        ("fleet.ca", fleet.ca.as_ref()),
        ("fleet.cert", pair.map(|(cert, _)| cert)),
        ("fleet.key", pair.map(|(_, key)| key)),
    ];
    let refuse = |(key, path): (&str, Option<&std::path::PathBuf>)| {
        let path = path?;
        let error = std::fs::read(path).err()?;
        let problem =
            Problem::new(key, format!("cannot be read: {error}")).with_value(path.display().to_string());
        Some(problem.with_hint("mount the secret there, and let this user read it"))
    };
    files.into_iter().filter_map(refuse).collect()
}

/// Whether the tokens can be read, and are tokens.
fn check_tokens(config: &Config) -> Option<Problem> {
    let error = Tokens::load(config.tokens.as_deref()?).err()?;
    Some(Problem::new("control.tokens", error.to_string()))
}

/// Whether the keys can be read, and are keys.
pub(super) fn check_keys(config: &Config) -> Option<Problem> {
    let path = config.keys.as_deref()?;
    let refuse = |reason: String| Problem::new("keys", reason).with_value(path.display().to_string());
    match File::open(path).and_then(|file| file.metadata()) {
        Ok(found) if found.is_dir() => {
            Some(refuse("is a directory".to_owned()).with_hint("name the file in it"))
        }
        // What is wrong in it is said with its line and what would be right.
        Ok(_) => Keys::from_file(path).err().map(|error| Problem::new("keys", error.to_string())),
        Err(error) => Some(
            refuse(format!("cannot be read: {error}"))
                .with_hint("mount the secret there, and let this user read it"),
        ),
    }
}

/// Whether the log can be written and is of no newer version, and its store is known well enough to be asked.
fn check_log(config: &Config) -> Vec<Problem> {
    let Some(log) = &config.log else { return Vec::new() };
    let directory = check_directory("log.dir", &log.dir)
        .or_else(|| Some(Problem::new("log.dir", crate::log::directory::check(&log.dir)?.to_string())));
    let store = log.upload.as_ref().and_then(|url| {
        let why = crate::log::store::open(url, std::env::vars()).err()?;
        Some(Problem::new("log.upload", why).with_value(url.clone()))
    });
    directory.into_iter().chain(store).collect()
}

fn check_directory(key: &str, path: &Path) -> Option<Problem> {
    let refuse = |reason: String, hint: String| {
        Some(Problem::new(key, reason).with_value(path.display().to_string()).with_hint(hint))
    };
    // What is not there yet will be made in what is there.
    let Some(nearest) = path.ancestors().find(|path| path.exists()) else {
        return refuse("cannot be made".to_owned(), "name a directory that can be written".to_owned());
    };
    if !nearest.is_dir() {
        let reason = format!("cannot be a directory: {} is none", nearest.display());
        return refuse(reason, "name a directory that can be written".to_owned());
    }
    let probe = nearest.join(format!(".parhelion-probe-{}", std::process::id()));
    match File::create(&probe).and_then(|_| std::fs::remove_file(&probe)) {
        Ok(()) => None,
        Err(error) => refuse(
            format!("cannot be written: {}: {error}", nearest.display()),
            "mount a volume there that this user may write, or leave the key out to keep nothing".to_owned(),
        ),
    }
}
