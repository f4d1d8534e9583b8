//! The `singularity` program.

use std::process::ExitCode;

use singularity::postgres::embedded::{GUARDIAN_ARGUMENT, guardian_main};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == GUARDIAN_ARGUMENT) {
        return guardian_main(args).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    ExitCode::SUCCESS
}
