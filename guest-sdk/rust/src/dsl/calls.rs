//! Closures over values as functions over batches.

use crate::application_bindings::exports::wasmill::streams::functions::{Aggregated, Aggregation};
use crate::bindings::wasmill::data::columns::Batch;
use crate::bindings::wasmill::streams::answers::{Answer, Disposition, Emitted, Outcome, Rows};
use crate::columns::{ColumnBuilder, bitmap, set_bit};
use crate::format::{Datum, Encode, Format, FromBytes, Undecodable};
use crate::log;
use crate::stateless::rejected;

/// A function of a plan.
pub enum Function {
    #[doc(hidden)]
    Transform(Box<dyn Fn(&Batch) -> Answer>),
    #[doc(hidden)]
    Aggregate(Box<Fold>),
}

/// The steps of a call over their slots.
pub type Fold = dyn Fn(&Aggregation) -> Result<Aggregated, String>;

impl Function {
    pub(super) fn role(&self) -> &'static str {
        match self {
            Function::Transform(_) => "transform",
            Function::Aggregate(_) => "aggregate",
        }
    }
}

pub(super) fn filter<V: Format>(keep: impl Fn(&V::Value) -> bool + 'static) -> Function {
    Function::Transform(Box::new(move |batch| {
        let mut bits = bitmap(batch.values.rows());
        let mut outcomes = Vec::new();
        for (row, value) in batch.values.iter().enumerate() {
            log::at(Some(row as u32));
            match read::<V>(value) {
                Ok(Some(value)) if keep(&value) => set_bit(&mut bits, row),
                Ok(_) => {}
                Err(error) => outcomes.push(rejected(row, error.of("value").into())),
            }
        }
        log::at(None);
        Answer {
            emitted: Emitted::Selected(bits),
            outcomes,
        }
    }))
}

pub(super) fn map_values<V: Format, D: Datum>(map: impl Fn(V::Value) -> D + 'static) -> Function {
    Function::Transform(Box::new(move |batch| {
        let mut sent = Sent::new(batch, false, true);
        sent.each::<V>(batch, Null::PassedOn, |sent, row, value| {
            sent.value(&map(value));
            sent.causes.push(row as u32);
            Ok(())
        });
        sent.answer()
    }))
}

pub(super) fn flat_map_values<V: Format, I: IntoIterator<Item: Datum>>(
    map: impl Fn(V::Value) -> I + 'static,
) -> Function {
    Function::Transform(Box::new(move |batch| {
        let mut sent = Sent::new(batch, false, true);
        sent.each::<V>(batch, Null::GivesNothing, |sent, row, value| {
            for value in map(value) {
                sent.value(&value);
                sent.causes.push(row as u32);
            }
            Ok(())
        });
        sent.answer()
    }))
}

pub(super) fn select_key<V: Format, D: Datum>(key: impl Fn(&V::Value) -> D + 'static) -> Function {
    Function::Transform(Box::new(move |batch| {
        let mut sent = Sent::new(batch, true, false);
        sent.each::<V>(batch, Null::LeftOut, |sent, row, value| {
            sent.key(&key(&value));
            sent.causes.push(row as u32);
            Ok(())
        });
        sent.answer()
    }))
}

pub(super) fn map<K: Format, V: Format, A: Datum, B: Datum>(
    map: impl Fn(K::Value, V::Value) -> (A, B) + 'static,
) -> Function {
    Function::Transform(Box::new(move |batch| {
        let mut sent = Sent::new(batch, true, true);
        sent.each::<V>(batch, Null::LeftOut, |sent, row, value| {
            let (key, value) = map(K::decode(batch.keys.row(row))?, value);
            sent.both(row, &key, &value);
            Ok(())
        });
        sent.answer()
    }))
}

