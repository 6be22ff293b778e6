//! The rows of a call as a processor reads them.

use crate::columns::Given;
use crate::format::{Format, Undecodable};
use crate::module::Input;

/// A row that was read in the formats of its input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<K, V> {
    /// The key.
    pub key: K,
    /// The value.
    pub value: V,
    /// Event time in milliseconds since 1970 UTC, never negative.
    pub timestamp: i64,
    /// The row's number in the call.
    pub row: u32,
}

/// One row, as bytes until [`Row::of`] reads it.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    given: &'a Given,
    row: usize,
}

impl<'a> Row<'a> {
    pub(crate) fn new(given: &'a Given, row: usize) -> Self {
        Row { given, row }
    }

    /// The row's record if it came by this input, else `None`. Fails when the bytes are not in the input's formats;
    /// with `?` the row becomes a dead letter of stage `deserialization`.
    #[expect(
        clippy::type_complexity,
        reason = "an error, another input, a record: a name would hide it"
    )]
    pub fn of<K: Format, V: Format>(
        &self,
        input: &Input<K, V>,
    ) -> Result<Option<Record<K::Value, V::Value>>, Undecodable> {
        if self.given.port(self.row) != input.port {
            return Ok(None);
        }
        Ok(Some(Record {
            key: K::decode(self.key()).map_err(|error| error.of("key"))?,
            value: V::decode(self.value()).map_err(|error| error.of("value"))?,
            timestamp: self.timestamp(),
            row: self.row as u32,
        }))
    }

    /// The key's bytes; `None` is null.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.given.batch.keys.row(self.row)
    }

    /// The value's bytes; `None` is null, a tombstone.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.given.batch.values.row(self.row)
    }

    /// Event time in milliseconds since 1970 UTC, never negative.
    pub fn timestamp(&self) -> i64 {
        self.given.batch.timestamps.get(self.row).copied().unwrap_or(0)
    }

    /// The row's number in the call.
    pub fn index(&self) -> u32 {
        self.row as u32
    }

    /// The task's stream time at this row, itself included; `None` unless the module
    /// [asked](crate::Module::needs_stream_times) for it.
    pub fn stream_time(&self) -> Option<i64> {
        self.given.batch.stream_times.as_ref()?.get(self.row).copied()
    }

    /// The headers, names and values, in their order; nothing unless the module
    /// [asked](crate::Module::needs_headers) for them.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + use<'a> {
        let headers = self.given.batch.headers.as_ref();
        let entries = headers.and_then(|headers| {
            let (start, end) = (headers.offsets.get(self.row)?, headers.offsets.get(self.row + 1)?);
            Some(*start as usize..*end as usize)
        });
        entries.unwrap_or(0..0).filter_map(move |at| {
            let headers = headers?;
            Some((
                std::str::from_utf8(headers.names.row(at)?).ok()?,
                headers.values.row(at),
            ))
        })
    }

    /// Topic, partition and offset; `None` unless the module [asked](crate::Module::needs_origin) for it.
    pub fn origin(&self) -> Option<(&'a str, u32, i64)> {
        let origin = self.given.batch.origin.as_ref()?;
        let place = origin.partitions.get(*origin.partition_of.get(self.row)? as usize)?;
        Some((&place.topic, place.partition, *origin.offsets.get(self.row)?))
    }
}

/// All rows of a call, for [`crate::Processor::prefetch`].
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    given: &'a Given,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(given: &'a Given) -> Self {
        Rows { given }
    }

    /// The rows, whatever their input.
    pub fn iter(&self) -> impl Iterator<Item = Row<'a>> + use<'a> {
        let given = self.given;
        (0..given.rows()).map(move |row| Row { given, row })
    }

    /// The keys that are not null, in bytes, whatever their input.
    pub fn keys(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.iter().filter_map(|row| row.key())
    }

    /// The records of one input. Rows that do not parse are left out: `process` meets them again.
    pub fn of<'i, K: Format, V: Format>(
        &self,
        input: &'i Input<K, V>,
    ) -> impl Iterator<Item = Record<K::Value, V::Value>> + use<'a, 'i, K, V> {
        self.iter().filter_map(move |row| row.of(input).ok().flatten())
    }
}
