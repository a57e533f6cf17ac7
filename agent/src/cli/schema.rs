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
    super::put(&script(options.shell))
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "bulkhead", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn shells_understand_their_completions() {
        for (shell, program, arguments) in [
            (Shell::Bash, "bash", ["-n", "/dev/stdin"]),
            (Shell::Zsh, "zsh", ["-n", "/dev/stdin"]),
            (Shell::Fish, "fish", ["--no-execute", "/dev/stdin"]),
        ] {
            let script = script(shell);
            for word in ["explain", "verify", "follow"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
            let child = Command::new(program).args(arguments).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
            let Ok(mut child) = child else {
                assert_ne!(shell, Shell::Bash, "bash is everywhere");
                eprintln!("no {program} here, nobody has read its completions");
                continue;
            };
            child.stdin.take().expect("it is piped").write_all(script.as_bytes()).expect("the shell reads");
            let output = child.wait_with_output().expect("it is our child");
            assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
