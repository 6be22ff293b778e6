//! The engine of a process: its settings, its epoch clock, and the way from bytes to a [`Module`].

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Config, Enabled, Engine, OptLevel, PoolingAllocationConfig, Strategy, WasmBacktraceDetails};

use crate::artifact::Cache;
use crate::bindings::Modules;
use crate::bindings::grantable::Grantable;
use crate::contract;
use crate::error::Error;
use crate::exports::Exports;
use crate::failure::FRAMES_MAX;
use crate::host::Host;
use crate::module::Module;

/// Resolution of the limit on a call's time, in milliseconds: small beside every sensible limit, and 200 wake-ups a
/// second cost nothing that could be measured.
pub const EPOCH_MS: u64 = 5;

/// Stack of a guest. Deep enough for the interpreters that JavaScript and Python guests bring along, a fraction of
/// the 2 MiB that Rust gives a thread, since host functions run on the same stack.
const WASM_STACK_BYTES_MAX: usize = 512 << 10;

/// Compiled artifacts that are kept; the ones unused for longest go first. A Rust guest takes 0.2 MB, JavaScript 32 MB.
pub const CACHED_ARTIFACTS_MAX: usize = 128;

/// Instances at once in a process: tasks, times the modules of each, and new versions beside old ones. Each has 4 GiB of
/// address space to itself, of which 64-bit machines give a process 128 TiB.
pub const INSTANCES_MAX: u32 = 4096;

/// Core modules of a component, on the average; those of Rust have three, of Python a dozen.
const CORE_INSTANCES: u32 = 16;

/// Elements of a table: a guest with a JavaScript engine has some ten thousand.
const TABLE_ELEMENTS_MAX: usize = 1 << 17;

/// Tables and memories of one core module.
const TABLES_MAX: u32 = 4;

/// What a memory or table that was given back keeps of its pages, for the next instance.
const RESIDENT_BYTES: usize = 1 << 20;

/// Memories that wait for an instance of the module that had them before.
const UNUSED_SLOTS_MAX: u32 = 16;

#[derive(Clone, Debug, Default)]
pub struct SandboxOptions {
    /// Where compiled modules are kept. It must belong to this user alone and is created so.
    /// `None`: every load compiles (some 50 ms for a Rust guest, 10 s for JavaScript or Python).
    pub cache_dir: Option<PathBuf>,
}

/// The engine. One per process is meant; cloning shares it.
#[derive(Clone)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    linker: Linker<Host>,
    cache: Option<Cache>,
    /// One for each digest that is being compiled: who comes second takes what the first one made.
    compiling: Mutex<HashMap<String, Arc<Mutex<()>>>>,
}

impl Sandbox {
    /// # Errors
    /// [`Error::Cache`] when the directory is not private, [`Error::Engine`] when this machine cannot run wasmtime.
    pub fn new(options: SandboxOptions) -> Result<Self, Error> {
        // A system that gives a process little address space has no room for the pool.
        let engine = Engine::new(config().allocation_strategy(pool())).or_else(|_| Engine::new(&config()));
        let engine = engine.map_err(|e| Error::Engine(format!("{e:#}")))?;
        let mut linker = Linker::new(&engine);
        Modules::add_to_linker::<Host, HasSelf<Host>>(&mut linker, |host| host)
            .and_then(|()| Grantable::add_to_linker::<Host, HasSelf<Host>>(&mut linker, |host| host))
            .map_err(|e| Error::Engine(format!("{e:#}")))?;
        let cache = options.cache_dir.map(Cache::open).transpose()?;
        start_clock(&engine)?;
        Ok(Self {
            inner: Arc::new(Inner {
                engine,
                linker,
                cache,
                compiling: Mutex::default(),
            }),
        })
    }

    /// Checks, compiles (or takes from the cache) and describes a module.
    ///
    /// # Errors
    /// [`Error::NotAComponent`], [`Error::Contract`], [`Error::Import`], [`Error::Compile`] and [`Error::Describe`] say
    /// what is wrong with the bytes; [`Error::Cache`] when the cache cannot be used.
    pub fn load(&self, bytes: &[u8]) -> Result<Module, Error> {
        contract::check_form(bytes)?;
        let Inner { engine, linker, .. } = &*self.inner;
        let digest = hex(&Sha256::digest(bytes));
        let component = self.inner.component(bytes, &digest)?;
        let world = contract::world(engine, &component)?;
        contract::check_imports(engine, &component)?;
        let misfit = |e: wasmtime::Error| {
            Error::Contract(format!(
                "the component does not fit the contract {}: {e:#}",
                contract::VERSION
            ))
        };
        let pre = linker
            .instantiate_pre(&component)
            .and_then(|pre| Exports::new(pre, world))
            .map_err(misfit)?;
        Module::describe(digest, pre)
    }
}

impl Inner {
    fn component(&self, bytes: &[u8], digest: &str) -> Result<Component, Error> {
        let compile = || Component::from_binary(&self.engine, bytes).map_err(|e| Error::Compile(format!("{e:#}")));
        let Some(cache) = &self.cache else { return compile() };
        let turn = locked(&self.compiling).entry(digest.to_owned()).or_default().clone();
        let _turn = locked(&turn);
        if let Some(component) = cache.load(&self.engine, digest)? {
            return Ok(component);
        }
        let compiled = compile().and_then(|component| {
            let artifact = component.serialize().map_err(|e| Error::Compile(format!("{e:#}")))?;
            cache.save(&self.engine, digest, &artifact)?;
            Ok(component)
        });
        locked(&self.compiling).remove(digest);
        compiled
    }
}

/// What these locks guard is whole at any time, also after a panic of their holder.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn config() -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .epoch_interruption(true)
        .concurrency_support(false)
        .wasm_component_model(true)
        .wasm_backtrace_max_frames(NonZeroUsize::new(FRAMES_MAX))
        // Read from the environment otherwise; names come from the guest's name section either way.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .max_wasm_stack(WASM_STACK_BYTES_MAX)
        .parallel_compilation(true);
    config
}

/// Memories of instances are taken from a pool and are given back to it clean. A mapping that came and went with each
/// instance would interrupt every thread of the process on every core: a module that fails on one record in a hundred
/// takes thousands of instances a second, and cost its neighbour a fifth of its speed.
fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(INSTANCES_MAX)
        .total_core_instances(INSTANCES_MAX * CORE_INSTANCES)
        .total_memories(INSTANCES_MAX)
        .total_tables(INSTANCES_MAX * TABLES_MAX)
        .max_tables_per_module(TABLES_MAX)
        .max_memories_per_module(TABLES_MAX)
        .linear_memory_keep_resident(RESIDENT_BYTES)
        .table_keep_resident(RESIDENT_BYTES)
        .max_unused_warm_slots(UNUSED_SLOTS_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        // Only pages that were touched are cleaned, where the system can tell them (Linux 6.7).
        .pagemap_scan(Enabled::Auto);
    pool
}

/// The thread ends when the engine is gone.
fn start_clock(engine: &Engine) -> Result<(), Error> {
    let engine = engine.weak();
    let tick = move || {
        loop {
            std::thread::sleep(Duration::from_millis(EPOCH_MS));
            match engine.upgrade() {
                Some(engine) => engine.increment_epoch(),
                None => return,
            }
        }
    };
    let spawned = std::thread::Builder::new().name("sandbox-epochs".into()).spawn(tick);
    spawned
        .map(drop)
        .map_err(|e| Error::Engine(format!("no thread for its clock: {e}")))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}
