//! Rows of a table under the key of their group.

use record::{Batch, BatchBuilder};
use topology::Selector;

use crate::change::{Change, encode};
use crate::select::select_of;
use crate::{Applied, Error, Stage};

#[derive(Clone, Debug)]
pub struct TableGrouper {
    selector: Selector,
}

impl TableGrouper {
    pub fn new(selector: Selector) -> Self {
        Self { selector }
    }

    /// Each row becomes what its group is to take out and to add ([`crate::change`]): one row where the group stays the
    /// same, else one for the old group, then one for the new one. A half whose group is null is left out.
    ///
    /// # Errors
    /// [`Error::Row`] for a value that is not JSON where a field of it is the group.
    pub fn apply(&self, batch: &Batch) -> Result<Applied, Error> {
        let mut rows = BatchBuilder::with_capacity(batch.len(), 16 * batch.len(), 32 * batch.len());
        let (mut causes, mut dropped) = (Vec::with_capacity(batch.len()), 0);
        for row in 0..batch.len() {
            let Some(key) = batch.key(row) else {
                dropped += 1;
                continue;
            };
            let fault = |reason| Error::Row {
                row: row as u32,
                stage: Stage::Deserialization,
                reason,
            };
            // A value that is not there has no group, whatever the key says.
            let half = |value: Option<&[u8]>| match value {
                None => Ok(None),
                Some(value) => select_of(&self.selector, Some(key), Some(value))
                    .map(|group| group.map(|group| (group.into_owned(), value.to_vec()))),
            };
            let old = half(batch.old(row).map(|(_, value)| value)).map_err(fault)?;
            let new = half(batch.value(row)).map_err(fault)?;
            let time = batch.timestamps().get(row).copied().unwrap_or_default();
            let headers = batch.headers().map(|h| h.row(row).to_vec()).unwrap_or_default();
            let mut push = |group: &[u8], old: Option<&[u8]>, new: Option<&[u8]>| {
                let value = encode(Change { old, new });
                rows.push_with_headers(Some(group), value.as_deref(), time, headers.clone());
                causes.push(row as u32);
            };
            match (&old, &new) {
                (Some((from, old)), Some((to, new))) if from == to => push(to, Some(old), Some(new)),
                _ => {
                    if let Some((from, old)) = &old {
                        push(from, Some(old), None);
                    }
                    if let Some((to, new)) = &new {
                        push(to, None, Some(new));
                    }
                }
            }
        }
        Ok(Applied {
            rows: rows.finish(),
            causes: Some(causes),
            dropped,
        })
    }
}
