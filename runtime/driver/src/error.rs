//! Why a topology cannot go on.

use task::TaskId;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("nothing reads topic `{0}`")]
    UnknownTopic(String),
    #[error("step `{step}`: {cause}")]
    Processor { step: String, cause: String },
    #[error("task {id}: {error}")]
    Task { id: TaskId, error: Box<task::Error> },
    #[error("global table `{table}`: {cause}")]
    Global { table: String, cause: String },
    /// What the changelog of a store gives is not what the store holds: a defect of the engine.
    #[error("store `{store}` and its changelog differ")]
    Changelog { store: String },
    /// Records that go in a circle, or punctuations that make each other due.
    #[error("the topology does not come to rest after {runs} runs")]
    Restless { runs: usize },
}
