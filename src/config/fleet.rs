//! Where replicas meet: what `state` says as a URL, and what `fleet` says beside.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// The port of a server where none is said, and of a sentinel.
pub(super) const PORT: u16 = 6379;
pub(super) const SENTINEL: u16 = 26379;

/// The store that replicas share, and how this one takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    /// How its servers stand together.
    pub servers: Servers,
    /// Where they are reached, at least one: of a server alone exactly one.
    pub hosts: Vec<(String, u16)>,
    /// Whether they speak TLS.
    pub tls: bool,
    /// Who this replica is there; none: the default user.
    pub user: Option<String>,
    /// File with that user's password.
    pub password_file: Option<PathBuf>,
    /// PEM file with the authorities of their certificates; none: those of this system.
    pub ca: Option<PathBuf>,
    /// PEM files with a chain and its key that are shown to them.
    pub pair: Option<(PathBuf, PathBuf)>,
    /// What all keys begin with.
    pub prefix: Arc<str>,
    /// What this replica is called; none: the name of its host.
    pub replica: Option<Arc<str>>,
}

/// How servers stand together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Servers {
    /// There is one.
    One {
        /// Of its databases.
        database: u32,
    },
    /// Sentinels know which one it is.
    Sentinel {
        /// What they call it.
        name: Arc<str>,
        /// Of its databases.
        database: u32,
    },
    /// Each has some of the keys.
    Cluster,
}

/// As the file would say it.
impl fmt::Display for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.servers {
            Servers::One { .. } => "",
            Servers::Sentinel { .. } => "-sentinel",
            Servers::Cluster => "-cluster",
        };
        let s = if self.tls { "s" } else { "" };
        write!(f, "redis{s}{kind}://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        for (place, (host, port)) in self.hosts.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            match host.contains(':') {
                true => write!(f, "{comma}[{host}]:{port}")?,
                false => write!(f, "{comma}{host}:{port}")?,
            }
        }
        match &self.servers {
            Servers::One { database: 0 } | Servers::Cluster => Ok(()),
            Servers::One { database } => write!(f, "/{database}"),
            Servers::Sentinel { name, database: 0 } => write!(f, "/{name}"),
            Servers::Sentinel { name, database } => write!(f, "/{name}/{database}"),
        }
    }
}
