//! One aggregate of several streams.

use serde::{Deserialize, Serialize};

use crate::{Aggregate, AggregateFunction, Emit, StoreId};

/// A JSON object for each key, with a field for each stream: what its rows come to. Input port i takes the rows of part
/// i; the field of a stream that had no rows yet is null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cogroup {
    /// Names of fields, and what they are; all with the store of the whole.
    pub parts: Vec<(String, Aggregate)>,
    pub store: StoreId,
    pub emit: Emit,
}

impl Cogroup {
    /// For people: `visits = count, spent = sum of value.amount (json)`.
    pub fn describe(&self) -> String {
        let part = |(name, aggregate): &(String, Aggregate)| {
            let function = aggregate.function.word();
            match aggregate.function {
                AggregateFunction::Count => format!("{name} = {function}"),
                _ => format!(
                    "{name} = {function} of {} ({})",
                    aggregate.of.word(),
                    aggregate.of_format.word()
                ),
            }
        };
        let parts: Vec<String> = self.parts.iter().map(part).collect();
        parts.join(", ")
    }
}
