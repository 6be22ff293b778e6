//! What a node answers when it does not do what it was asked: a status, a code for scripts, a text for people.

use crate::api::Problem;

/// Whose fault it is decides the status of REST and the exit code of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 400: what was sent cannot be done.
    Invalid,
    /// 401: no token, or another one.
    Unauthorized,
    /// 404.
    NotFound,
    /// 409: it stands against what is there.
    Conflict,
    /// 503: not now; a broker, or a task that restores.
    Unavailable,
    /// 500.
    Ours,
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub fault: Fault,
    pub code: &'static str,
    pub message: String,
}

impl Refusal {
    pub fn new(fault: Fault, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            fault,
            code,
            message: message.into(),
        }
    }

    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Fault::Invalid, code, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Fault::NotFound, "not-found", message)
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Fault::Conflict, "conflict", message)
    }

    pub fn ours(message: impl Into<String>) -> Self {
        Self::new(Fault::Ours, "internal", message)
    }

    pub fn problem(&self) -> Problem {
        Problem {
            code: self.code.to_owned(),
            message: self.message.clone(),
        }
    }
}

impl From<broker::Error> for Refusal {
    fn from(error: broker::Error) -> Self {
        let (fault, code) = match error.kind {
            broker::ErrorKind::NotFound => (Fault::NotFound, "not-found"),
            broker::ErrorKind::Unavailable | broker::ErrorKind::Unstable => (Fault::Unavailable, "unavailable"),
            broker::ErrorKind::Configuration | broker::ErrorKind::Refused => (Fault::Invalid, "refused-by-broker"),
            _ => (Fault::Ours, "broker"),
        };
        Self::new(fault, code, format!("failed to {error}"))
    }
}

impl From<crate::registry::Error> for Refusal {
    fn from(error: crate::registry::Error) -> Self {
        match error {
            crate::registry::Error::Broker(error) => error.into(),
            crate::registry::Error::Refused(text) => Self::conflict(text),
            crate::registry::Error::Contended => Self::new(Fault::Unavailable, "contended", error.to_string()),
            other => Self::ours(format!("failed to use the registry: {other}")),
        }
    }
}
