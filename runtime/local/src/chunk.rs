//! A chunk: consecutive records of one partition as one stored value, in columns.
//!
//! Little endian, in this order, each part aligned for its type so that a read is one copy of the whole value:
//! a header of [`HEADER`] bytes (version, flags, counts), timestamps, offset deltas (only after compaction), key ends,
//! value ends, validity bitmaps (only where there are nulls), keys, values, headers. A chunk knows how many offsets it
//! spans but not where it starts: that is its key. RocksDB checks its checksum.

use crate::codec::{Reader, Writer};
use arrow_array::{Array, BinaryArray};
use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use record::{Batch, Headers};
use std::ops::Range;

#[cfg(target_endian = "big")]
compile_error!("chunks are read in place, which needs a little-endian machine");

const VERSION: u8 = 1;
const HEADER: usize = 32;
const SPARSE: u8 = 1;
const KEY_NULLS: u8 = 2;
const VALUE_NULLS: u8 = 4;
const HEADERS: u8 = 8;

/// A chunk is sealed at this size: a read takes whole chunks, and 32-bit columns must never overflow.
pub(crate) const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Bounds the columns beside the bytes, for records without any.
pub(crate) const CHUNK_ROWS_MAX: usize = 16_384;

type HeaderRow = Vec<(String, Option<Vec<u8>>)>;

/// A sealed chunk and what the index keeps of it.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub value: Vec<u8>,
    /// Offsets that it takes up, at least its records.
    pub span: u32,
    pub count: u32,
    pub timestamp_max: i64,
    /// Whether a value in it is null.
    pub tombstones: bool,
}

#[derive(Default)]
struct Column {
    ends: Vec<u32>,
    bytes: Vec<u8>,
    valid: Option<BooleanBufferBuilder>,
}

impl Column {
    fn push(&mut self, value: Option<&[u8]>) {
        let rows = self.ends.len();
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.ends.push(self.bytes.len() as u32);
        if value.is_none() || self.valid.is_some() {
            self.validity(rows).append(value.is_some());
        }
    }

    fn extend(&mut self, array: &BinaryArray, rows: Range<usize>) {
        let before = self.ends.len();
        let offsets = array.value_offsets().get(rows.start..=rows.end).unwrap_or_default();
        let (Some(first), Some(last)) = (offsets.first().copied(), offsets.last().copied()) else {
            return;
        };
        let shift = (self.bytes.len() as u32).wrapping_sub(first as u32);
        self.bytes.extend_from_slice(
            array
                .value_data()
                .get(first as usize..last as usize)
                .unwrap_or_default(),
        );
        self.ends
            .extend(offsets.iter().skip(1).map(|o| (*o as u32).wrapping_add(shift)));
        let nulls = array
            .nulls()
            .map(|n| n.slice(rows.start, rows.len()))
            .filter(|n| n.null_count() > 0);
        match nulls {
            Some(nulls) => self.validity(before).append_buffer(nulls.inner()),
            None => {
                if let Some(valid) = &mut self.valid {
                    valid.append_n(rows.len(), true);
                }
            }
        }
    }

    /// The bitmap; made when the first null comes, `before` rows late.
    fn validity(&mut self, before: usize) -> &mut BooleanBufferBuilder {
        self.valid.get_or_insert_with(|| {
            let mut valid = BooleanBufferBuilder::new(before + 64);
            valid.append_n(before, true);
            valid
        })
    }
}

/// Collects records of one partition.
#[derive(Default)]
pub(crate) struct ChunkBuilder {
    timestamps: Vec<i64>,
    /// Offsets relative to the chunk's first, once they are not 0, 1, 2, …
    deltas: Option<Vec<u32>>,
    keys: Column,
    values: Column,
    headers: Option<Vec<HeaderRow>>,
    header_bytes: usize,
}

impl ChunkBuilder {
    pub fn rows(&self) -> usize {
        self.timestamps.len()
    }

    pub fn bytes(&self) -> usize {
        self.keys.bytes.len() + self.values.bytes.len() + self.header_bytes
    }

    pub fn is_full(&self) -> bool {
        self.bytes() >= CHUNK_BYTES_MAX || self.rows() >= CHUNK_ROWS_MAX
    }

