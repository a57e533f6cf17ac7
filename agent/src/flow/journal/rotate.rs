//! Rotation: `FILE` becomes `FILE.1.gz`, what was `FILE.1.gz` becomes `FILE.2.gz`, and the oldest goes.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::config::flow_log::FlowLogOptions;

/// When to rotate, and how much is kept.
#[derive(Debug)]
pub(super) struct Rotation {
    size: u64,
    age: Duration,
    keep: u32,
    /// Compresses what was rotated last.
    compressing: Option<JoinHandle<()>>,
}

impl Rotation {
    pub(super) fn new(options: &FlowLogOptions) -> Self {
        let size = u64::from(options.flow_log_size) << 20;
        Self { size, age: options.flow_log_age, keep: options.flow_log_keep, compressing: None }
    }

    pub(super) fn is_due(&self, size: u64, since: SystemTime) -> bool {
        // A clock that was set back makes nothing older.
        size >= self.size || size > 0 && since.elapsed().is_ok_and(|age| age >= self.age)
    }

    /// Moves the log out of its name, and has it compressed by a thread of its own.
    pub(super) fn rotate(&mut self, path: &Path) -> io::Result<()> {
        if let Some(before) = self.compressing.take() {
            // It had the time of a whole log.
            drop(before.join());
        }
        if self.keep == 0 {
            return gone(fs::remove_file(path));
        }
        gone(fs::remove_file(numbered(path, self.keep, ".gz")))?;
        for number in (1..self.keep).rev() {
            gone(fs::rename(numbered(path, number, ".gz"), numbered(path, number + 1, ".gz")))?;
        }
        let (plain, packed) = (numbered(path, 1, ""), numbered(path, 1, ".gz"));
        fs::rename(path, &plain)?;
        self.compressing = Some(std::thread::spawn(move || {
            // A log that can't be compressed stays as it is, and is read as well.
            if let Err(error) = compress(&plain, &packed) {
                tracing::warn!(%error, "the flow log {} can't be compressed, and stays as it is", plain.display());
            }
        }));
        Ok(())
    }
}

impl Drop for Rotation {
    fn drop(&mut self) {
        if let Some(last) = self.compressing.take() {
            drop(last.join());
        }
    }
}

/// What is not there needs no moving.
fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn numbered(path: &Path, number: u32, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}{ending}"));
    name.into()
}

fn compress(plain: &Path, packed: &Path) -> io::Result<()> {
    let mut input = File::open(plain)?;
    let staged = packed.with_extension("gz.new");
    let result = (|| {
        let mut output = GzEncoder::new(super::append(&staged)?, Compression::default());
        io::copy(&mut input, &mut output)?;
        output.finish()?.sync_all()?;
        fs::rename(&staged, packed)
    })();
    if result.is_err() {
        drop(fs::remove_file(&staged));
    }
    result.and_then(|()| fs::remove_file(plain))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn the_newest_are_kept_compressed_and_the_oldest_goes() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("flows.json");
        let mut rotation = Rotation { size: 3, age: Duration::from_secs(60), keep: 2, compressing: None };
        for text in ["one", "two", "three"] {
            fs::write(&path, text).expect("it is writable");
            rotation.rotate(&path).expect("it can be renamed");
        }
        drop(rotation);
        let read = |name: &str| {
            let file = File::open(directory.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            let mut text = String::new();
            GzDecoder::new(file).read_to_string(&mut text).expect("it was compressed");
            text
        };
        assert_eq!((read("flows.json.1.gz").as_str(), read("flows.json.2.gz").as_str()), ("three", "two"));
        assert_eq!(fs::read_dir(directory.path()).expect("it is there").count(), 2);
    }

    #[test]
    fn size_or_age_is_enough_and_an_empty_log_does_not_age() {
        let rotation = Rotation { size: 100, age: Duration::from_secs(60), keep: 1, compressing: None };
        let now = SystemTime::now();
        assert!(rotation.is_due(100, now) && !rotation.is_due(99, now));
        let old = now - Duration::from_secs(61);
        assert!(rotation.is_due(1, old) && !rotation.is_due(0, old));
        assert!(!rotation.is_due(1, now + Duration::from_secs(1_000)), "the clock was set back");
    }
}
