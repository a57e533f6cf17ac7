//! `bulkhead run`.

use crate::config::RunOptions;
use crate::exit::Failure;
use crate::start;

/// Enforces until stopped.
pub(super) fn run(options: RunOptions) -> Result<(), Failure> {
    crate::log::init(options.log_format, &options.log_level)?;
    super::wait(start::run(options))
}
