//! What a module exports, by its world: found once for a module, and bound to each instance of it.

use topology::description::World;
use wasmtime::component::InstancePre;
use wasmtime::{Engine, Result, Store};

use crate::bindings::exports::wasmill::streams::{functions, module, processing, topology as plan};
use crate::host::Host;

/// A component, linked, with the places of its exports.
pub(crate) struct Exports {
    pre: InstancePre<Host>,
    module: module::GuestIndices,
    world: Places,
}

enum Places {
    Processor(processing::GuestIndices),
    Application(Box<(plan::GuestIndices, functions::GuestIndices)>),
}

/// An instance.
pub(crate) struct Guest {
    pub module: module::Guest,
    world: Calls,
}

enum Calls {
    Processor(processing::Guest),
    Application(Box<(plan::Guest, functions::Guest)>),
}

impl Exports {
    pub(crate) fn new(pre: InstancePre<Host>, world: World) -> Result<Self> {
        let world = match world {
            World::Processor => Places::Processor(processing::GuestIndices::new(&pre)?),
            World::Application => Places::Application(Box::new((
                plan::GuestIndices::new(&pre)?,
                functions::GuestIndices::new(&pre)?,
            ))),
        };
        Ok(Self {
            module: module::GuestIndices::new(&pre)?,
            pre,
            world,
        })
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.pre.engine()
    }

    pub(crate) fn world(&self) -> World {
        match self.world {
            Places::Processor(_) => World::Processor,
            Places::Application(_) => World::Application,
        }
    }

    pub(crate) fn instantiate(&self, store: &mut Store<Host>) -> Result<Guest> {
        let instance = self.pre.instantiate(&mut *store)?;
        let world = match &self.world {
            Places::Processor(processing) => Calls::Processor(processing.load(&mut *store, &instance)?),
            Places::Application(places) => Calls::Application(Box::new((
                places.0.load(&mut *store, &instance)?,
                places.1.load(&mut *store, &instance)?,
            ))),
        };
        Ok(Guest {
            module: self.module.load(&mut *store, &instance)?,
            world,
        })
    }
}

impl Guest {
    /// Of a processor. An instance is only made for what its module exports, so the error is a mistake of the host.
    pub(crate) fn processing(&self) -> Result<&processing::Guest> {
        match &self.world {
            Calls::Processor(processing) => Ok(processing),
            Calls::Application(_) => Err(wasmtime::format_err!("an application has no `processing`")),
        }
    }

    /// Of an application.
    pub(crate) fn topology(&self) -> Option<&plan::Guest> {
        match &self.world {
            Calls::Processor(_) => None,
            Calls::Application(guests) => Some(&guests.0),
        }
    }

    /// Of an application.
    pub(crate) fn functions(&self) -> Result<&functions::Guest> {
        match &self.world {
            Calls::Processor(_) => Err(wasmtime::format_err!("a processor has no `functions`")),
            Calls::Application(guests) => Ok(&guests.1),
        }
    }
}
