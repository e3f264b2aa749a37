//! A folder for what a scenario writes: its configuration, and the sidecar's state. It is gone when the demo is.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// A folder that only its owner can read.
#[derive(Debug)]
pub(in crate::demo) struct Folder {
    path: PathBuf,
    file: PathBuf,
}

impl Folder {
    /// A new one among the system's temporary files.
    pub(in crate::demo) fn new() -> io::Result<Folder> {
        let name = format!("parhelion-demo-{}-{:08x}", std::process::id(), rand::random::<u32>());
        let path = std::env::temp_dir().join(name);
        let folder = Folder { file: path.join("demo.yaml"), path };
        let mut private = DirBuilder::new();
        private.mode(0o700).create(&folder.path)?;
        private.create(folder.state())?;
        Ok(folder)
    }

    /// The folder itself.
    pub(in crate::demo) fn path(&self) -> &Path {
        &self.path
    }

    /// Where something of that name lies, or may lie, in it.
    pub(in crate::demo) fn place(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where the sidecar keeps its state.
    pub(in crate::demo) fn state(&self) -> PathBuf {
        self.place("state")
    }

    /// The configuration.
    pub(in crate::demo) fn file(&self) -> &Path {
        &self.file
    }

    /// Writes the configuration.
    pub(in crate::demo) fn write(&self, text: &str) -> io::Result<()> {
        fs::write(&self.file, text)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that cannot be removed is one more among the temporary files.
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_gone_when_it_is_dropped() {
        let folder = Folder::new().unwrap();
        folder.write("text").unwrap();
        let file = folder.file().to_owned();
        assert_eq!(fs::read_to_string(&file).unwrap(), "text");
        drop(folder);
        assert!(!file.exists() && !file.parent().unwrap().exists());
    }
}
