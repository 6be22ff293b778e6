//! One aggregate of several streams: a JSON object with a field for each of them.

use record::Batch;
use serde_json::{Map, Value};
use state::{Stores, Update, split};
use topology::{Cogroup, Emit, Format};

use crate::aggregate::{Aggregator, RowFault, deserialization};
use crate::projection::json;
use crate::table_join::Made;
use crate::{Applied, Error, Stage};

#[derive(Clone, Debug)]
pub struct Cogrouper {
    parts: Vec<Part>,
    store: usize,
    emit: Emit,
    /// Whether something downstream needs what its rows replace.
    olds: bool,
}

#[derive(Clone, Debug)]
struct Part {
    name: String,
    aggregator: Aggregator,
    /// What the field was before it was JSON.
    result: Format,
}

impl Cogrouper {
    /// `store` is the task's number of the aggregate's store.
    pub fn new(cogroup: &Cogroup, store: usize, olds: bool) -> Self {
        let part = |(name, aggregate): &(String, topology::Aggregate)| Part {
            name: name.clone(),
            aggregator: Aggregator::new(aggregate, store, false),
            result: aggregate.result,
        };
        Self {
            parts: cogroup.parts.iter().map(part).collect(),
            store,
            emit: cogroup.emit,
            olds,
        }
    }

    /// Reduces the rows in order; `ports` says of which stream each is. Rows without a key, a value, or what their
    /// stream's field is made of are left out.
    ///
    /// # Errors
    /// [`Error::Row`] for the first row that does not parse or whose result does not fit; those of the store.
    pub fn apply(&self, batch: &Batch, ports: &[u8], stores: &mut Stores) -> Result<Applied, Error> {
        let mut made = Made::default();
        for (row, timestamp) in batch.timestamps().iter().copied().enumerate() {
            let part = self.parts.get(usize::from(ports.get(row).copied().unwrap_or(0)));
            let (Some(key), Some(_), Some(part)) = (batch.key(row), batch.value(row), part) else {
                made.dropped += 1;
                continue;
            };
            let taken = stores.modify(self.store, key, timestamp, |stored, new| {
                let stored = stored.map(split);
                let time = stored.map_or(timestamp, |(time, _)| time.max(timestamp));
                let before = stored.map(|(_, object)| object);
                let Some(object) = self.reduce(part, batch, row, before)? else {
                    made.dropped += 1;
                    return Ok(Update::Keep);
                };
                new.extend_from_slice(&time.to_be_bytes());
                new.extend_from_slice(&object);
                if self.emit == Emit::EveryUpdate {
                    made.push(row, Some(&object), time, stored);
                }
                Ok(Update::Put)
            });
            taken.map_err(|fault: RowFault| fault.at(row))?;
        }
        if self.emit == Emit::OnCommit {
            return Ok(Applied::nothing(made.dropped));
        }
        made.finish(batch, self.olds)
    }

    /// What an object becomes with a row; `None`: the row has nothing to reduce.
    fn reduce(
        &self,
        part: &Part,
        batch: &Batch,
        row: usize,
        before: Option<&[u8]>,
    ) -> Result<Option<Vec<u8>>, RowFault> {
        let mut object = match before {
            Some(object) => read(object)?,
            None => self.parts.iter().map(|part| (part.name.clone(), Value::Null)).collect(),
        };
        let field = object.get(&part.name).unwrap_or(&Value::Null);
        let old = expressions::encode(part.result, field).map_err(|_| nonsense())?;
        let mut folded = Vec::new();
        if !part.aggregator.fold(batch, row, old.as_deref(), &mut folded)? {
            return Ok(None);
        }
        let field = json(part.result, Some(&folded)).map_err(deserialization)?;
        if field.is_null() && part.result == Format::F64 {
            let reason = format!("`{}` is no number that JSON has", part.name);
            return Err(RowFault::Row(Stage::Processing, reason));
        }
        object.insert(part.name.clone(), field);
        Ok(Some(Value::Object(object).to_string().into_bytes()))
    }
}

fn read(object: &[u8]) -> Result<Map<String, Value>, RowFault> {
    serde_json::from_slice(object).map_err(|_| nonsense())
}

fn nonsense() -> RowFault {
    RowFault::State(state::Error::Misuse(
        "an aggregate of several streams makes no sense".into(),
    ))
}
