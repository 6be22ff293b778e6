//! `wasmill`: the command line. Parses, talks REST to a node (or is one), prints, and turns failures into exit codes.

mod args;
mod cases;
mod client;
mod commands;
mod dev;
mod failure;
mod moment;
mod show;
mod toolchain;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(failure::report(&error)),
    }
}
