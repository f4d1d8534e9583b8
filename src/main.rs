//! The `singularity` program: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    singularity::cli::main()
}
