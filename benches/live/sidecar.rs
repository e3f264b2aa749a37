//! The real program in a process of its own, which ends with what holds it.

use std::error::Error;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longer than any start takes.
const PATIENCE: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(20);

/// A sidecar that serves.
pub(crate) struct Sidecar {
    program: PathBuf,
    child: Child,
    /// Where callers reach it.
    pub(crate) data: SocketAddr,
    health: SocketAddr,
    admin: SocketAddr,
    folder: tempfile::TempDir,
}

impl Sidecar {
    /// Starts `program` with that configuration, to which ports and a state directory are added, and waits until it is
    /// ready for calls.
    pub(crate) fn start(program: &Path, models: &str) -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let file = written(folder.path(), models)?;
        std::fs::create_dir(folder.path().join("state"))?;
        let mut child = command(program)
            .arg("run")
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let log = child.stderr.take().ok_or("its log is not there")?;
        // From here on it ends with this.
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let (data, health, admin) = (nowhere, nowhere, nowhere);
        let mut sidecar = Sidecar { program: program.to_owned(), child, data, health, admin, folder };
        [sidecar.data, sidecar.health, sidecar.admin] = ports_in(log)?;
        sidecar.become_ready()?;
        Ok(sidecar)
    }

    /// Gives its file other models.
    pub(crate) fn rewrite(&self, models: &str) -> Result<(), Box<dyn Error>> {
        written(self.folder.path(), models).map(drop)
    }

    /// A `parhelion ctl` of this sidecar.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> Ctl {
        let mut command = command(&self.program);
        command.args(["ctl", "--admin", &self.admin.to_string(), "--json"]).args(arguments);
        Ctl(command)
    }

    /// All audit records.
    pub(crate) fn audit(&self) -> Result<Vec<Value>, Box<dyn Error>> {
        let told = self.ctl(&["audit", "--limit", "2048"]).run().map_err(|error| error.to_string())?;
        Ok(serde_json::from_slice(&told)?)
    }

    /// Where it keeps its state.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Bytes of memory that are its own now.
    pub(crate) fn resident(&self) -> Result<u64, Box<dyn Error>> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// Processor time it has used.
    pub(crate) fn processor_time(&self) -> Result<Duration, Box<dyn Error>> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        // Fields 14 and 15 of the whole line, in hundredths of a second.
        let ticks = after_name.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.map(str::parse::<u64>).sum::<Result<_, _>>()?;
        Ok(Duration::from_millis(ticks * 10))
    }

    fn become_ready(&self) -> Result<(), Box<dyn Error>> {
        let began = Instant::now();
        while !get(self.health, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            if began.elapsed() > PATIENCE {
                return Err(
                    format!("it is never ready; its files are in {}", self.folder.path().display()).into()
                );
            }
            std::thread::sleep(TICK);
        }
        Ok(())
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // One that has ended is killed just as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command of a person, not yet given.
pub(crate) struct Ctl(Command);

impl Ctl {
    /// Gives it, and returns what it said.
    pub(crate) fn run(mut self) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        let told = self.0.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        if !told.status.success() {
            return Err(format!("{:?}: {}", self.0, told.status).into());
        }
        Ok(told.stdout)
    }
}

/// Writes a configuration of those models into `folder`, whole at once; its path.
fn written(folder: &Path, models: &str) -> Result<PathBuf, Box<dyn Error>> {
    let file = folder.join("parhelion.yaml");
    let state = Value::from(folder.join("state").to_string_lossy());
    let ports = "listen: 127.0.0.1:0\nhealth: 127.0.0.1:0\nadmin: 127.0.0.1:0\n";
    let new = folder.join("parhelion.new");
    std::fs::write(&new, format!("{ports}state: {state}\n{models}"))?;
    std::fs::rename(&new, &file)?;
    Ok(file)
}

/// The program, told nothing by what surrounds this one.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars() {
        if ["OTEL_", "PARHELION_", "RUST_LOG"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command
}

/// Data, health and admin port, once the log tells them; the log is read to its end all the same.
fn ports_in(log: impl Read + Send + 'static) -> Result<[SocketAddr; 3], Box<dyn Error>> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            // Nobody listens any more once the ports are known.
            let _ = tell.send(line);
        }
    });
    let mut said = String::new();
    while let Ok(line) = told.recv_timeout(PATIENCE) {
        let record: Value = serde_json::from_str(&line).unwrap_or_default();
        let port = |name: &str| record[name].as_str().and_then(|text| text.parse().ok());
        if record["message"] == "serving"
            && let (Some(data), Some(health), Some(admin)) = (port("listen"), port("health"), port("admin"))
        {
            return Ok([data, health, admin]);
        }
        said.push_str(&line);
        said.push('\n');
    }
    Err(format!("it does not serve; it said:\n{said}").into())
}

fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
