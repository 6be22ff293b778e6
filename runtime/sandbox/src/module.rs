//! A loaded module: compiled, linked, described, ready to be instantiated for a task.

use std::fmt;
use std::sync::Arc;

use task::Processor;
use task::processor::Failure;
use topology::Limits;
use topology::description::ModuleDescription;
use wasmtime::{Store, UpdateDeadline};

use crate::description;
use crate::engine::EPOCH_MS;
use crate::error::Error;
use crate::exports::Exports;
use crate::failure;
use crate::host::{DeclaredStore, Host};
use crate::instance::{Instance, InstanceOptions, TaskName};
use crate::log::Log;

/// Beside the fuel for the bytes of an answer: its lists and strings of no length cost some as well.
const RESULT_SLACK_BYTES: u64 = 64 << 10;

/// Resources of the component model that an instance may hold; the contract has none yet.
const HANDLES_MAX: usize = 1_000;

/// One component. Cloning shares it.
#[derive(Clone)]
pub struct Module {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) exports: Exports,
    pub(crate) description: ModuleDescription,
    pub(crate) stores: Arc<[DeclaredStore]>,
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module")
            .field("name", &self.name())
            .field("digest", &self.digest())
            .finish()
    }
}

impl Module {
    /// Asks the module who it is, in an instance that is thrown away and whose imports trap.
    pub(crate) fn describe(digest: String, exports: Exports) -> Result<Self, Error> {
        let log = Log::new(format!("sha256:{digest}"), TaskName::default(), 0);
        let mut store = new_store(&exports, Host::new(Arc::new([]), Limits::default(), log));
        let (described, plan) = exports
            .instantiate(&mut store)
            .and_then(|guest| {
                let described = guest.module.call_describe(&mut store)?;
                // With parameters it has as many topologies as settings.
                let topology = guest.topology().filter(|_| described.parameters.is_empty());
                let plan = topology.map(|topology| {
                    start_call(&mut store);
                    topology.call_build(&mut store, &[])
                });
                Ok((described, plan.transpose()?))
            })
            .map_err(|error| match failure::of_call(&error, store.data_mut()) {
                Failure::Trap { cause, backtrace } if !backtrace.is_empty() => {
                    Error::Describe(format!("{cause}\nbacktrace:\n{backtrace}"))
                }
                failure => Error::Describe(failure.to_string()),
            })?;
        let plan = plan.transpose().map_err(|reason| {
            let reason = crate::answer::said(reason);
            Error::Describe(format!("its topology cannot be built: {reason}"))
        })?;
        let mut description = description::convert(described, &digest).map_err(Error::Describe)?;
        description.world = exports.world();
        description.plan = plan.map(description::plan);
        let stores = description.stores.iter().map(|store| DeclaredStore {
            name: store.name.clone(),
            read_only: store
                .options
                .iter()
                .any(|o| o.name == "shared" && o.value.trim() == "true"),
        });
        let stores = stores.collect();
        Ok(Self {
            inner: Arc::new(Inner {
                exports,
                description,
                stores,
            }),
        })
    }

    /// Hex sha-256 of the component's bytes.
    pub fn digest(&self) -> &str {
        &self.inner.description.digest
    }

    /// `name@version`.
    pub fn name(&self) -> String {
        format!("{}@{}", self.inner.description.name, self.inner.description.version)
    }

    /// What the module says about itself. Name and version are usable; the words in it are checked by `pipeline`.
    pub fn description(&self) -> &ModuleDescription {
        &self.inner.description
    }

    /// The code of one step in one task. It is instantiated by the first [`Processor::open`], and again by the
    /// `open` after a [`Processor::renew`].
    ///
    /// # Errors
    /// [`Error::World`] when the options are for another world, [`Error::Setting`] when a setting does not fit the module's parameters, [`Error::NotGranted`] when its description
    /// wants more than the options grant.
    pub fn instance(&self, options: InstanceOptions) -> Result<Box<dyn Processor>, Error> {
        Ok(Box::new(Instance::new(self.clone(), options)?))
    }
}

/// A wasmtime store with all limits set, its clock running.
pub(crate) fn new_store(exports: &Exports, host: Host) -> Store<Host> {
    let limits = host.limits;
    let mut store = Store::new(exports.engine(), host);
    store.limiter(|host| host);
    let fuel = limits.result_bytes.saturating_add(RESULT_SLACK_BYTES);
    store.set_hostcall_fuel(usize::try_from(fuel).unwrap_or(usize::MAX));
    store.set_max_component_handles(HANDLES_MAX);
    // A call that was away for requests gets that time back; one that was not is over.
    store.epoch_deadline_callback(|mut cx| {
        Ok(match cx.data_mut().reach.take_epochs() {
            0 => UpdateDeadline::Interrupt,
            epochs => UpdateDeadline::Continue(epochs),
        })
    });
    start_call(&mut store);
    store
}

/// The time of the next call (or of an instantiation) counts from here.
pub(crate) fn start_call(store: &mut Store<Host>) {
    // One more, since the running tick is partly over.
    store.data_mut().begin_call();
    let ticks = store.data().limits.call_ms.div_ceil(EPOCH_MS).saturating_add(1);
    store.set_epoch_deadline(ticks);
    store.data_mut().reach.begin_call();
}
