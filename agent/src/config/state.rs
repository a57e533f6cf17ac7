//! Where an agent keeps what shall outlive it, beside what is enforced.

use std::path::PathBuf;

use clap::Args;

/// Where state is kept, unless told otherwise.
pub const DEFAULT: &str = "/var/lib/bulkhead";

/// The state directory.
#[derive(Args, Clone, Debug)]
pub struct StateOptions {
    /// Directory for what shall outlive the agent: who talked to whom, and when rules decided
    #[arg(long, env = "BULKHEAD_STATE", hide_env_values = true, value_name = "DIR", default_value = DEFAULT)]
    pub state: PathBuf,
}
