//! `bulkhead run`.

use crate::config::RunOptions;
use crate::exit::Failure;
use crate::surface::Surface;

/// Enforces until stopped.
pub(super) fn run(options: RunOptions) -> Result<(), Failure> {
    crate::log::init(options.log_format, &options.log_level)?;
    options.uplinks()?;
    super::wait(async { Surface::bind(&options).await.map(drop) })
}
