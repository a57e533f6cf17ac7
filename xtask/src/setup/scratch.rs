//! A directory for the moment, which nobody else can write to.

use std::env;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process;

use anyhow::{Context, Result};

/// Goes with its value.
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// A new one. That another is there by that name is an error: it may be somebody else's.
    pub fn new(purpose: &str) -> Result<Self> {
        let directory = env::temp_dir().join(format!("bulkhead-{purpose}-{}", process::id()));
        let made = DirBuilder::new().mode(0o700).create(&directory);
        made.with_context(|| format!("{} can't be made: remove it if it is there", directory.display()))?;
        Ok(Self(directory))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
