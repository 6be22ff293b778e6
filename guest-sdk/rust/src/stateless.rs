//! The short forms: a module that is one function over values. They work on whole columns.
//!
//! Input `in` and output `out`; keys, times and headers are those of the cause. A value that does not parse makes its
//! row a dead letter of stage `deserialization`. A null value is given to the function only if that takes an `Option`:
//! else a filter leaves it out, `map_values!` sends it on as null, and the others make nothing of it.

use crate::bindings::wasmill::data::columns::{Batch, Column};
use crate::bindings::wasmill::streams::answers::{Answer, Disposition, Emitted, Outcome, Rows};
use crate::bindings::wasmill::streams::description::{Attribute, Description};
use crate::columns::{ColumnBuilder, bitmap, set_bit};
use crate::format::{Datum, Format, FromBytes, Undecodable};
use crate::log;
use crate::module::{Module, port};

/// What a short form is described with: the names of the formats of its input's and output's values.
pub type Formats = (&'static str, &'static str);

/// The description of a module with one input and one output.
pub fn describe(formats: Formats, name: &str, version: &str, summary: &str) -> Description {
    let mut description = Module::default().describe(name, version, summary);
    let (mut input, mut output) = (port::<(), ()>("in"), port::<(), ()>("out"));
    input.value_format = formats.0.to_owned();
    output.value_format = formats.1.to_owned();
    // None of these forms touches keys, so grouping by key after it needs no repartition topic.
    output.options.push(Attribute {
        name: "keys".to_owned(),
        value: "\"kept\"".to_owned(),
    });
    description.inputs.push(input);
    description.outputs.push(output);
    description
}

/// The formats of a filter.
pub fn filter_formats<'a, A: FromBytes<'a>>(_: impl Fn(A) -> bool) -> Formats {
    (A::Format::NAME, A::Format::NAME)
}

/// The formats of a map.
pub fn map_formats<'a, A: FromBytes<'a>, D: Datum>(_: impl Fn(A) -> D) -> Formats {
    (A::Format::NAME, D::Format::NAME)
}

/// The formats of a flat map.
pub fn flat_map_formats<'a, A: FromBytes<'a>, I: IntoIterator<Item: Datum>>(_: impl Fn(A) -> I) -> Formats {
    (A::Format::NAME, <I::Item as Datum>::Format::NAME)
}

/// Selects rows.
pub fn filter<'a, A: FromBytes<'a>>(batch: &'a Batch, keep: impl Fn(A) -> bool) -> Answer {
    let mut outcomes = Vec::new();
    let mut bits = bitmap(batch.values.rows());
    for (row, value) in batch.values.iter().enumerate() {
        match read(value) {
            Ok(Some(value)) => {
                log::at(Some(row as u32));
                if keep(value) {
                    set_bit(&mut bits, row);
                }
            }
            Ok(None) => {}
            Err(error) => outcomes.push(rejected(row, error.into())),
        }
    }
    log::at(None);
    Answer {
        emitted: Emitted::Selected(bits),
        outcomes,
    }
}

/// One value for each.
pub fn map_values<'a, A: FromBytes<'a>, D: Datum>(batch: &'a Batch, map: impl Fn(A) -> D) -> Answer {
    let mut out = Out::new(&batch.values);
    for (row, value) in batch.values.iter().enumerate() {
        match read(value) {
            Ok(Some(value)) => {
                log::at(Some(row as u32));
                let sent = out.causes.len();
                out.send(row, map(value));
                out.end(row, sent);
            }
            Ok(None) => out.send_null(row),
            Err(error) => out.outcomes.push(rejected(row, error.into())),
        }
    }
    out.answer()
}

/// Any number of values for each.
pub fn flat_map_values<'a, A: FromBytes<'a>, I: IntoIterator<Item: Datum>>(
    batch: &'a Batch,
    map: impl Fn(A) -> I,
) -> Answer {
    let mut out = Out::new(&batch.values);
    for (row, value) in batch.values.iter().enumerate() {
        match read(value) {
            Ok(Some(value)) => {
                log::at(Some(row as u32));
                let sent = out.causes.len();
                for value in map(value) {
                    out.send(row, value);
                }
                out.end(row, sent);
            }
            Ok(None) => {}
            Err(error) => out.outcomes.push(rejected(row, error.into())),
        }
    }
    out.answer()
}

