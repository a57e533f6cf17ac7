//! `bulkhead schema` and `bulkhead completions`: what editors and shells want to know.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use crate::exit::Failure;
use crate::policy::document::{crd, schema};

/// Options of `bulkhead completions`.
#[derive(Args, Clone, Debug)]
pub struct CompletionsOptions {
    /// The shell
    shell: Shell,
}

/// Options of `bulkhead schema`.
#[derive(Args, Clone, Debug)]
pub struct SchemaOptions {
    /// Print the custom resource definitions for a Kubernetes cluster instead, as YAML
    #[arg(long)]
    crds: bool,
}

/// Prints the JSON Schema of policy documents, or the custom resource definitions.
pub(super) fn schema(options: &SchemaOptions) -> Result<(), Failure> {
    if options.crds {
        return super::put(&crd::yaml());
    }
    super::put(&format!("{:#}\n", schema::schema()))
}

/// Prints the completion script.
pub(super) fn completions(options: &CompletionsOptions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "bulkhead", &mut script);
    super::put(&String::from_utf8_lossy(&script))
}
