//! The glue between the contract's exports and an instance. Used by the macros of this crate only.

pub use crate::bindings::exports::wasmill::streams::module::{Guest as ModuleGuest, Migrated};
pub use crate::bindings::exports::wasmill::streams::processing::Guest as ProcessingGuest;
pub use crate::bindings::wasmill::data::columns::{Batch, Column, Now};
pub use crate::bindings::wasmill::streams::answers::{Answer, Rows};
pub use crate::bindings::wasmill::streams::description::{Description, Setting, Task};

/// What a component can do, as the contract has it, on an instance.
pub trait Component: Sized + 'static {
    /// The description; calls nothing of the host.
    fn describe(name: &str, version: &str, summary: &str) -> Description;
    /// A new instance.
    fn open(settings: Vec<Setting>, task: Task) -> Result<Self, String>;
    /// Rows.
    fn process(&mut self, now: Now, batch: Batch, ports: Vec<u8>) -> Result<Answer, String>;
    /// A schedule that is due.
    fn punctuate(&mut self, now: Now, name: &str) -> Result<Rows, String> {
        let _ = now;
        Err(format!("the module has no schedule `{name}`"))
    }
    /// A page of an older schema's entries.
    fn migrate(store: u32, schema: u32, keys: &Column, values: &Column) -> Result<Migrated, String> {
        let _ = (schema, keys, values);
        Err(format!("the module has no store {store}"))
    }
}

/// Before an instance is opened: from here on a panic is logged.
pub fn begin() {
    crate::log::report_panics();
}

/// What a call answers when the host has not opened an instance, which it must not do.
pub const NOT_OPEN: &str = "called before `open`";

/// Exports a [`Component`] from the guest crate. On the machine there is nothing to export.
#[doc(hidden)]
#[macro_export]
macro_rules! component {
    ($component:ty) => {
        // On the machine this only says that the component is used.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(
            Vec<$crate::component::Setting>,
            $crate::component::Task,
        ) -> ::core::result::Result<$component, String> = <$component as $crate::component::Component>::open;

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::component::{
                Answer, Batch, Column, Component, Description, Migrated, ModuleGuest, Now, ProcessingGuest, Rows,
                Setting, Task,
            };

            ::std::thread_local! {
                static INSTANCE: ::std::cell::RefCell<Option<$component>> = const { ::std::cell::RefCell::new(None) };
            }

            struct Exports;

            impl ModuleGuest for Exports {
                fn describe() -> Description {
                    <$component as Component>::describe(
                        env!("CARGO_PKG_NAME"),
                        env!("CARGO_PKG_VERSION"),
                        env!("CARGO_PKG_DESCRIPTION"),
                    )
                }
                fn open(settings: Vec<Setting>, task: Task) -> Result<(), String> {
                    $crate::component::begin();
                    let instance = <$component as Component>::open(settings, task)?;
                    INSTANCE.with_borrow_mut(|open| *open = Some(instance));
                    Ok(())
                }
                fn migrate(store: u32, schema: u32, keys: Column, values: Column) -> Result<Migrated, String> {
                    $crate::component::begin();
                    <$component as Component>::migrate(store, schema, &keys, &values)
                }
                fn close() {
                    INSTANCE.with_borrow_mut(|open| *open = None);
                }
            }

            impl ProcessingGuest for Exports {
                fn process(now: Now, batch: Batch, ports: Vec<u8>) -> Result<Answer, String> {
                    INSTANCE.with_borrow_mut(|open| match open {
                        Some(instance) => instance.process(now, batch, ports),
                        None => Err($crate::component::NOT_OPEN.to_owned()),
                    })
                }
                fn punctuate(now: Now, name: String) -> Result<Rows, String> {
                    INSTANCE.with_borrow_mut(|open| match open {
                        Some(instance) => instance.punctuate(now, &name),
                        None => Err($crate::component::NOT_OPEN.to_owned()),
                    })
                }
            }

    $crate::bindings::export!(Exports with_types_in $crate::bindings);
        };
    };
}

/// Exports a [`crate::Processor`] as a module. Name, version and summary come from the crate's `Cargo.toml`.
#[macro_export]
macro_rules! processor {
    ($processor:ty) => {
        $crate::component!($crate::component::Running<$processor>);
    };
}

pub use crate::processor::Running;
