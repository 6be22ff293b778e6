//! What the host suffers while it loads modules. What a guest does in a call is a [`task::processor::Failure`].

use std::path::PathBuf;

use topology::grants::Ungranted;

/// Why a module cannot be used, or the sandbox not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes are something else than a component.
    #[error("{found}, not a WebAssembly component\nhint: {hint}")]
    NotAComponent { found: String, hint: &'static str },
    /// A component, but not one for this host.
    #[error("{0}")]
    Contract(String),
    /// It wants what no pipeline can grant.
    #[error("{0}")]
    Import(String),
    #[error("the component does not compile: {0}")]
    Compile(String),
    /// `describe` trapped, took too long, or described something impossible.
    #[error("{0}")]
    Describe(String),
    /// A closure is asked of a processor, or a whole step of an application.
    #[error("module `{module}` is {is}, and its step needs {needs}")]
    World {
        module: String,
        is: &'static str,
        needs: &'static str,
    },
    #[error("setting `{name}`: {cause}")]
    Setting { name: String, cause: String },
    /// Its description wants what the step does not grant.
    #[error("module `{module}` {}", .lacking.iter().map(ToString::to_string).collect::<Vec<_>>().join("; it "))]
    NotGranted { module: String, lacking: Vec<Ungranted> },
    /// The artifact cache holds native code, so it must belong to this user alone.
    #[error("the directory `{path}` for compiled modules {cause}\nhint: {hint}", path = .path.display())]
    Cache { path: PathBuf, cause: String, hint: String },
    #[error("the sandbox cannot start: {0}")]
    Engine(String),
}

impl Error {
    /// The module itself is at fault: another try with the same bytes gives the same.
    pub fn is_about_the_module(&self) -> bool {
        !matches!(self, Self::Cache { .. } | Self::Engine(_))
    }
}
