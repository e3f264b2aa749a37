//! What the surroundings say about a configuration: who is at home, how many cores there are, and whether the files
//! and directories it names can be used.

use std::num::NonZeroUsize;

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
