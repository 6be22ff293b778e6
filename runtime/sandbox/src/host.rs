//! What stands behind a guest's imports for the time of one call, and the limits that count while it runs.

use std::sync::Arc;

use std::time::{Duration, Instant};

use task::processor::Context;
use topology::Limits;
use wasmtime::{ResourceLimiter, Result, Trap, bail, format_err};

use crate::bindings::wasmill::{data, streams};
use crate::log::Log;
use crate::outside::Reach;

/// Bounds that no pipeline can raise: far above what the compilers of Rust, C, Go, Python and JavaScript make.
const TABLE_ELEMENTS_MAX: usize = 1 << 20;
const CORE_INSTANCES_MAX: usize = 1_000;

/// The export that is running: it decides which imports may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Describe,
    /// Of an application's topology, by an instance that is to run.
    Build,
    Open,
    Process {
        rows: u32,
    },
    /// A closure of an application, which has no stores and no schedules of its own.
    Transform,
    Aggregate,
    Punctuate,
    Migrate,
    Close,
}

impl Phase {
    pub(crate) fn export(self) -> &'static str {
        match self {
            Self::Describe => "describe",
            Self::Build => "build",
            Self::Open => "open",
            Self::Process { .. } => "process",
            Self::Transform => "transform",
            Self::Aggregate => "aggregate",
            Self::Punctuate => "punctuate",
            Self::Migrate => "migrate",
            Self::Close => "close",
        }
    }
}

/// What the host functions must know of a store that the module declared.
#[derive(Clone, Debug)]
pub(crate) struct DeclaredStore {
    pub name: String,
    pub read_only: bool,
}

/// More than `limits.result` in one call.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("more than the call may hand over")]
pub(crate) struct TooMuch;

/// The data of a wasmtime store.
pub(crate) struct Host {
    /// Moved in for a call and out again after it.
    pub context: Context,
    pub phase: Phase,
    pub stores: Arc<[DeclaredStore]>,
    pub limits: Limits,
    pub log: Log,
    /// What it may use beyond its world.
    pub reach: Reach,
    /// Why a store of the host failed, when that is what ended the call.
    pub suffered: Option<String>,
    memory_bytes: usize,
    /// When the running call has had its time. The engine's clock interrupts the guest's own code only.
    deadline: Option<Instant>,
    /// Bytes that the running call has written to stores.
    written_bytes: u64,
}

impl Host {
    pub(crate) fn new(stores: Arc<[DeclaredStore]>, limits: Limits, log: Log) -> Self {
        Self {
            context: Context::default(),
            phase: Phase::Describe,
            stores,
            limits,
            log,
            reach: Reach::default(),
            suffered: None,
            memory_bytes: 0,
            deadline: None,
            written_bytes: 0,
        }
    }

    /// What a call may take counts from here.
    pub(crate) fn begin_call(&mut self) {
        self.deadline = Instant::now().checked_add(Duration::from_millis(self.limits.call_ms));
        self.written_bytes = 0;
    }

    /// To be called from time to time by what works long for one call of an import.
    pub(crate) fn check_time(&self) -> Result<()> {
        match self.deadline {
            Some(deadline) if Instant::now() > deadline + self.reach.spent() => Err(Trap::Interrupt.into()),
            _ => Ok(()),
        }
    }

    /// Writes stay in the host's memory until the commit, so they count like an answer.
    pub(crate) fn count_written(&mut self, bytes: usize) -> Result<()> {
        self.written_bytes = self.written_bytes.saturating_add(bytes as u64);
        if self.written_bytes > self.limits.result_bytes {
            return Err(TooMuch.into());
        }
        Ok(())
    }

    /// Traps a call of an import in a phase where it has no meaning.
    pub(crate) fn allow(&self, import: &str, phases: impl Fn(Phase) -> bool) -> Result<()> {
        match self.phase {
            Phase::Describe | Phase::Build => {
                bail!("an import called from `{}` traps: `{import}`", self.phase.export())
            }
            phase if phases(phase) => Ok(()),
            phase => bail!("`{import}` cannot be called from `{}`", phase.export()),
        }
    }

    /// All linear memories of the instance.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }
}

impl ResourceLimiter for Host {
    /// An error, never a plain refusal: that would reach the author as a bare `unreachable`.
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        let wanted = self.memory_bytes.saturating_sub(current).saturating_add(desired);
        if wanted as u64 > self.limits.memory_bytes {
            return Err(format_err!(
                "the module wants {} of memory, and `limits.memory` is {}",
                size(wanted as u64),
                size(self.limits.memory_bytes)
            ));
        }
        self.memory_bytes = wanted;
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        if desired > TABLE_ELEMENTS_MAX {
            return Err(format_err!(
                "the module wants a table of {desired} elements, at most {TABLE_ELEMENTS_MAX} go"
            ));
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        CORE_INSTANCES_MAX
    }

    fn memories(&self) -> usize {
        CORE_INSTANCES_MAX
    }
}

// Interfaces with types and no functions.
impl data::columns::Host for Host {}
impl streams::description::Host for Host {}
impl streams::answers::Host for Host {}

/// Bytes as a pipeline file writes them, rounded up so that "wants" is never shown below the limit it breaks.
pub(crate) fn size(bytes: u64) -> String {
    for (unit, name) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= unit {
            return match bytes.is_multiple_of(unit) {
                true => format!("{}{name}", bytes / unit),
                false => format!("{}.{}{name}", bytes / unit, (bytes % unit * 10).div_ceil(unit).min(9)),
            };
        }
    }
    format!("{bytes} bytes")
}
