//! Modules in a sandbox: the only crate that knows wasmtime.
//!
//! [`Sandbox`] holds the engine, its epoch clock and the cache of compiled artifacts; [`Sandbox::load`] turns the bytes
//! of a component into a [`Module`], and [`Module::instance`] gives a [`task::Processor`] for one task. A guest has
//! linear memory, the imports of `wit/` and nothing else: no WASI, no clock, no files. Records cross as columns, one
//! copy per column and direction. The host functions are in one file per WIT interface: `log`, `state`, `timers`, and
//! `http`, `env`, `clock`, `random` for what a pipeline grants beyond. What is behind those is an [`Outside`] that the host
//! brings along; here is only who may call.

mod aggregate;
mod answer;
mod artifact;
mod bindings;
mod clock;
mod closure;
mod columns;
mod contract;
mod description;
mod engine;
mod env;
mod error;
mod exports;
mod failure;
mod host;
mod http;
mod instance;
mod log;
mod module;
mod outside;
mod random;
mod settings;
mod state;
#[cfg(test)]
mod tests;
mod timers;

pub use engine::{CACHED_ARTIFACTS_MAX, EPOCH_MS, Sandbox, SandboxOptions};
pub use error::Error;
pub use instance::{InstanceOptions, TaskName};
pub use log::{GuestLine, LogSink};
pub use module::Module;
pub use outside::{Allowance, Cause, Outside, Problem, Request, Response};
