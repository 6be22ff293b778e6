//! What a windowed store keeps: expired entries leave it at commits, a bounded number at a time.

use record::{Batch, BatchBuilder};
use state::{Bounds, Layout, Stores};

use super::{Clock, WindowAggregator};
use crate::Error;

/// Entries that one commit removes from one store at most: each is a tombstone in the changelog.
const SWEPT_MAX: usize = 10_000;

/// What has expired in a store.
pub struct Expiry {
    pub store: usize,
    pub layout: Layout,
    /// Entries of this time or an earlier one.
    pub expired: i64,
    /// The operator's stream time.
    pub observed: i64,
}

/// Removes entries of the operator's store that have expired, before a commit. What is left over goes with the next one.
///
/// # Errors
/// Those of the stores.
pub fn sweep(windows: &WindowAggregator, stores: &mut Stores) -> Result<(), Error> {
    let mut clock = Clock::read(stores, &windows.times)?;
    let before = clock;
    let newest = match windows.windowing.is_sliding() {
        true => clock.started,
        false => clock.observed,
    };
    let expiry = Expiry {
        store: windows.store,
        layout: windows.layout,
        expired: newest.saturating_sub(windows.windowing.retention_ms),
        observed: clock.observed,
    };
    remove_expired(&expiry, &mut clock.oldest, stores)?;
    if clock != before {
        clock.write(stores, &windows.times)?;
    }
    Ok(())
}

/// `oldest`: a lower bound of the times in the store, brought up to date.
pub fn remove_expired(expiry: &Expiry, oldest: &mut i64, stores: &mut Stores) -> Result<(), Error> {
    if *oldest > expiry.expired {
        return Ok(());
    }
    // Whole segments only, so that the first entry that stays ends the search.
    let live = match expiry.layout {
        Layout::Window => expiry.expired.saturating_add(1),
        layout => layout.segment(expiry.expired),
    };
    let upper = live.to_be_bytes();
    let mut keys = Vec::new();
    stores.scan(
        expiry.store,
        &Bounds::half_open(None, Some(&upper)),
        false,
        &mut |key, _| {
            keys.push(key.to_vec());
            keys.len() < SWEPT_MAX
        },
    )?;
    let all = keys.len() < SWEPT_MAX;
    for key in keys {
        stores.write(expiry.store, &key, None, expiry.observed.max(0))?;
    }
    if all {
        *oldest = first_from(expiry, live, stores)?;
    }
    Ok(())
}

/// A lower bound of what is left, as far as it matters when it expires.
fn first_from(expiry: &Expiry, live: i64, stores: &mut Stores) -> Result<i64, Error> {
    let mut oldest = i64::MAX;
    let lower = live.to_be_bytes();
    stores.scan(
        expiry.store,
        &Bounds::half_open(Some(&lower), None),
        false,
        &mut |key, _| {
            if let Some(first) = key.first_chunk::<8>() {
                let first = i64::from_be_bytes(*first);
                oldest = match expiry.layout {
                    Layout::Window => first,
                    // The segment has to be past as a whole.
                    Layout::KeyedWindow { segment_ms } | Layout::Session { segment_ms } => {
                        first.saturating_add(1).saturating_mul(segment_ms)
                    }
                };
            }
            false
        },
    )?;
    Ok(oldest)
}

/// Rows with a store's keys, with those of topics instead.
pub fn wire_keys(layout: Layout, rows: &Batch) -> Batch {
    let mut wire = BatchBuilder::with_capacity(rows.len(), 24 * rows.len(), 16 * rows.len());
    for (row, timestamp) in rows.timestamps().iter().enumerate() {
        let key = rows.key(row).map(|key| layout.wire(key));
        wire.push(key.as_deref(), rows.value(row), *timestamp);
    }
    let wire = wire.finish();
    match rows.olds() {
        Some(olds) => wire.clone().with_olds(olds.clone()).unwrap_or(wire),
        None => wire,
    }
}
