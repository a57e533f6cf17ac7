//! `bulkhead detach`: nothing is enforced any more.

use std::path::PathBuf;

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use crate::admin::socket::refuse_if_held;
use crate::config::state::StateOptions;
use crate::config::{AdminOptions, DEFAULT_BPFFS};
use crate::exit::{Exit, Failure};
use crate::kernel;
use crate::trail::{self, Said};

/// Options of `bulkhead detach`.
#[derive(Args, Clone, Debug)]
pub struct DetachOptions {
    /// Where bpffs is mounted, as the agent was told
    #[arg(long, env = "BULKHEAD_BPFFS", hide_env_values = true, value_name = "PATH", default_value = DEFAULT_BPFFS)]
    bpffs: PathBuf,
    #[command(flatten)]
    admin: AdminOptions,
    #[command(flatten)]
    state: StateOptions,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `bulkhead detach --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct DetachView {
    /// What was taken out: pins and attachments.
    removed: Vec<String>,
}

/// Removes everything that was pinned, and says what that was.
pub(super) fn detach(options: &DetachOptions) -> Result<(), Failure> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::message(Exit::NoPerm, "only root can take programs out of the kernel", "use sudo"));
    }
    // A running agent holds links of its own: it would go on enforcing.
    super::wait(refuse_if_held(&options.admin.admin))?;
    let removed = kernel::pin::detach(&options.bpffs).map_err(|error| match error.downcast::<Failure>() {
        Ok(failure) => failure,
        Err(error) => Failure::new(
            Exit::OsErr,
            error.context(format!("cannot remove everything below {}", options.bpffs.display())),
            "stop the agent and try again",
        ),
    })?;
    if !removed.is_empty() {
        note(options);
    }
    if options.json {
        return super::put(&super::json(&DetachView { removed }));
    }
    if removed.is_empty() {
        return super::put("nothing was attached\n");
    }
    super::put(&removed.iter().map(|what| format!("removed {what}\n")).collect::<String>())
}

/// An entry in the trail, where an agent left one.
fn note(options: &DetachOptions) {
    let path = trail::path(&options.state.state);
    if !path.exists() {
        return;
    }
    let cause = format!("`bulkhead detach` by user {}", nix::unistd::getuid());
    let said = Said { kind: "agent", what: "detached", cause, ..Said::default() };
    if let Err(error) = trail::writer::append(&path, said) {
        eprintln!("bulkhead: the trail {} does not have this: {error}", path.display());
    }
}
