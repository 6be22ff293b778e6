//! The hot swap of running code (design §11): what the record says ([`terms`]), what tasks report ([`report`]), what
//! comes next ([`drive`]), how the threads of a node agree ([`ballot`]).
//!
//! The record decides which version a task runs: [`PipelineRecord::versions`](crate::control::PipelineRecord::versions)
//! while no swap is under way; else by the swap's phase and, while tasks switch, by the task's own marker.

pub mod ballot;
pub mod drive;
pub mod report;
pub mod terms;

mod back;
mod hold;
mod marker;
pub(crate) mod part;
mod shadow;
mod start;
mod thread;

pub(crate) use start::Code;
pub(crate) use thread::Exchange;

pub use ballot::Ballot;
pub use report::{Report, ReportState, Sample, Shadow};
pub use terms::{
    Bounds, Change, Migration, ModuleVersion, Outcome, Part, Phase, Probation, Ran, Swap, Versions, Written,
};
