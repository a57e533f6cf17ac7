//! The `bulkhead` program: the command line in, an exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    bulkhead::cli::main()
}
