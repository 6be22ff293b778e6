//! Joins of a stream with a global table: each row finds what the table has now under a key that is made of the row.

use expressions::encode;
use record::Batch;
use state::GlobalReader;
use topology::{Format, GlobalJoin, GlobalKey, JoinKind, Selector};

use crate::condition::{Evaluated, evaluation, failed, seen};
use crate::projection::Projector;
use crate::select::field;
use crate::table_join::Made;
use crate::{Applied, Error, Stage};

#[derive(Clone, Debug)]
enum Key {
    Part(Selector),
    Expression(Evaluated),
}

#[derive(Clone, Debug)]
pub struct GlobalJoiner {
    kind: JoinKind,
    key: Key,
    /// What the table's keys are.
    table_key: Format,
    projector: Projector,
}

impl GlobalJoiner {
    pub fn new(join: &GlobalJoin) -> Self {
        Self {
            kind: join.kind,
            key: match &join.on {
                GlobalKey::Part(selector) => Key::Part(selector.clone()),
                GlobalKey::Expression(expression) => Key::Expression(Evaluated::new(expression)),
            },
            table_key: join.table_key,
            projector: Projector::new(join.value.clone(), join.key, join.left_value, join.right_value),
        }
    }

    /// A row without a value is left out; one without a key in the table goes on only in a left join, as one that the
    /// table does not have does. The stream's own key plays no part.
    ///
    /// # Errors
    /// [`Error::Row`] for the first row whose key cannot be made, or that is not what its format says, or finds what is
    /// not; those of the table.
    pub fn apply(&self, batch: &Batch, table: &mut GlobalReader) -> Result<Applied, Error> {
        let mut made = Made::default();
        for row in 0..batch.len() {
            let Some(value) = batch.value(row) else {
                made.dropped += 1;
                continue;
            };
            let key = self.key(batch, row)?;
            let (own, time) = (batch.key(row), batch.timestamps().get(row).copied().unwrap_or_default());
            let mut join = |found: Option<&[u8]>| {
                if found.is_some() || self.kind != JoinKind::Inner {
                    let joined = self.projector.value(own, Some(value), found)?;
                    made.push(row, Some(&joined), time, None);
                }
                Ok(())
            };
            let joined: Result<(), String> = match key {
                Some(key) => table.read(&key, |found| join(found.map(|(_, value)| value)))?,
                None if self.kind == JoinKind::Inner => {
                    made.dropped += 1;
                    Ok(())
                }
                None => join(None),
            };
            joined.map_err(|reason| failed(row, Stage::Deserialization, reason))?;
        }
        made.finish(batch, false)
    }

    /// The table's key, as its keys are written.
    fn key(&self, batch: &Batch, row: usize) -> Result<Option<Vec<u8>>, Error> {
        let json = match &self.key {
            Key::Part(Selector::Key) => return Ok(batch.key(row).map(<[u8]>::to_vec)),
            Key::Part(Selector::Value) => return Ok(batch.value(row).map(<[u8]>::to_vec)),
            Key::Part(Selector::Field(path)) => {
                let value = batch.value(row).unwrap_or_default();
                field(value, path).map_err(|reason| failed(row, Stage::Deserialization, reason))?
            }
            Key::Expression(evaluated) => {
                let json = evaluated.get(row)?.json(&seen(batch, row), None);
                Some(json.map_err(|error| evaluation(row, error))?)
            }
        };
        let encoded = json.map(|json| encode(self.table_key, &json)).transpose();
        Ok(encoded.map_err(|error| evaluation(row, error))?.flatten())
    }
}
