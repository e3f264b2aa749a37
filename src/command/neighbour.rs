//! The sidecar that runs in the same container, found among the processes that this one may see.
//!
//! A pod's end is told to it by a signal, for a signal comes from its own user in its own container: nobody on the
//! network, and no other container, can make it end.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

/// Tells it that the pod ends.
pub(super) fn tell() -> Result<(), String> {
    let own = fs::read_link("/proc/self/exe").map_err(|error| format!("/proc/self/exe: {error}"))?;
    let found: Vec<i32> =
        processes().into_iter().filter(|process| runs(process, &own)).filter_map(pid).collect();
    match found.as_slice() {
        [one] => {
            let pid = Pid::from_raw(*one).ok_or("process 0 is none")?;
            kill_process(pid, Signal::USR1).map_err(|error| format!("process {one}: {error}"))
        }
        [] => Err("no sidecar runs in this container".to_owned()),
        several => Err(format!(
            "several sidecars run here, the processes {several:?}: tell the one that is meant, kill -USR1 PID"
        )),
    }
}

fn processes() -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| pid(path.clone()).is_some()).collect()
}

fn pid(process: PathBuf) -> Option<i32> {
    process.file_name()?.to_str()?.parse().ok()
}

/// Whether it is this very binary, doing `run`.
fn runs(process: &Path, own: &Path) -> bool {
    let is_ours = fs::read_link(process.join("exe")).is_ok_and(|exe| exe == own);
    let arguments = fs::read(process.join("cmdline")).unwrap_or_default();
    is_ours && arguments.split(|byte| *byte == 0).nth(1) == Some(b"run")
}