pub(super) fn flat_map<K: Format, V: Format, A: Datum, B: Datum, I: IntoIterator<Item = (A, B)>>(
    map: impl Fn(K::Value, V::Value) -> I + 'static,
) -> Function {
    Function::Transform(Box::new(move |batch| {
        let mut sent = Sent::new(batch, true, true);
        sent.each::<V>(batch, Null::GivesNothing, |sent, row, value| {
            for (key, value) in map(K::decode(batch.keys.row(row))?, value) {
                sent.both(row, &key, &value);
            }
            Ok(())
        });
        sent.answer()
    }))
}

pub(super) fn aggregate<V: Format, A: Datum + for<'a> FromBytes<'a>>(
    init: impl Fn() -> A + 'static,
    add: impl Fn(A, V::Value) -> A + 'static,
) -> Function {
    Function::Aggregate(Box::new(move |work| {
        fold::<V, A>(
            work,
            |bytes| A::from_bytes(Some(bytes)),
            |value, out| value.encode(out),
            |old, value| add(old.unwrap_or_else(&init), value),
        )
    }))
}

pub(super) fn reduce<V: Format>(reduce: impl Fn(V::Value, V::Value) -> V::Value + 'static) -> Function
where
    V::Value: Encode<V>,
{
    Function::Aggregate(Box::new(move |work| {
        fold::<V, V::Value>(
            work,
            |bytes| V::decode(Some(bytes)),
            |value, out| Encode::<V>::encode(value, out),
            |old, value| match old {
                Some(old) => reduce(old, value),
                None => value,
            },
        )
    }))
}

/// Adds the rows of `work` one by one. What fails on a row leaves its slot as it was.
fn fold<V: Format, A>(
    work: &Aggregation,
    decode: impl Fn(&[u8]) -> Result<A, Undecodable>,
    encode: impl Fn(&A, &mut Vec<u8>) -> Result<bool, String>,
    step: impl Fn(Option<A>, V::Value) -> A,
) -> Result<Aggregated, String> {
    let mut slots: Vec<Option<Vec<u8>>> = work.aggregates.iter().map(|bytes| bytes.map(<[u8]>::to_vec)).collect();
    let mut values = ColumnBuilder::with_capacity(work.slots.len(), work.aggregates.data.len());
    let mut outcomes = Vec::new();
    for ((slot, kind), row) in work.slots.iter().zip(&work.kinds).zip(&work.operands) {
        let Some(current) = slots.get_mut(*slot as usize).filter(|_| *kind == 0) else {
            return Err(format!(
                "a step of kind {kind} over slot {slot} is not known to this module"
            ));
        };
        let row = *row as usize;
        match one::<V, A>(current.as_deref(), work.rows.values.row(row), &decode, &encode, &step) {
            Ok(new) => *current = new,
            Err(reject) => outcomes.push(rejected(row, reject)),
        }
        if work.every_step {
            values.push(current.as_deref());
        }
    }
    if !work.every_step {
        slots.iter().for_each(|slot| values.push(slot.as_deref()));
    }
    Ok(Aggregated {
        values: values.finish(),
        outcomes,
    })
}

fn one<V: Format, A>(
    current: Option<&[u8]>,
    value: Option<&[u8]>,
    decode: impl Fn(&[u8]) -> Result<A, Undecodable>,
    encode: impl Fn(&A, &mut Vec<u8>) -> Result<bool, String>,
    step: impl Fn(Option<A>, V::Value) -> A,
) -> Result<Option<Vec<u8>>, crate::Reject> {
    let value = V::decode(value).map_err(|error| error.of("value"))?;
    // What is stored is this module's own: that it cannot be read is no fault of the row.
    let old = current.map(decode).transpose();
    let old = old.map_err(|error| crate::Reject::Fail(format!("the stored aggregate cannot be read: {error}")))?;
    let new = step(old, value);
    let mut bytes = Vec::new();
    match encode(&new, &mut bytes) {
        Ok(some) => Ok(some.then_some(bytes)),
        Err(error) => Err(crate::Reject::Fail(format!("the aggregate {error}"))),
    }
}

/// The argument for a closure; `None`: it does not take null.
fn read<V: Format>(value: Option<&[u8]>) -> Result<Option<V::Value>, Undecodable> {
    match value {
        None => Ok(V::decode(None).ok()),
        some => V::decode(some).map(Some),
    }
}

/// What becomes of a null value that the closure does not take.
enum Null {
    PassedOn,
    GivesNothing,
    /// And counted.
    LeftOut,
}

/// Rows on their way out.
struct Sent {
    rows: usize,
    causes: Vec<u32>,
    keys: Option<ColumnBuilder>,
    values: Option<ColumnBuilder>,
    outcomes: Vec<Outcome>,
    /// The reason why something of the running row could not be written.
    error: Option<String>,
}

impl Sent {
    fn new(batch: &Batch, keys: bool, values: bool) -> Self {
        let rows = batch.values.rows();
        let column = |bytes| ColumnBuilder::with_capacity(rows, bytes);
        Sent {
            rows,
            causes: Vec::with_capacity(rows),
            keys: keys.then(|| column(batch.keys.data.len())),
            values: values.then(|| column(batch.values.data.len())),
            outcomes: Vec::new(),
            error: None,
        }
    }

    /// Calls `send` for each value; after an error nothing of the row is sent.
    fn each<V: Format>(
        &mut self,
        batch: &Batch,
        null: Null,
        send: impl Fn(&mut Self, usize, V::Value) -> Result<(), Undecodable>,
    ) {
        for (row, value) in batch.values.iter().enumerate() {
            log::at(Some(row as u32));
            let before = self.causes.len();
            let sent = match read::<V>(value) {
                Ok(Some(value)) => send(self, row, value).map_err(|error| error.of("key")),
                Ok(None) => {
                    self.null(row, &null);
                    Ok(())
                }
                Err(error) => Err(error.of("value")),
            };
            let failed = match (sent, self.error.take()) {
                (Err(error), _) => rejected(row, error.into()),
                (Ok(()), Some(error)) => rejected(row, crate::Reject::Fail(error)),
                (Ok(()), None) => continue,
            };
            self.causes.truncate(before);
            for column in self.keys.iter_mut().chain(&mut self.values) {
                column.truncate(before);
            }
            self.outcomes.push(failed);
        }
        log::at(None);
    }

    fn null(&mut self, row: usize, null: &Null) {
        match (null, &mut self.values) {
            (Null::PassedOn, Some(values)) => {
                values.push(None);
                self.causes.push(row as u32);
            }
            (Null::LeftOut, _) => self.outcomes.push(Outcome {
                row: row as u32,
                disposition: Disposition::Drop("its value is null, which the function does not take".to_owned()),
            }),
            _ => {}
        }
    }

    fn key<D: Datum>(&mut self, key: &D) {
        push(&mut self.keys, key, "key", &mut self.error);
    }

    fn value<D: Datum>(&mut self, value: &D) {
        push(&mut self.values, value, "value", &mut self.error);
    }

    fn both<A: Datum, B: Datum>(&mut self, row: usize, key: &A, value: &B) {
        self.key(key);
        self.value(value);
        self.causes.push(row as u32);
    }

    fn answer(self) -> Answer {
        let one_each = self.causes.len() == self.rows && self.causes.iter().zip(0..).all(|(cause, row)| *cause == row);
        let emitted = match self.causes.is_empty() {
            true => Emitted::Nothing,
            false => Emitted::Rows(Rows {
                causes: (!one_each).then_some(self.causes),
                targets: None,
                keys: self.keys.map(ColumnBuilder::finish),
                values: self.values.map(ColumnBuilder::finish),
                timestamps: None,
                headers: None,
            }),
        };
        Answer {
            emitted,
            outcomes: self.outcomes,
        }
    }
}

/// What cannot be written takes a place all the same, so that the columns stay as long as each other.
fn push<D: Datum>(column: &mut Option<ColumnBuilder>, datum: &D, part: &str, error: &mut Option<String>) {
    let Some(column) = column else { return };
    if let Err(cause) = column.push_with(|out| datum.encode(out)) {
        column.push(None);
        error.get_or_insert(format!("{part} {cause}"));
    }
}
