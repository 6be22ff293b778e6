//! What a cluster knows of modules and pipelines, kept in two compacted topics (design §13).
//!
//! `wasmill-CLUSTER-control` holds one record a module and a pipeline; `wasmill-CLUSTER-modules` the bytes of modules in
//! chunks, written before the record that names them. Writers compare and set: all use one transactional id, read to
//! the end after `init`, validate, append, and read their record back committed before they act.

mod log;
mod records;

pub use log::{Error, Registry, digest_of, now_ms};
pub use records::{Entry, ModuleRecord, PipelineDetails, PipelineEntry};

/// The bytes of one module, in records of at most this size, below a default broker's limit of 1 MiB.
const CHUNK_BYTES_MAX: usize = 512 << 10;
/// A module larger than this is refused: Python components have 18 MB.
pub const MODULE_BYTES_MAX: usize = 128 << 20;

/// The cluster's control topic; stream threads read it too.
pub fn control_topic(cluster: &str) -> String {
    format!("wasmill-{cluster}-control")
}

/// Reads one record of the control topic as a node does; for the fuzz targets.
///
/// # Errors
/// What makes no sense in it.
pub fn check_record(key: &str, value: Option<&[u8]>) -> Result<(), String> {
    records::View::default().apply(key, value).map_err(|e| e.to_string())
}
