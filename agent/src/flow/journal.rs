//! The flow log: every flow as a line of JSON, in a file that is rotated and compressed, or on standard output.
//!
//! A thread of its own writes, fed by a queue. What finds the queue full, or a disk that refuses, is counted and told in
//! the log itself as `{"missed": N}`; a disk that refuses is tried again with the next line, and ends nothing.

mod rotate;

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use super::record::Line;
use crate::config::flow_log::FlowLogOptions;
use crate::exit::{Exit, Failure};
use crate::metrics::flow_log::FlowLogMetrics;
use rotate::Rotation;

/// Lines that wait to be written.
const QUEUE: usize = 16_384;
/// A line is on the disk's way after so long.
const FLUSH: Duration = Duration::from_secs(1);

/// The way to the log.
#[derive(Debug)]
pub struct Journal {
    /// `None` once it is closed.
    lines: Mutex<Option<SyncSender<Line>>>,
    counts: FlowLogMetrics,
}

impl Journal {
    /// Opens the log, if there shall be one, and begins to write.
    ///
    /// # Errors
    /// The file can't be opened: better known at the start.
    pub fn open(options: &FlowLogOptions, counts: FlowLogMetrics) -> Result<Option<(Self, JoinHandle<()>)>, Failure> {
        let Some(path) = &options.flow_log else { return Ok(None) };
        let output = Output::open(path, options).map_err(|error| {
            let error = anyhow::Error::from(error).context(format!("cannot open the flow log {}", path.display()));
            Failure::new(Exit::Config, error, "name a file in a directory that exists, or leave --flow-log out")
        })?;
        let (lines, queue) = mpsc::sync_channel(QUEUE);
        let mut writer = Writer { output, queue, counts: counts.clone(), told: 0, complained: None };
        let thread =
            std::thread::Builder::new().name("flow-log".to_owned()).spawn(move || writer.run()).map_err(|error| {
                let error = anyhow::Error::from(error).context("cannot start the flow log's thread");
                Failure::new(Exit::OsErr, error, "see whether the limit on processes is exhausted")
            })?;
        Ok(Some((Self { lines: Mutex::new(Some(lines)), counts }, thread)))
    }

    /// Has a line written; where there is no room it is counted.
    pub fn put(&self, line: Line) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.as_ref().is_some_and(|lines| lines.try_send(line).is_err()) {
            self.counts.missed.inc();
        }
    }

    /// Takes no more; the writer ends once everything is written.
    pub fn close(&self) {
        drop(self.lines.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// Where lines go.
enum Output {
    Standard(io::Stdout),
    File { path: PathBuf, file: BufWriter<File>, size: u64, since: SystemTime, rotation: Rotation },
}

impl Output {
    fn open(path: &Path, options: &FlowLogOptions) -> io::Result<Self> {
        if path.as_os_str() == "-" {
            return Ok(Self::Standard(io::stdout()));
        }
        let file = append(path)?;
        let data = file.metadata()?;
        Ok(Self::File {
            path: path.to_owned(),
            size: data.len(),
            since: if data.len() == 0 { SystemTime::now() } else { data.created().or_else(|_| data.modified())? },
            file: BufWriter::new(file),
            rotation: Rotation::new(options),
        })
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        match self {
            Self::Standard(out) => out.write_all(text),
            Self::File { file, size, .. } => {
                file.write_all(text)?;
                *size += text.len() as u64;
                Ok(())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Standard(out) => out.flush(),
            Self::File { path, file, size, since, rotation } => {
                file.flush()?;
                if rotation.is_due(*size, *since) {
                    rotation.rotate(path)?;
                    *file = BufWriter::new(append(path)?);
                    (*size, *since) = (0, SystemTime::now());
                }
                Ok(())
            }
        }
    }

    /// What is in the buffer could not be written, and would be tried again with each line: it is let go.
    fn reopen(&mut self) -> io::Result<()> {
        if let Self::File { path, file, .. } = self {
            let fresh = BufWriter::new(append(path)?);
            drop(std::mem::replace(file, fresh).into_parts());
        }
        Ok(())
    }
}

/// Opens a log for the agent's user alone: who talks to whom is nobody else's business.
fn append(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

struct Writer {
    output: Output,
    queue: Receiver<Line>,
    counts: FlowLogMetrics,
    /// Missed lines that the log says were missed.
    told: u64,
    complained: Option<Instant>,
}

impl Writer {
    fn run(&mut self) {
        let mut dirty = 0;
        let mut flushed = Instant::now();
        loop {
            match self.queue.recv_timeout(FLUSH) {
                Ok(line) => {
                    dirty += u64::from(self.write(&line));
                    if flushed.elapsed() < FLUSH {
                        continue;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.flush(dirty);
                    return;
                }
            }
            self.flush(std::mem::take(&mut dirty));
            flushed = Instant::now();
        }
    }

    /// Whether it was written.
    fn write(&mut self, line: &Line) -> bool {
        let missed = self.counts.missed.get();
        if missed > self.told {
            let gap = Line::Missed { missed: missed - self.told };
            if self.put(&gap) {
                self.told = missed;
            }
        }
        let written = self.put(line);
        if !written {
            self.counts.missed.inc();
        }
        written
    }

    fn put(&mut self, line: &Line) -> bool {
        let mut text = serde_json::to_vec(line).expect("a flow has no maps with odd keys");
        text.push(b'\n');
        match self.output.write(&text) {
            Ok(()) => true,
            Err(error) => {
                self.complain(&error);
                false
            }
        }
    }

    fn flush(&mut self, dirty: u64) {
        match self.output.flush() {
            Ok(()) => self.counts.written.inc_by(dirty),
            Err(error) => {
                self.complain(&error);
                self.counts.missed.inc_by(dirty);
                drop(self.output.reopen());
            }
        }
    }

    /// Once a minute is often enough to read of it.
    fn complain(&mut self, error: &io::Error) {
        if self.complained.is_none_or(|at| at.elapsed() >= Duration::from_secs(60)) {
            tracing::warn!(%error, "the flow log can't be written; flows are missing from it until it can: see bulkhead_flow_log_missed_total");
            self.complained = Some(Instant::now());
        }
    }
}
