//! The agent of another layout that the tests upgrade to: the feature of this name makes it differ.

use std::process::ExitCode;

fn main() -> ExitCode {
    bulkhead::cli::main()
}
