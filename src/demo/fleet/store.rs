//! The store of a fleet that is shown: a redis-server of the demo's own, to kill and to start again.
//!
//! It listens on loopback alone, keeps nothing on a disk but its log in the demo's folder, and ends with the demo.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::super::DemoError;

/// What it is called where it is installed, the first that is found.
const NAMES: [&str; 2] = ["redis-server", "valkey-server"];
/// The first version of Redis that takes scripts as ours; every Valkey does.
const OLDEST: u32 = 7;
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Ports that are tried: another process may take one between the question for it and its use.
const TRIES: usize = 5;

/// A server of the demo's own; dropping it ends it.
#[derive(Debug)]
pub(super) struct Store {
    program: PathBuf,
    log: PathBuf,
    address: SocketAddr,
    child: Option<Child>,
}

impl Store {
    /// Where such a program is.
    ///
    /// # Errors
    /// Where there is none, or only one that is too old; with how to get one.
    pub(super) fn find() -> Result<PathBuf, DemoError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
        let all = NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
        let found = all.into_iter().find(|path| is_program(path)).ok_or_else(|| {
            DemoError::NoStore(format!("neither {} nor {} is installed", NAMES[0], NAMES[1]))
        })?;
        let told = Command::new(&found).arg("--version").stdin(Stdio::null()).output()?;
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        match old(&told) {
            Some(version) => Err(DemoError::NoStore(format!("{} is of version {version}", found.display()))),
            None => Ok(found),
        }
    }

    /// Starts one; it logs into that folder.
    ///
    /// # Errors
    /// With what it says when it does not start.
    pub(super) async fn start(program: PathBuf, folder: &Path) -> Result<Store, DemoError> {
        let log = folder.join("store.log");
        let mut tries = 0;
        loop {
            tries += 1;
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(DemoError::Bind)?;
            let address = free.local_addr().map_err(DemoError::Bind)?;
            drop(free);
            let mut store = Store { program: program.clone(), log: log.clone(), address, child: None };
            match store.start_again().await {
                Err(_) if tries < TRIES => {}
                started => return started.map(|()| store),
            }
        }
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it without a word of warning: what it held is gone.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // By its id, which is its own until it was waited for.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it where it was, empty.
    ///
    /// # Errors
    /// As [`Store::start`].
    pub(super) async fn start_again(&mut self) -> Result<(), DemoError> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let (host, port) = (self.address.ip().to_string(), self.address.port().to_string());
        let mut command = Command::new(&self.program);
        command.args(["--bind", &host, "--port", &port, "--save", "", "--appendonly", "no"]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        if let Some(folder) = self.log.parent() {
            command.current_dir(folder);
        }
        // Ctrl-C at the terminal is for the demo alone, which ends it in its own time.
        self.child = Some(command.process_group(0).spawn()?);
        let began = Instant::now();
        while !self.answers().await {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() || began.elapsed() > PATIENCE {
                self.kill();
                let said = std::fs::read_to_string(&self.log).unwrap_or_default();
                let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
                return Err(DemoError::Store(format!("{}: {last}", self.program.display())));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    async fn answers(&self) -> bool {
        let asked = async {
            let mut stream = TcpStream::connect(self.address).await?;
            stream.write_all(b"PING\r\n").await?;
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).await?;
            io::Result::Ok(&answer == b"+PONG")
        };
        matches!(tokio::time::timeout(Duration::from_secs(1), asked).await, Ok(Ok(true)))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.kill();
    }
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// The version that a server tells of itself, where that is too old.
fn old(told: &str) -> Option<&str> {
    let version = told.split_whitespace().find_map(|word| word.strip_prefix("v="))?;
    let major: u32 = version.split('.').next()?.parse().ok()?;
    (told.starts_with("Redis") && major < OLDEST).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_too_old_is_refused() {
        assert_eq!(old("Redis server v=6.0.16 sha=00000000:0 malloc=jemalloc"), Some("6.0.16"));
        assert_eq!(old("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc"), None);
        assert_eq!(old("Redis server v=10.1.0 sha=0"), None);
        assert_eq!(old("Valkey server v=8.0.1 sha=0"), None);
        assert_eq!(old("something else"), None);
    }

    #[test]
    fn a_program_is_a_file_that_may_be_run() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("redis-server");
        assert!(!is_program(&file) && !is_program(folder.path()));
        std::fs::write(&file, "").unwrap();
        assert!(!is_program(&file));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o700)).unwrap();
        assert!(is_program(&file));
    }

    #[tokio::test]
    async fn what_does_not_start_is_told_with_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("redis-server");
        std::fs::write(&program, "#!/bin/sh\necho no room for me\necho\nexit 1\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        let error = Store::start(program, folder.path()).await.unwrap_err().to_string();
        assert!(error.contains("redis-server: no room for me"), "{error}");
    }
}