/// The argument for the function; `None`: it is not asked.
#[inline]
fn read<'a, A: FromBytes<'a>>(value: Option<&'a [u8]>) -> Result<Option<A>, Undecodable> {
    if value.is_none() && !A::TAKES_NULL {
        return Ok(None);
    }
    A::from_bytes(value).map(Some)
}

pub(crate) fn rejected(row: usize, reject: crate::Reject) -> Outcome {
    Outcome {
        row: row as u32,
        disposition: crate::processor::disposition(reject),
    }
}

/// Values on their way out.
struct Out {
    rows: usize,
    causes: Vec<u32>,
    values: ColumnBuilder,
    outcomes: Vec<Outcome>,
    /// The reason why a value of the running row could not be written.
    error: Option<String>,
}

impl Out {
    fn new(given: &Column) -> Self {
        let rows = given.rows();
        Out {
            rows,
            causes: Vec::with_capacity(rows),
            values: ColumnBuilder::with_capacity(rows, given.data.len()),
            outcomes: Vec::new(),
            error: None,
        }
    }

    #[inline]
    fn send<D: Datum>(&mut self, row: usize, value: D) {
        match self.values.push_with(|out| value.encode(out)) {
            Ok(()) => self.causes.push(row as u32),
            Err(error) => self.error = Some(error),
        }
    }

    fn send_null(&mut self, row: usize) {
        self.values.push(None);
        self.causes.push(row as u32);
    }

    /// Ends a row that has sent what comes after the first `sent` values: all of it or, after an error, none.
    fn end(&mut self, row: usize, sent: usize) {
        if let Some(error) = self.error.take() {
            self.causes.truncate(sent);
            self.values.truncate(sent);
            self.outcomes.push(Outcome {
                row: row as u32,
                disposition: Disposition::Fail(format!("value {error}")),
            });
        }
    }

    fn answer(self) -> Answer {
        log::at(None);
        if self.causes.is_empty() {
            return Answer {
                emitted: Emitted::Nothing,
                outcomes: self.outcomes,
            };
        }
        let one_each = self.causes.len() == self.rows && self.causes.iter().zip(0..).all(|(cause, row)| *cause == row);
        let rows = Rows {
            causes: (!one_each).then_some(self.causes),
            targets: None,
            keys: None,
            values: Some(self.values.finish()),
            timestamps: None,
            headers: None,
        };
        Answer {
            emitted: Emitted::Rows(rows),
            outcomes: self.outcomes,
        }
    }
}

/// A module of one function: `$formats` says what it takes and makes, `$answer` runs it.
#[doc(hidden)]
#[macro_export]
macro_rules! stateless {
    ($formats:ident, $answer:ident, $function:expr) => {
        /// The module made of one function, for `testing::module`.
        pub struct Stateless;

        impl $crate::component::Component for Stateless {
            fn describe(name: &str, version: &str, summary: &str) -> $crate::component::Description {
                $crate::stateless::describe($crate::stateless::$formats($function), name, version, summary)
            }
            fn open(_: Vec<$crate::component::Setting>, _: $crate::component::Task) -> Result<Self, String> {
                Ok(Stateless)
            }
            fn process(
                &mut self,
                _: $crate::component::Now,
                batch: $crate::component::Batch,
                _: Vec<u8>,
            ) -> Result<$crate::component::Answer, String> {
                Ok($crate::stateless::$answer(&batch, $function))
            }
        }

        $crate::component!(Stateless);
    };
}

/// A module that keeps the records for whose value the function answers `true`: `fn(value) -> bool`.
/// It answers with a bitmap, so nothing is copied.
#[macro_export]
macro_rules! filter {
    ($function:expr) => {
        $crate::stateless!(filter_formats, filter, $function);
    };
}

/// A module that changes values one by one: `fn(value) -> new value`. It may borrow from the old one.
#[macro_export]
macro_rules! map_values {
    ($function:expr) => {
        $crate::stateless!(map_formats, map_values, $function);
    };
}

/// A module that changes some values and leaves the other records out: `fn(value) -> Option<new value>`.
#[macro_export]
macro_rules! filter_map_values {
    ($function:expr) => {
        $crate::stateless!(flat_map_formats, flat_map_values, $function);
    };
}

/// A module that makes any number of records of each: `fn(value) -> iterator over new values`.
#[macro_export]
macro_rules! flat_map_values {
    ($function:expr) => {
        $crate::stateless!(flat_map_formats, flat_map_values, $function);
    };
}
