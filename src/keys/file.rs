//! The key file on disk: read whole and bounded, written so that it is either there complete or not at all, and for
//! its owner's eyes only.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// More than any sensible number of keys, and a bound for a path that turns out to be a device or a log.
const MAX_FILE: u64 = 64 * 1024;

pub(super) fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 64 KiB"));
    }
    Ok(text)
}

pub(super) fn write(directory: &Path, path: &Path, text: &str) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let temporary = directory.join(format!(".keys.{}", std::process::id()));
    let written = write_whole(&temporary, text).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // Best effort: what failed matters more than what is left of it.
        let _ = fs::remove_file(&temporary);
        return written;
    }
    // The name must survive a crash too, else units hash differently after it.
    File::open(directory)?.sync_all()
}

fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    // A leftover of a process with the same id that died half-way would fail `create_new` for good.
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
