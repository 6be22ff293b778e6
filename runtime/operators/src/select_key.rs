//! A new key for every row.

use arrow_array::builder::BinaryBuilder;
use record::Batch;
use topology::Selector;

use crate::select::select;
use crate::{Applied, Error, Stage};

#[derive(Clone, Debug)]
pub struct KeySelector {
    selector: Selector,
}

impl KeySelector {
    pub fn new(selector: Selector) -> Self {
        Self { selector }
    }

    /// The same rows under their new keys; null where what is selected is null or not there.
    ///
    /// # Errors
    /// [`Error::Row`] for a value that is not JSON where a field of it is selected.
    pub fn apply(&self, batch: &Batch) -> Result<Applied, Error> {
        let keys = match &self.selector {
            Selector::Key => batch.keys().clone(),
            Selector::Value => batch.values().clone(),
            Selector::Field(_) => {
                let mut keys = BinaryBuilder::with_capacity(batch.len(), 16 * batch.len());
                for row in 0..batch.len() {
                    let key = select(&self.selector, batch, row).map_err(|reason| Error::Row {
                        row: row as u32,
                        stage: Stage::Deserialization,
                        reason,
                    })?;
                    keys.append_option(key);
                }
                keys.finish()
            }
        };
        let rows = Batch::new(
            keys,
            batch.values().clone(),
            batch.timestamp_buffer().clone(),
            batch.headers().cloned(),
        )?;
        Ok(Applied {
            rows,
            causes: None,
            dropped: 0,
        })
    }
}
