//! `bulkhead schema` and `bulkhead completions`: what editors and shells want to know.

use clap::builder::PossibleValuesParser;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use super::shape::SHAPES;
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
    /// Print the JSON Schema of what this subcommand prints with --json instead
    #[arg(
        long, value_name = "SUBCOMMAND", conflicts_with = "crds",
        value_parser = PossibleValuesParser::new(SHAPES.iter().map(|shape| shape.name)),
    )]
    output: Option<String>,
}

/// Prints the JSON Schema of policy documents or of an output, or the custom resource definitions.
pub(super) fn schema(options: &SchemaOptions) -> Result<(), Failure> {
    if options.crds {
        return super::put(&crd::yaml());
    }
    let output = SHAPES.iter().find(|shape| options.output.as_deref() == Some(shape.name));
    super::put(&format!("{:#}\n", output.map_or_else(schema::schema, super::shape::Shape::schema)))
}

/// Prints the completion script.
pub(super) fn completions(options: &CompletionsOptions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "bulkhead", &mut script);
    super::put(&String::from_utf8_lossy(&script))
}
