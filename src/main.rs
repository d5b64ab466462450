//! The command line of rag-api.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
