//! Operators that look at one row at a time, on the rows of a table, so that what comes out is a table too.

use record::{Batch, BatchBuilder};

use crate::table_join::Made;
use crate::{Applied, Error, Filtering, Mapping};

impl Filtering {
    /// Of a table: a row that is left out is a tombstone. `olds`: whether something downstream needs what the rows
    /// replace; then what was left out before and is left out now is no row at all, as in Kafka Streams.
    ///
    /// # Errors
    /// As [`Filtering::apply`].
    pub fn apply_to_table(&self, batch: &Batch, olds: bool) -> Result<Applied, Error> {
        on_table(batch, olds, olds, |rows| self.apply(rows))
    }
}

impl Mapping {
    /// Of a table, new values: a tombstone stays one.
    ///
    /// # Errors
    /// As [`Mapping::apply`].
    pub fn apply_to_table(&self, batch: &Batch, olds: bool) -> Result<Applied, Error> {
        on_table(batch, olds, false, |rows| self.apply(rows))
    }
}

/// What `stream`, which keeps, leaves out or gives new values to rows under their keys, makes of a table. `is_silent`:
/// what came to nothing before and comes to nothing now is no row at all.
///
/// # Errors
/// Those of `stream`, at the row of the table.
fn on_table(
    batch: &Batch,
    olds: bool,
    is_silent: bool,
    stream: impl Fn(&Batch) -> Result<Applied, Error>,
) -> Result<Applied, Error> {
    let new = through(
        batch,
        |row| Some((batch.timestamps().get(row).copied()?, batch.value(row)?)),
        &stream,
    )?;
    let old = match olds {
        true => through(batch, |row| batch.old(row), &stream)?,
        false => vec![None; batch.len()],
    };
    let mut made = Made::default();
    for (row, (new, old)) in new.iter().zip(&old).enumerate() {
        if is_silent && new.is_none() && old.is_none() {
            continue;
        }
        let time = batch.timestamps().get(row).copied().unwrap_or_default();
        let old = batch.old(row).and_then(|(time, _)| Some((time, old.as_deref()?)));
        made.push(row, new.as_deref(), time, old);
    }
    made.finish(batch, olds)
}

/// What comes of the values that there are, by row.
fn through<'b>(
    batch: &Batch,
    value: impl Fn(usize) -> Option<(i64, &'b [u8])>,
    stream: impl Fn(&Batch) -> Result<Applied, Error>,
) -> Result<Vec<Option<Vec<u8>>>, Error> {
    let (mut there, mut rows) = (Vec::new(), BatchBuilder::default());
    for row in 0..batch.len() {
        if let Some((time, value)) = value(row) {
            rows.push(batch.key(row), Some(value), time);
            there.push(row);
        }
    }
    let applied = stream(&rows.finish()).map_err(|error| match error {
        Error::Row { row, stage, reason } => Error::Row {
            row: there.get(row as usize).map_or(row, |row| *row as u32),
            stage,
            reason,
        },
        other => other,
    })?;
    let mut results = vec![None; batch.len()];
    for made in 0..applied.rows.len() {
        let cause = applied
            .causes
            .as_ref()
            .map_or(Some(made), |c| c.get(made).map(|c| *c as usize));
        let row = cause.and_then(|cause| there.get(cause));
        if let Some(result) = row.and_then(|row| results.get_mut(*row)) {
            *result = applied.rows.value(made).map(<[u8]>::to_vec);
        }
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use record::OldsBuilder;

    use super::*;
    use crate::Stage;

    /// Keeps values that begin with `y`, and fails on `bad`.
    fn filter(batch: &Batch) -> Result<Applied, Error> {
        let mut kept = Vec::new();
        for row in 0..batch.len() as u32 {
            match batch.value(row as usize) {
                Some(b"bad") => {
                    return Err(Error::Row {
                        row,
                        stage: Stage::Processing,
                        reason: "bad".into(),
                    });
                }
                Some(value) if value.starts_with(b"y") => kept.push(row),
                _ => {}
            }
        }
        Ok(Applied {
            rows: batch.take(&kept)?,
            causes: Some(kept),
            dropped: 0,
        })
    }

    fn table(rows: &[(Option<&str>, Option<&str>)]) -> Batch {
        let (mut batch, mut olds) = (BatchBuilder::default(), OldsBuilder::default());
        for (new, old) in rows {
            batch.push(Some(b"k"), new.map(str::as_bytes), 5);
            olds.push(old.map(|old| (4, old.as_bytes())));
        }
        batch.finish().with_olds(olds.finish()).unwrap()
    }

    type Change = (Option<Vec<u8>>, Option<Vec<u8>>);

    fn changes(applied: &Applied) -> Vec<Change> {
        let rows = &applied.rows;
        let own = |bytes: &[u8]| bytes.to_vec();
        (0..rows.len())
            .map(|row| (rows.value(row).map(own), rows.old(row).map(|(_, old)| own(old))))
            .collect()
    }

    #[test]
    fn what_is_left_out_is_a_tombstone_where_there_was_a_row() {
        let rows = table(&[
            (Some("y1"), None),
            (Some("n"), Some("y1")),
            (Some("n"), Some("n")),
            (None, Some("y2")),
            (None, None),
        ]);
        let bytes = |text: &str| Some(text.as_bytes().to_vec());
        let with_olds = on_table(&rows, true, true, filter).unwrap();
        let expected = vec![(bytes("y1"), None), (None, bytes("y1")), (None, bytes("y2"))];
        assert_eq!(changes(&with_olds), expected);
        assert_eq!(with_olds.causes, Some(vec![0, 1, 3]));
        assert_eq!(with_olds.rows.old(1), Some((4, &b"y1"[..])));
        let all = on_table(&rows, true, false, filter).unwrap();
        assert_eq!((all.rows.len(), all.causes), (5, None));
        let without = on_table(&rows, false, false, filter).unwrap();
        assert_eq!((without.rows.len(), without.causes), (5, None));
    }

    #[test]
    fn a_row_that_fails_is_that_of_the_table() {
        let fails = on_table(&table(&[(None, None), (Some("bad"), None)]), false, false, filter);
        assert!(matches!(fails, Err(Error::Row { row: 1, .. })), "{fails:?}");
    }
}