    /// One row of `batch`, which must have it.
    pub fn push(&mut self, batch: &Batch, row: usize) {
        self.keys.push(batch.key(row));
        self.values.push(batch.value(row));
        self.timestamps
            .push(batch.timestamps().get(row).copied().unwrap_or_default());
        self.push_headers(batch, row..row + 1);
    }

    /// One row at its place behind the chunk's first offset. Deltas must increase.
    pub fn push_at(&mut self, delta: u32, batch: &Batch, row: usize) {
        let before = self.rows();
        if delta as usize != before || self.deltas.is_some() {
            self.deltas
                .get_or_insert_with(|| (0..before as u32).collect())
                .push(delta);
        }
        self.push(batch, row);
    }

    /// These rows of `batch`, column by column.
    pub fn extend(&mut self, batch: &Batch, rows: Range<usize>) {
        self.keys.extend(batch.keys(), rows.clone());
        self.values.extend(batch.values(), rows.clone());
        self.timestamps
            .extend_from_slice(batch.timestamps().get(rows.clone()).unwrap_or_default());
        self.push_headers(batch, rows);
    }

    /// Called after the rows' timestamps were added.
    fn push_headers(&mut self, batch: &Batch, rows: Range<usize>) {
        let before = self.timestamps.len() - rows.len();
        let some = batch
            .headers()
            .is_some_and(|h| rows.clone().any(|r| !h.row(r).is_empty()));
        if !some && self.headers.is_none() {
            return;
        }
        let all = self.headers.get_or_insert_with(|| vec![Vec::new(); before]);
        for row in rows {
            let headers = batch.headers().map_or(&[][..], |h| h.row(row));
            self.header_bytes += headers_bytes(headers);
            all.push(headers.to_vec());
        }
    }

    /// The chunk over `span` offsets (`None`: as many as rows); the builder is empty afterwards.
    pub fn seal(&mut self, span: Option<u32>) -> Sealed {
        let taken = std::mem::take(self);
        let count = taken.timestamps.len() as u32;
        let span = span.unwrap_or(count);
        let key_bits = taken.keys.valid.as_ref().map(BooleanBufferBuilder::as_slice);
        let value_bits = taken.values.valid.as_ref().map(BooleanBufferBuilder::as_slice);
        let mut headers = Writer::default();
        for row in taken.headers.iter().flatten() {
            headers.u32(row.len() as u32);
            for (name, value) in row {
                headers.bytes(name.as_bytes());
                headers.u8(u8::from(value.is_some()));
                headers.bytes(value.as_deref().unwrap_or_default());
            }
        }
        let flags = flag(SPARSE, taken.deltas.is_some())
            | flag(KEY_NULLS, key_bits.is_some())
            | flag(VALUE_NULLS, value_bits.is_some())
            | flag(HEADERS, taken.headers.is_some());
        let rows = taken.timestamps.len();
        let size = HEADER + rows * 24 + taken.keys.bytes.len() + taken.values.bytes.len() + headers.0.len();
        let mut out = Writer(Vec::with_capacity(size));
        out.u8(VERSION);
        out.u8(flags);
        out.0.extend_from_slice(&[0, 0]);
        for number in [
            count,
            span,
            taken.keys.bytes.len() as u32,
            taken.values.bytes.len() as u32,
        ] {
            out.u32(number);
        }
        out.u32(headers.0.len() as u32);
        out.0.resize(HEADER, 0);
        out.0.extend(taken.timestamps.iter().flat_map(|t| t.to_le_bytes()));
        out.0
            .extend(taken.deltas.iter().flatten().flat_map(|d| d.to_le_bytes()));
        for ends in [&taken.keys.ends, &taken.values.ends] {
            out.u32(0);
            out.0.extend(ends.iter().flat_map(|e| e.to_le_bytes()));
        }
        for bits in [key_bits, value_bits].into_iter().flatten() {
            out.0.extend_from_slice(bits.get(..rows.div_ceil(8)).unwrap_or(bits));
        }
        for bytes in [&taken.keys.bytes, &taken.values.bytes, &headers.0] {
            out.0.extend_from_slice(bytes);
        }
        Sealed {
            value: out.0,
            span,
            count,
            timestamp_max: taken.timestamps.iter().copied().max().unwrap_or(i64::MIN),
            tombstones: value_bits.is_some(),
        }
    }
}

