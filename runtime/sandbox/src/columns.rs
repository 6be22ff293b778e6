//! Arrow columns in and out of a guest's memory.
//!
//! Both sides have the same layout, so nothing is converted row by row: [`Lowered`] borrows the buffers of an Arrow
//! column (or makes them begin at 0 where the column is a slice), and [`lift`] takes what a guest gave, checks every
//! rule of `wasmill:data`, and makes an Arrow column of the same bytes.

use arrow_array::{Array, BinaryArray};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use record::Headers;

use crate::bindings::wasmill::data::columns::{ColumnParam, ColumnResult, HeadersParam, HeadersResult};

/// A column as the contract wants it: offsets from 0, only its own bytes, null rows empty.
pub(crate) struct Lowered {
    offsets: ScalarBuffer<u32>,
    data: Buffer,
    validity: Option<Buffer>,
}

impl Lowered {
    pub(crate) fn new(column: &BinaryArray) -> Self {
        if column.offsets().has_non_empty_nulls(column.nulls()) {
            return Self::new(&column.iter().collect::<BinaryArray>());
        }
        let first = column.offsets().first();
        let last = column.offsets().last();
        let offsets = if first == 0 {
            // The same bytes read as unsigned: Arrow's offsets are never negative.
            ScalarBuffer::new(column.offsets().inner().inner().clone(), 0, column.len() + 1)
        } else {
            column.offsets().iter().map(|offset| (offset - first) as u32).collect()
        };
        let validity = column
            .nulls()
            .filter(|nulls| nulls.null_count() > 0)
            .map(|nulls| nulls.inner().sliced());
        let data = column
            .values()
            .slice_with_length(first as usize, (last - first) as usize);
        Self {
            offsets,
            data,
            validity,
        }
    }

    pub(crate) fn view(&self) -> ColumnParam<'_> {
        ColumnParam {
            data: &self.data,
            offsets: &self.offsets,
            validity: self.validity.as_deref(),
        }
    }

    /// For answers to the guest's own calls, whose bindings own their columns.
    pub(crate) fn into_result(self) -> ColumnResult {
        ColumnResult {
            data: self.data.to_vec(),
            offsets: self.offsets.to_vec(),
            validity: self.validity.map(|bits| bits.to_vec()),
        }
    }
}

/// Checks a guest's column and takes it over without copying it again. `what` names it in messages.
///
/// # Errors
/// Which rule it breaks and where.
pub(crate) fn lift(what: &str, column: ColumnResult) -> Result<BinaryArray, String> {
    let ColumnResult {
        data,
        offsets,
        validity,
    } = column;
    let rows = check_offsets(what, &offsets, data.len())?;
    let nulls = match validity {
        None => None,
        Some(bits) => Some(lift_validity(what, bits, &offsets, rows)?),
    };
    let offsets = OffsetBuffer::new(ScalarBuffer::<i32>::from(Buffer::from_vec(offsets)));
    BinaryArray::try_new(offsets, Buffer::from_vec(data), nulls).map_err(|e| format!("{what}: {e}"))
}

/// The number of rows.
fn check_offsets(what: &str, offsets: &[u32], data_bytes: usize) -> Result<usize, String> {
    let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else {
        return Err(format!("{what}: no offsets, where there must be one more than rows"));
    };
    if *first != 0 {
        return Err(format!("{what}: the offsets start at {first}, not at 0"));
    }
    if data_bytes > i32::MAX as usize {
        return Err(format!(
            "{what}: {data_bytes} bytes, more than a column can hold (2^31 - 1)"
        ));
    }
    // Without a branch per row, so that the common case is vectorised; the place is looked for only when it is wrong.
    let falls = offsets
        .iter()
        .zip(offsets.iter().skip(1))
        .fold(false, |falls, (a, b)| falls | (a > b));
    if falls {
        let row = offsets
            .iter()
            .zip(offsets.iter().skip(1))
            .position(|(a, b)| a > b)
            .unwrap_or_default();
        return Err(format!("{what}: the offsets decrease at row {row}"));
    }
    if *last as usize != data_bytes {
        return Err(format!("{what}: the offsets end at {last}, the data at {data_bytes}"));
    }
    Ok(offsets.len() - 1)
}

fn lift_validity(what: &str, bits: Vec<u8>, offsets: &[u32], rows: usize) -> Result<NullBuffer, String> {
    let bits = bitmap(what, bits, rows)?;
    let nulls = NullBuffer::new(bits);
    if nulls.null_count() > 0 {
        let lengths = offsets.iter().zip(offsets.iter().skip(1)).map(|(a, b)| b - a);
        if let Some(row) = lengths
            .enumerate()
            .position(|(row, length)| length > 0 && nulls.is_null(row))
        {
            return Err(format!("{what}: row {row} is null and has bytes"));
        }
    }
    Ok(nulls)
}

/// A bitmap over `rows`; bits after the last row mean nothing.
pub(crate) fn bitmap(what: &str, bits: Vec<u8>, rows: usize) -> Result<BooleanBuffer, String> {
    let expected = rows.div_ceil(8);
    if bits.len() != expected {
        return Err(format!(
            "{what}: a bitmap of {} bytes for {rows} rows, which take {expected}",
            bits.len()
        ));
    }
    Ok(BooleanBuffer::new(Buffer::from_vec(bits), 0, rows))
}

/// Headers as columns. They cost per header, so they cross only for a module that asks for them.
pub(crate) struct LoweredHeaders {
    offsets: Vec<u32>,
    names: Lowered,
    values: Lowered,
}

