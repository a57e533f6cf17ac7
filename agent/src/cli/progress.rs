//! What a command is busy with, on standard error: only on a terminal, and only once it has taken a second.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What takes less needs no word.
const PATIENCE: Duration = Duration::from_secs(1);

/// Tells until it is dropped; the line is gone then.
pub(super) struct Progress {
    telling: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Begins to tell of `what`, as "reading 300 files".
    pub(super) fn begin(what: impl Into<String>) -> Self {
        let telling = io::stderr().is_terminal().then(|| {
            let (done, wait) = mpsc::channel();
            let what = what.into();
            (done, thread::spawn(move || tell(&what, PATIENCE, &wait, &mut io::stderr())))
        });
        Self { telling }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((done, thread)) = self.telling.take() {
            drop(done);
            // Joined, so that the line is gone before anything else is written.
            let _ = thread.join();
        }
    }
}

/// Writes a line that counts seconds, until nobody is left to wait for. That nobody reads it is no error.
fn tell(what: &str, patience: Duration, wait: &mpsc::Receiver<()>, out: &mut impl Write) {
    let began = Instant::now();
    let mut has_told = false;
    while wait.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
        has_told = true;
        let _ = write!(out, "\r{what}: {} s\x1b[K", began.elapsed().as_secs());
        let _ = out.flush();
    }
    if has_told {
        let _ = write!(out, "\r\x1b[K");
        let _ = out.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quick_says_nothing() {
        let (done, wait) = mpsc::channel();
        drop(done);
        let mut out = Vec::new();
        tell("reading", Duration::from_secs(60), &wait, &mut out);
        assert_eq!(out, b"");
    }

    #[test]
    fn what_takes_long_is_told_and_wiped_at_the_end() {
        /// Ends the waiting at the first word.
        struct Out(Vec<u8>, Option<mpsc::Sender<()>>);
        impl Write for Out {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.1 = None;
                self.0.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (done, wait) = mpsc::channel();
        let mut out = Out(Vec::new(), Some(done));
        tell("reading 300 files", Duration::from_millis(1), &wait, &mut out);
        let said = String::from_utf8(out.0).expect("text");
        assert!(said.starts_with("\rreading 300 files: 0 s") && said.ends_with("\r\x1b[K"), "{said:?}");
    }
}