/// A chunk without records: offsets that no reader will find.
pub(crate) fn hole(span: u32) -> Sealed {
    ChunkBuilder::default().seal(Some(span))
}

pub(crate) fn headers_bytes(headers: &[(String, Option<Vec<u8>>)]) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len))
        .sum()
}

fn flag(bit: u8, set: bool) -> u8 {
    if set { bit } else { 0 }
}

/// A chunk as it was read.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub span: u32,
    /// `None`: 0, 1, 2, …
    pub deltas: Option<ScalarBuffer<u32>>,
    pub batch: Batch,
}

impl Chunk {
    /// Reads a stored value; header columns only if `headers`.
    ///
    /// # Errors
    /// What makes no sense in it.
    pub fn read(stored: &[u8], headers: bool) -> Result<Self, String> {
        let mut fixed = Reader(stored);
        let (version, flags) = (fixed.u8()?, fixed.u8()?);
        if version != VERSION {
            return Err(format!("a chunk of version {version}, this program knows {VERSION}"));
        }
        fixed.take(2)?;
        let (count, span) = (fixed.u32()? as usize, fixed.u32()?);
        let (key_bytes, value_bytes, header_bytes) =
            (fixed.u32()? as usize, fixed.u32()? as usize, fixed.u32()? as usize);
        let bits = |bit| if flags & bit == 0 { 0 } else { count.div_ceil(8) };
        let deltas = if flags & SPARSE == 0 { 0 } else { 4 * count };
        let lengths = [
            8 * count,
            deltas,
            4 * (count + 1),
            4 * (count + 1),
            bits(KEY_NULLS),
            bits(VALUE_NULLS),
            key_bytes,
            value_bytes,
            header_bytes,
        ];
        let expected = HEADER + lengths.iter().sum::<usize>();
        if stored.len() != expected {
            return Err(format!("a chunk of {} bytes that should have {expected}", stored.len()));
        }
        // The one copy: everything below shares this buffer.
        let whole = Buffer::from(stored);
        let mut at = HEADER;
        let [
            timestamps,
            deltas,
            key_ends,
            value_ends,
            key_bits,
            value_bits,
            keys,
            values,
            header_part,
        ] = lengths.map(|length| {
            let part = whole.slice_with_length(at, length);
            at += length;
            part
        });
        let batch = Batch::new(
            column(count, key_ends, keys, (flags & KEY_NULLS != 0).then_some(key_bits))?,
            column(
                count,
                value_ends,
                values,
                (flags & VALUE_NULLS != 0).then_some(value_bits),
            )?,
            ScalarBuffer::new(timestamps, 0, count),
            if headers && flags & HEADERS != 0 {
                Some(read_headers(&header_part, count)?)
            } else {
                None
            },
        )
        .map_err(|e| e.to_string())?;
        let deltas = (flags & SPARSE != 0).then(|| ScalarBuffer::<u32>::new(deltas, 0, count));
        Self { span, deltas, batch }.checked()
    }

    fn checked(self) -> Result<Self, String> {
        let (count, span) = (self.batch.len(), self.span);
        if self
            .deltas
            .as_ref()
            .is_some_and(|d| !d.is_sorted() || d.last().is_some_and(|last| *last >= span))
        {
            return Err("offsets of a chunk are out of order".to_owned());
        }
        if (count as u64) > u64::from(span) {
            return Err(format!("a chunk of {count} records on {span} offsets"));
        }
        Ok(self)
    }

    /// Offset of a row relative to the chunk's first.
    pub fn delta(&self, row: usize) -> u32 {
        match &self.deltas {
            Some(deltas) => deltas.get(row).copied().unwrap_or(self.span),
            None => row as u32,
        }
    }

    /// The first row at or behind `delta`.
    pub fn row_at(&self, delta: u32) -> usize {
        match &self.deltas {
            Some(deltas) => deltas.partition_point(|d| *d < delta),
            None => (delta as usize).min(self.batch.len()),
        }
    }
}