impl LoweredHeaders {
    /// `rows` may be more than `headers` has: the rest have none.
    pub(crate) fn new(headers: Option<&Headers>, rows: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        let mut all = Vec::new();
        offsets.push(0);
        for row in 0..rows {
            all.extend(headers.map_or(&[][..], |h| h.row(row)).iter());
            offsets.push(all.len() as u32);
        }
        let names: BinaryArray = all.iter().map(|(name, _)| Some(name.as_bytes())).collect();
        let values: BinaryArray = all.iter().map(|(_, value)| value.as_deref()).collect();
        Self {
            offsets,
            names: Lowered::new(&names),
            values: Lowered::new(&values),
        }
    }

    pub(crate) fn view(&self) -> HeadersParam<'_> {
        HeadersParam {
            offsets: &self.offsets,
            names: self.names.view(),
            values: self.values.view(),
        }
    }
}

pub(crate) fn lift_headers(headers: HeadersResult) -> Result<Headers, String> {
    let names = lift("header names", headers.names)?;
    let values = lift("header values", headers.values)?;
    if names.len() != values.len() {
        return Err(format!("headers: {} names and {} values", names.len(), values.len()));
    }
    let rows = check_offsets("headers", &headers.offsets, names.len())?;
    let entry = |i: usize| -> Result<(String, Option<Vec<u8>>), String> {
        if names.is_null(i) {
            return Err(format!("headers: the name of entry {i} is null"));
        }
        let name =
            str::from_utf8(names.value(i)).map_err(|_| format!("headers: the name of entry {i} is not UTF-8"))?;
        Ok((name.to_owned(), values.is_valid(i).then(|| values.value(i).to_vec())))
    };
    let spans = headers.offsets.iter().zip(headers.offsets.iter().skip(1));
    let lifted = spans.map(|(from, to)| (*from as usize..*to as usize).map(entry).collect());
    let lifted: Vec<_> = lifted.collect::<Result<_, String>>()?;
    debug_assert_eq!(lifted.len(), rows);
    Ok(Headers::from_rows(lifted))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn column(data: &[u8], offsets: &[u32], validity: Option<&[u8]>) -> ColumnResult {
        ColumnResult {
            data: data.to_vec(),
            offsets: offsets.to_vec(),
            validity: validity.map(<[u8]>::to_vec),
        }
    }

    fn rows(column: &BinaryArray) -> Vec<Option<Vec<u8>>> {
        column.iter().map(|row| row.map(<[u8]>::to_vec)).collect()
    }

    #[test]
    fn whole_columns_are_lowered_as_they_are() {
        let array = BinaryArray::from_iter([Some(&b"ab"[..]), None, Some(b""), Some(b"c")]);
        let lowered = Lowered::new(&array);
        let view = lowered.view();
        assert_eq!(
            (view.data, view.offsets, view.validity),
            (&b"abc"[..], &[0, 2, 2, 2, 3][..], Some(&[0b1101][..]))
        );
        assert_eq!(
            view.offsets.as_ptr().cast::<i32>(),
            array.value_offsets().as_ptr(),
            "no copy"
        );
    }

    #[test]
    fn slices_begin_at_zero_at_any_bit() {
        let all: Vec<Option<Vec<u8>>> = (0..40u8)
            .map(|i| (i % 3 != 0).then(|| vec![i; usize::from(i % 5)]))
            .collect();
        let array = BinaryArray::from_iter(all.iter().map(Option::as_deref));
        for from in 0..=40 {
            for length in [0, 1, 7, 8, 9, 40 - from] {
                let length = length.min(40 - from);
                let slice = array.slice(from, length);
                let lifted = lift("slice", Lowered::new(&slice).into_result()).unwrap();
                assert_eq!(rows(&lifted), all[from..from + length], "{from}+{length}");
            }
        }
    }

    #[test]
    fn nulls_that_hide_bytes_are_emptied() {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(vec![0, 2, 4]));
        let array = BinaryArray::new(
            offsets,
            Buffer::from(&b"abcd"[..]),
            Some(NullBuffer::from(vec![false, true])),
        );
        assert_eq!(Lowered::new(&array).view().data, b"cd");
    }

    #[test]
    fn every_rule_of_a_column_is_checked() {
        let cases = [
            (column(b"", &[], None), "no offsets"),
            (column(b"ab", &[1, 2], None), "start at 1"),
            (column(b"ab", &[0, 2, 1, 2], None), "decrease at row 1"),
            (column(b"ab", &[0, 1], None), "end at 1, the data at 2"),
            (column(b"ab", &[0, 3], None), "end at 3, the data at 2"),
            (column(b"ab", &[0, 2], Some(&[])), "a bitmap of 0 bytes for 1 rows"),
            (column(b"ab", &[0, 0, 2], Some(&[0b01])), "row 1 is null and has bytes"),
        ];
        for (column, expected) in cases {
            let message = lift("values", column).unwrap_err();
            assert!(
                message.starts_with("values: ") && message.contains(expected),
                "{message}"
            );
        }
        let good = lift("values", column(b"ab", &[0, 0, 2], Some(&[0b1111_1110]))).unwrap();
        assert_eq!(rows(&good), [None, Some(b"ab".to_vec())]);
    }

    #[test]
    fn headers_come_back() {
        let headers = Headers::from_rows(vec![
            vec![("a".into(), Some(b"1".to_vec())), ("a".into(), None)],
            vec![],
            vec![("ä".into(), Some(vec![]))],
        ]);
        let lowered = LoweredHeaders::new(Some(&headers), 3);
        let back = HeadersResult {
            offsets: lowered.offsets.clone(),
            names: Lowered::into_result(lowered.names),
            values: Lowered::into_result(lowered.values),
        };
        assert_eq!(lift_headers(back).unwrap(), headers);
    }
}
