//! Modules in a sandbox: the only crate that knows wasmtime.
//!
//! [`Sandbox`] holds the engine, its epoch clock and the cache of compiled artifacts; [`Sandbox::load`] turns the bytes
//! of a component into a [`Module`], and [`Module::instance`] gives a [`task::Processor`] for one task. A guest has
//! linear memory, the imports of `wit/` and nothing else: no WASI, no clock, no files. Records cross as columns, one
//! copy per column and direction. The host functions are in one file per WIT interface: `log`, `state`, `timers`.
//!
//! Grants, outbound HTTP and `migrate` are not here yet.

mod answer;
mod artifact;
mod bindings;
mod columns;
mod contract;
mod description;
mod engine;
mod error;
mod failure;
mod host;
mod instance;
mod log;
mod module;
mod settings;
mod state;
#[cfg(test)]
mod tests;
mod timers;

pub use engine::{CACHED_ARTIFACTS_MAX, EPOCH_MS, Sandbox, SandboxOptions};
pub use error::Error;
pub use instance::{InstanceOptions, TaskName};
pub use module::Module;