fn column(count: usize, ends: Buffer, bytes: Buffer, bits: Option<Buffer>) -> Result<BinaryArray, String> {
    let ends = ScalarBuffer::<i32>::new(ends, 0, count + 1);
    // Arrow panics on such offsets.
    if !ends.is_sorted() || ends.first().is_none_or(|first| *first != 0) {
        return Err("ends of a chunk's column are out of order".to_owned());
    }
    let nulls = bits.map(|bits| NullBuffer::new(BooleanBuffer::new(bits, 0, count)));
    BinaryArray::try_new(OffsetBuffer::new(ends), bytes, nulls).map_err(|e| e.to_string())
}

fn read_headers(part: &[u8], count: usize) -> Result<Headers, String> {
    let mut reader = Reader(part);
    let mut rows = Vec::with_capacity(count);
    for _ in 0..count {
        let mut row = Vec::new();
        for _ in 0..reader.u32()? {
            let name = reader.text()?;
            let some = reader.u8()? == 1;
            let value = reader.bytes()?.to_vec();
            row.push((name, some.then_some(value)));
        }
        rows.push(row);
    }
    Ok(Headers::from_rows(rows))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;
    use record::BatchBuilder;

    type Row = (Option<Vec<u8>>, Option<Vec<u8>>, i64, HeaderRow);

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9));
        let headers = proptest::collection::vec(("[a-c]{0,2}", bytes()), 0..2);
        proptest::collection::vec((bytes(), bytes(), any::<i64>(), headers), 0..40)
    }

    fn batch_of(rows: &[Row]) -> Batch {
        let mut builder = BatchBuilder::default();
        for (key, value, timestamp, headers) in rows {
            builder.push_with_headers(key.as_deref(), value.as_deref(), *timestamp, headers.clone());
        }
        builder.finish()
    }

    fn rows_of(batch: &Batch) -> Vec<Row> {
        let row = |i| batch.headers().map_or_else(Vec::new, |h| h.row(i).to_vec());
        let own = |b: Option<&[u8]>| b.map(<[u8]>::to_vec);
        (0..batch.len())
            .map(|i| (own(batch.key(i)), own(batch.value(i)), batch.timestamps()[i], row(i)))
            .collect()
    }

    proptest! {
        /// Whole slices or single rows, in any cut: what is sealed is what is read.
        #[test]
        fn a_chunk_gives_back_its_rows(rows in rows(), cut in 0usize..40, single in any::<bool>()) {
            let batch = batch_of(&rows);
            let cut = cut.min(rows.len());
            let mut builder = ChunkBuilder::default();
            builder.extend(&batch, 0..cut);
            if single {
                (cut..rows.len()).for_each(|row| builder.push(&batch, row));
            } else {
                builder.extend(&batch, cut..rows.len());
            }
            let sealed = builder.seal(None);
            let chunk = Chunk::read(&sealed.value, true).unwrap();
            prop_assert_eq!(rows_of(&chunk.batch), rows.clone());
            prop_assert_eq!(chunk.span as usize, rows.len());
            prop_assert_eq!(builder.rows(), 0);
            for end in 0..sealed.value.len() {
                prop_assert!(Chunk::read(&sealed.value[..end], true).is_err());
            }
        }

        #[test]
        fn a_compacted_chunk_keeps_its_offsets(rows in rows(), keep in proptest::collection::vec(any::<bool>(), 40)) {
            let batch = batch_of(&rows);
            let kept: Vec<usize> = (0..rows.len()).filter(|i| keep[*i]).collect();
            let mut builder = ChunkBuilder::default();
            kept.iter().for_each(|row| builder.push_at(*row as u32, &batch, *row));
            let chunk = Chunk::read(&builder.seal(Some(rows.len() as u32)).value, true).unwrap();
            let offsets: Vec<usize> = (0..chunk.batch.len()).map(|i| chunk.delta(i) as usize).collect();
            prop_assert_eq!(&offsets, &kept);
            for delta in 0..=rows.len() {
                prop_assert_eq!(chunk.row_at(delta as u32), kept.partition_point(|k| *k < delta));
            }
        }
    }
}
