//! What a command said: exit code, data on stdout, talk on stderr.

use serde_json::Value;
use std::process::{Command, Output};

#[derive(Debug)]
pub struct Told {
    /// -1 after a signal.
    pub code: i32,
    pub out: String,
    pub err: String,
    /// As it was typed, for messages.
    command: String,
}

impl Told {
    /// Runs `command` to its end.
    pub fn by(command: &mut Command) -> Self {
        let shown = format!("{command:?}");
        Self::from(
            command
                .output()
                .unwrap_or_else(|e| panic!("failed to run {shown}: {e}")),
            shown,
        )
    }

    pub fn from(output: Output, command: String) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self {
            code: output.status.code().unwrap_or(-1),
            out: text(output.stdout),
            err: text(output.stderr),
            command,
        }
    }

    /// Exit code 0, or the test ends with all that was said.
    pub fn done(self) -> Self {
        self.exits(0)
    }

    pub fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "exit code of {}\nstdout: {}\nstderr: {}",
            self.command, self.out, self.err
        );
        self
    }

    /// Every one of `parts` stands in what was said for people.
    pub fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(
                self.err.contains(part),
                "`{part}` is not in what {} says:\n{}",
                self.command,
                self.err
            );
        }
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{}: {e} in {}", self.command, self.out))
    }
}
