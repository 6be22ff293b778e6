//! How a program of its own ends: with what was wrong, and what it leaves for the one who looks into it.
#![allow(clippy::print_stdout)]

use std::process::ExitCode;
use tempfile::TempDir;

/// Findings that are printed at most.
const SHOWN: usize = 40;

/// Prints `good`, or the findings; then `dir`, where `what` lies, is kept.
pub fn verdict(wrongs: &[String], good: &str, what: &str, mut dir: TempDir) -> ExitCode {
    if wrongs.is_empty() {
        println!("{good}");
        return ExitCode::SUCCESS;
    }
    dir.disable_cleanup(true);
    println!(
        "WRONG, {} findings; {what} are kept in {}:",
        wrongs.len(),
        dir.path().display()
    );
    for wrong in wrongs.iter().take(SHOWN) {
        println!("  {wrong}");
    }
    ExitCode::FAILURE
}
