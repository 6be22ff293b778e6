//! The log's formats on disk, one value at a time, without a log: for the fuzz targets.

use crate::book::check_entry;
use crate::chunk::Chunk;

/// Reads a stored chunk, with its headers, and looks at every record in it.
///
/// # Errors
/// What makes no sense in it.
pub fn check_chunk(stored: &[u8]) -> Result<(), String> {
    let chunk = Chunk::read(stored, true)?;
    let mut last = None;
    for row in 0..chunk.batch.len() {
        let (_, _) = (chunk.batch.key(row), chunk.batch.value(row));
        let delta = chunk.delta(row);
        if delta >= chunk.span || chunk.row_at(delta) > row {
            return Err(format!("row {row} of a chunk is at {delta} of {}", chunk.span));
        }
        if last.replace(delta).is_some_and(|last| last > delta) {
            return Err(format!("row {row} of a chunk is before the one before it"));
        }
    }
    Ok(())
}

/// Reads an entry of the log's book: topics, starts, offsets, epochs.
///
/// # Errors
/// What makes no sense in it.
pub fn check_book_entry(key: &[u8], value: &[u8]) -> Result<(), String> {
    check_entry(key, value)
}
