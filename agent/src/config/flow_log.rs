//! Where the log of flows goes, and how much of it is kept.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

/// The flow log.
#[derive(Args, Clone, Debug)]
pub struct FlowLogOptions {
    /// File for every flow, as JSON lines, `-` for standard output; without it there is no flow log
    #[arg(long, env = "BULKHEAD_FLOW_LOG", hide_env_values = true, value_name = "FILE")]
    pub flow_log: Option<PathBuf>,

    /// Size in MiB at which the flow log is rotated
    #[arg(
        long,
        env = "BULKHEAD_FLOW_LOG_SIZE",
        hide_env_values = true,
        value_name = "MIB",
        default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub flow_log_size: u32,

    /// Age at which the flow log is rotated, as 30d, 12h, 10m or 5s
    #[arg(
        long,
        env = "BULKHEAD_FLOW_LOG_AGE",
        hide_env_values = true,
        value_name = "TIME",
        default_value = "1d",
        value_parser = super::length_of_time
    )]
    pub flow_log_age: Duration,

    /// Rotated flow logs that are kept, compressed; older ones are removed
    #[arg(
        long,
        env = "BULKHEAD_FLOW_LOG_KEEP",
        hide_env_values = true,
        value_name = "N",
        default_value_t = 7,
        value_parser = clap::value_parser!(u32).range(0..=1_000)
    )]
    pub flow_log_keep: u32,
}
