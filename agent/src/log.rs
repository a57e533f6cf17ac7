//! The agent's own log: tracing to standard error, as text or JSON lines.
//!
//! What the kernel side logs arrives through aya-log as records of the `log` crate; installing the subscriber also installs
//! the bridge that carries those over, so both end in one stream under one filter.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;
use crate::exit::{Exit, Failure};

/// Starts logging. Called once, before anything logs.
///
/// # Errors
/// A filter that cannot be parsed, or a second call.
pub fn init(format: LogFormat, filter: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::message(
            Exit::Usage,
            format!("--log-level `{filter}` is no filter: {error}"),
            "write a level (error, warn, info, debug, trace) or directives such as `info,bulkhead::flow=warn`",
        )
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        // It would tell of a line that it cannot write where it cannot write, and the attempt ends the agent.
        .log_internal_errors(false);
    let installed = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    installed.map_err(|error| Failure::message(Exit::Software, error, "start logging once only"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_makes_no_sense_is_a_usage_error() {
        let failure = init(LogFormat::Text, "bulkhead=loud").expect_err("no such level");
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.to_string().contains("bulkhead=loud"), "{failure}");
    }

    #[test]
    fn records_of_the_log_crate_reach_the_subscriber() {
        init(LogFormat::Json, "off").expect("the only test that starts logging");
        assert_eq!(tracing_log::log::max_level(), tracing_log::log::LevelFilter::Off);
        assert!(tracing_log::LogTracer::init().is_err(), "the bridge is installed already");
    }
}
