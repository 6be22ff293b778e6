//! Exit codes. Commands use anyhow; a [`Exit`] in the chain says which code the process ends with.

use server::api::Problem;

/// 0 done, 1 the caller's fault, 2 wrong usage (clap's own), 3 the node, the broker or we failed, 4 to 6 answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    User = 1,
    Ours = 3,
    PlanHasChanges = 4,
    CasesFailed = 5,
    RolledBack = 6,
}

/// An error with an exit code. Anything without one is the user's fault: a file that is not there, a bad argument.
#[derive(Debug)]
pub struct Exit {
    pub code: Code,
    pub message: String,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Exit {}

impl Exit {
    pub fn ours(message: impl Into<String>) -> anyhow::Error {
        Self {
            code: Code::Ours,
            message: message.into(),
        }
        .into()
    }

    /// A code alone: everything was said already.
    pub fn silent(code: Code) -> anyhow::Error {
        Self {
            code,
            message: String::new(),
        }
        .into()
    }
}

/// A refusal of the node: its status says whose fault it is.
pub fn refused(status: u16, problem: &Problem) -> anyhow::Error {
    let code = if status < 500 { Code::User } else { Code::Ours };
    Exit {
        code,
        message: problem.message.clone(),
    }
    .into()
}

/// A node that does not start: a directory, an address or a setting is the user's, a broker or a damaged log is not.
pub fn not_started(refusal: &server::Refusal) -> anyhow::Error {
    let code = if refusal.fault == server::Fault::Invalid {
        Code::User
    } else {
        Code::Ours
    };
    Exit {
        code,
        message: refusal.message.clone(),
    }
    .into()
}

/// The process's exit code for an error, after it was printed.
pub fn report(error: &anyhow::Error) -> u8 {
    let exit = error.downcast_ref::<Exit>();
    let text = format!("{error:#}");
    let text = text.trim_end();
    // Diagnostics of a pipeline file begin with `error[CODE]` each.
    if text.starts_with("error[") {
        anstream::eprintln!("{text}");
    } else if !text.is_empty() {
        anstream::eprintln!("error: {text}");
    }
    exit.map_or(Code::User, |exit| exit.code) as u8
}
