//! An application: a topology that the host runs, and the closures in it.

use crate::application_bindings::exports::wasmill::streams::functions::{Aggregated, Aggregation};
use crate::application_bindings::exports::wasmill::streams::topology::Plan;
use crate::bindings::wasmill::data::columns::Batch;
use crate::bindings::wasmill::streams::answers::Answer;
use crate::bindings::wasmill::streams::description::Description;
use crate::dsl::{Builder, Draft, Function};

/// A step whose inside is a topology. Export it with [`crate::application!`].
pub trait Application: 'static {
    /// Writes the topology down. Runs to describe the module and once for every instance: it must write the same each
    /// time, and do nothing else.
    fn build(builder: &mut Builder);
}

/// The closures of an instance.
pub struct Built {
    functions: Vec<Function>,
}

fn draft<A: Application>() -> Draft {
    let mut builder = Builder::default();
    A::build(&mut builder);
    builder.take()
}

/// The description of the module.
pub fn describe<A: Application>(name: &str, version: &str, summary: &str) -> Description {
    draft::<A>().describe(name, version, summary)
}

/// The plan, and the functions that its numbers mean.
///
/// # Errors
/// Everything that is wrong with the topology.
pub fn build<A: Application>() -> Result<(Plan, Built), String> {
    let (plan, functions) = draft::<A>().finish()?;
    Ok((plan, Built { functions }))
}

impl Built {
    /// Rows through a closure.
    pub fn transform(&self, function: u32, batch: &Batch) -> Result<Answer, String> {
        match self.functions.get(function as usize) {
            Some(Function::Transform(transform)) => Ok(transform(batch)),
            _ => Err(unknown(function, "transforms")),
        }
    }

    /// Rows into aggregates.
    pub fn aggregate(&self, function: u32, work: &Aggregation) -> Result<Aggregated, String> {
        match self.functions.get(function as usize) {
            Some(Function::Aggregate(aggregate)) => aggregate(work),
            _ => Err(unknown(function, "aggregates")),
        }
    }
}

/// What a call answers for a function that the plan has not.
pub fn unknown(function: u32, does: &str) -> String {
    format!("the application has no function {function} that {does}")
}

#[doc(hidden)]
pub mod exports {
    pub use crate::application_bindings::exports::wasmill::streams::functions::{
        Aggregated, Aggregation, Guest as FunctionsGuest, Joined, Pairs, PartitionChoice, TopicChoice,
    };
    pub use crate::application_bindings::exports::wasmill::streams::module::{Guest as ModuleGuest, Migrated};
    pub use crate::application_bindings::exports::wasmill::streams::topology::{Guest as TopologyGuest, Plan};
    pub use crate::component::{Answer, Batch, Column, Description, NOT_OPEN, Now, Rows, Setting, Task, begin};
}

/// Exports an [`Application`] as a module. Name, version and summary come from the crate's `Cargo.toml`.
#[macro_export]
macro_rules! application {
    ($application:ty) => {
        // On the machine this only says that the application is used.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&mut $crate::dsl::Builder) = <$application as $crate::dsl::Application>::build;

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::application::exports::*;
            use $crate::application::{Built, unknown};

            ::std::thread_local! {
                static BUILT: ::std::cell::RefCell<Option<Built>> = const { ::std::cell::RefCell::new(None) };
            }

            fn with<T>(call: impl FnOnce(&Built) -> Result<T, String>) -> Result<T, String> {
                BUILT.with_borrow(|built| built.as_ref().map_or_else(|| Err(NOT_OPEN.to_owned()), call))
            }

            struct Exports;

            impl ModuleGuest for Exports {
                fn describe() -> Description {
                    $crate::application::describe::<$application>(
                        env!("CARGO_PKG_NAME"),
                        env!("CARGO_PKG_VERSION"),
                        env!("CARGO_PKG_DESCRIPTION"),
                    )
                }
                fn open(_: Vec<Setting>, _: Task) -> Result<(), String> {
                    begin();
                    with(|_| Ok(()))
                }
                fn migrate(store: u32, _: u32, _: Column, _: Column) -> Result<Migrated, String> {
                    Err(format!("the module has no store {store}"))
                }
                fn close() {
                    BUILT.with_borrow_mut(|built| *built = None);
                }
            }

            impl TopologyGuest for Exports {
                fn build(_: Vec<Setting>) -> Result<Plan, String> {
                    let (plan, built) = $crate::application::build::<$application>()?;
                    BUILT.with_borrow_mut(|there| *there = Some(built));
                    Ok(plan)
                }
            }

            impl FunctionsGuest for Exports {
                fn transform(function: u32, _: Now, batch: Batch) -> Result<Answer, String> {
                    with(|built| built.transform(function, &batch))
                }
                fn aggregate(function: u32, work: Aggregation) -> Result<Aggregated, String> {
                    with(|built| built.aggregate(function, &work))
                }
                fn join(function: u32, _: Pairs) -> Result<Joined, String> {
                    Err(unknown(function, "joins"))
                }
                fn topics(function: u32, _: Batch) -> Result<TopicChoice, String> {
                    Err(unknown(function, "chooses topics"))
                }
                fn partitions(function: u32, _: Batch, _: String, _: u32) -> Result<PartitionChoice, String> {
                    Err(unknown(function, "chooses partitions"))
                }
                fn process(function: u32, _: Now, _: Batch, _: Vec<u8>) -> Result<Answer, String> {
                    Err(unknown(function, "processes"))
                }
                fn punctuate(function: u32, _: Now, _: String) -> Result<Rows, String> {
                    Err(unknown(function, "has schedules"))
                }
            }

    $crate::application_bindings::export!(Exports with_types_in $crate::application_bindings);
        };
    };
}
