//! A redis-server of a test's own: nothing on a disk, nothing but loopback, gone with the test.

use std::error::Error;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::Client;

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Server {
    child: Child,
    pub(super) port: u16,
    _folder: tempfile::TempDir,
}

impl Server {
    /// None where redis-server is not installed: `who` is told why, and is skipped.
    pub(super) fn start(who: &str) -> Result<Option<Self>, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new("redis-server");
        command.args([
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--port",
            &port.to_string(),
        ]);
        match command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).spawn() {
            Ok(child) => {
                let server = Server { child, port, _folder: folder };
                server.wait()?;
                Ok(Some(server))
            }
            Err(error) => {
                let remedy = "on Debian: apt-get install redis-server";
                eprintln!("{who} is skipped: redis-server does not start ({error}); {remedy}");
                Ok(None)
            }
        }
    }

    fn wait(&self) -> Result<(), Box<dyn Error>> {
        let began = Instant::now();
        while let Err(error) = self.connect() {
            if began.elapsed() > PATIENCE {
                return Err(format!("redis-server does not answer: {error}").into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    pub(super) fn connect(&self) -> redis::RedisResult<redis::Connection> {
        let client = Client::open(format!("redis://127.0.0.1:{}", self.port))?;
        let mut connection = client.get_connection_with_timeout(PATIENCE)?;
        redis::cmd("PING").query::<String>(&mut connection)?;
        Ok(connection)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
