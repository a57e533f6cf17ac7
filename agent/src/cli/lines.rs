//! Flows out of files: JSON lines, compressed or not, or on standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::exit::{Exit, Failure};
use crate::flow::record::Line;

/// The first bytes of a file that gzip wrote (RFC 1952, section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Hands each line of a file to `take`; `-` is standard input.
///
/// # Errors
/// The file can't be read, a line is no flow, or `take` fails.
pub(super) fn lines(path: &Path, mut take: impl FnMut(Line) -> Result<(), Failure>) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        let error = anyhow::Error::from(error).context(format!("cannot read {}", path.display()));
        Failure::new(Exit::IoErr, error, "name a file that there is, or `-` for standard input")
    };
    let input: Box<dyn Read> =
        if path.as_os_str() == "-" { Box::new(io::stdin()) } else { Box::new(File::open(path).map_err(failed)?) };
    let mut input = BufReader::new(input);
    let is_compressed = input.fill_buf().map_err(failed)?.starts_with(&GZIP);
    let input: Box<dyn BufRead> =
        if is_compressed { Box::new(BufReader::new(MultiGzDecoder::new(input))) } else { Box::new(input) };
    for (number, text) in (1..).zip(input.lines()) {
        let text = text.map_err(failed)?;
        if text.trim().is_empty() {
            continue;
        }
        let line = serde_json::from_str(&text).map_err(|error| {
            let error = anyhow::Error::from(error).context(format!("{}:{number} is no flow", path.display()));
            Failure::new(Exit::Failed, error, "give what `bulkhead flows --json` or --flow-log wrote")
        })?;
        take(line)?;
    }
    Ok(())
}
