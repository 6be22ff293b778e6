//! A guest's answers, checked against the contract before the task sees them.

use arrow_array::Array;
use arrow_buffer::{BooleanBuffer, ScalarBuffer};
use task::processor::{Answer, Emission, Emitted, RowOutcome};

use crate::bindings::wasmill::streams::answers as wit;
use crate::columns;

/// Of a guest's own words about a failure.
const REASON_BYTES_MAX: usize = 4 << 10;

/// The answer to `process` with `rows` input rows, from a module with `outputs` output ports.
///
/// # Errors
/// Which rule it breaks, in a form that completes "the answer of `process` …".
pub(crate) fn lift(answer: wit::Answer, rows: usize, outputs: usize) -> Result<Answer, String> {
    let outcomes = lift_outcomes(answer.outcomes, rows)?;
    let failed = |row: u32| outcomes.binary_search_by_key(&row, |(row, _)| *row).is_ok();
    let emitted = match answer.emitted {
        wit::Emitted::Nothing => Emitted::Nothing,
        wit::Emitted::Selected(bits) => {
            let selected = columns::bitmap("`selected`", bits, rows)?;
            if let Some((row, _)) = outcomes.iter().find(|(row, _)| is_set(&selected, *row)) {
                return Err(format!("selects row {row} and gives it an outcome as well"));
            }
            Emitted::Selected(selected)
        }
        wit::Emitted::Rows(emission) => {
            let emission = lift_emission(emission, Some(rows), outputs)?;
            if !outcomes.is_empty() {
                let twice = match &emission.causes {
                    Some(causes) => causes.iter().copied().find(|row| failed(*row)),
                    None => outcomes.first().map(|(row, _)| *row),
                };
                if let Some(row) = twice {
                    return Err(format!(
                        "emits a row caused by row {row} and gives that row an outcome as well"
                    ));
                }
            }
            Emitted::Rows(emission)
        }
    };
    Ok(Answer { emitted, outcomes })
}

fn is_set(bits: &BooleanBuffer, row: u32) -> bool {
    (row as usize) < bits.len() && bits.value(row as usize)
}

/// The answer to `punctuate`.
///
/// # Errors
/// As [`lift`], completing "the answer of `punctuate` …".
pub(crate) fn lift_punctuation(rows: wit::Rows, outputs: usize) -> Result<Emission, String> {
    if rows.causes.is_some() {
        return Err("has `causes`, where no row causes anything".into());
    }
    lift_emission(rows, None, outputs)
}

/// `input_rows` is `None` for a punctuation, whose rows are counted by any column that is there.
fn lift_emission(rows: wit::Rows, input_rows: Option<usize>, outputs: usize) -> Result<Emission, String> {
    let column = |what, column: Option<_>| column.map(|c| columns::lift(what, c)).transpose();
    let keys = column("`keys`", rows.keys)?;
    let values = column("`values`", rows.values)?;
    let headers = rows.headers.map(columns::lift_headers).transpose()?;
    let lengths = [
        ("causes", rows.causes.as_ref().map(Vec::len)),
        ("targets", rows.targets.as_ref().map(Vec::len)),
        ("keys", keys.as_ref().map(Array::len)),
        ("values", values.as_ref().map(Array::len)),
        ("timestamps", rows.timestamps.as_ref().map(Vec::len)),
        ("headers", headers.as_ref().map(record::Headers::len)),
    ];
    let mut count = match (&rows.causes, input_rows) {
        (None, Some(input)) => Some(("the input", input)),
        _ => None,
    };
    for (column, length) in lengths {
        let Some(length) = length else { continue };
        match count {
            None => count = Some((column, length)),
            Some((other, rows)) if rows != length => {
                return Err(format!("has {length} rows in `{column}` and {rows} in {other}"));
            }
            Some(_) => {}
        }
    }
    if let (Some(causes), Some(input)) = (&rows.causes, input_rows) {
        check_causes(causes, input)?;
    }
    let some = count.is_some_and(|(_, rows)| rows > 0);
    if some && input_rows.is_none() && (keys.is_none() || values.is_none()) {
        return Err("must give `keys` and `values`: there is no row to inherit them from".into());
    }
    if let Some(target) = rows.targets.iter().flatten().find(|t| **t as usize >= outputs) {
        return Err(format!("sends a row to output {target}, and the module has {outputs}"));
    }
    if rows.targets.is_none() && outputs == 0 && some {
        return Err("emits rows, and the module has no output".into());
    }
    if let Some((row, time)) = rows.timestamps.iter().flatten().enumerate().find(|(_, t)| **t < 0) {
        return Err(format!("has the negative timestamp {time} at row {row}"));
    }
    let timestamps = rows.timestamps.map(ScalarBuffer::from);
    Ok(Emission {
        causes: rows.causes,
        targets: rows.targets,
        keys,
        values,
        timestamps,
        headers,
    })
}

fn check_causes(causes: &[u32], input_rows: usize) -> Result<(), String> {
    if let Some(at) = causes.iter().zip(causes.iter().skip(1)).position(|(a, b)| a > b) {
        return Err(format!("has causes that decrease after row {at}"));
    }
    match causes.last() {
        Some(last) if *last as usize >= input_rows => Err(format!(
            "names row {last} as a cause, and the call had {input_rows} rows"
        )),
        _ => Ok(()),
    }
}

pub(crate) fn lift_outcomes(outcomes: Vec<wit::Outcome>, rows: usize) -> Result<Vec<(u32, RowOutcome)>, String> {
    let lifted: Vec<(u32, RowOutcome)> = outcomes
        .into_iter()
        .map(|outcome| {
            let disposition = match outcome.disposition {
                wit::Disposition::Drop(reason) => RowOutcome::Drop(said(reason)),
                wit::Disposition::DeadLetter(reason) => RowOutcome::DeadLetter(said(reason)),
                wit::Disposition::Retry(retry) => RowOutcome::Retry {
                    after_ms: retry.after_ms,
                    reason: said(retry.reason),
                },
                wit::Disposition::Fail(reason) => RowOutcome::Fail(said(reason)),
            };
            (outcome.row, disposition)
        })
        .collect();
    if let Some(((a, _), (b, _))) = lifted.iter().zip(lifted.iter().skip(1)).find(|((a, _), (b, _))| a >= b) {
        return Err(match a == b {
            true => format!("gives row {a} two outcomes"),
            false => format!("has an outcome of row {b} after one of row {a}: they must rise"),
        });
    }
    match lifted.last() {
        Some((row, _)) if *row as usize >= rows => {
            Err(format!("gives an outcome to row {row}, and the call had {rows} rows"))
        }
        _ => Ok(lifted),
    }
}

/// What a guest says of a failure, cut to what fits a status line, a header and a log.
pub(crate) fn said(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    reason
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::bindings::wasmill::data::columns::ColumnResult;

    fn rows() -> wit::Rows {
        wit::Rows {
            causes: None,
            targets: None,
            keys: None,
            values: None,
            timestamps: None,
            headers: None,
        }
    }

    fn emit(rows: wit::Rows) -> wit::Answer {
        wit::Answer {
            emitted: wit::Emitted::Rows(rows),
            outcomes: vec![],
        }
    }

    fn dropped(row: u32) -> wit::Outcome {
        wit::Outcome {
            row,
            disposition: wit::Disposition::Drop("no".into()),
        }
    }

    #[test]
    fn every_rule_of_an_answer_is_checked() {
        let letters = |n: u32| ColumnResult {
            data: vec![b'x'; n as usize],
            offsets: (0..=n).collect(),
            validity: None,
        };
        let cases = [
            (
                emit(wit::Rows {
                    values: Some(letters(2)),
                    ..rows()
                }),
                "2 rows in `values` and 3 in the input",
            ),
            (
                emit(wit::Rows {
                    causes: Some(vec![1, 0]),
                    ..rows()
                }),
                "causes that decrease after row 0",
            ),
            (
                emit(wit::Rows {
                    causes: Some(vec![0, 3]),
                    ..rows()
                }),
                "names row 3 as a cause",
            ),
            (
                emit(wit::Rows {
                    targets: Some(vec![0, 2, 1]),
                    ..rows()
                }),
                "output 2, and the module has 2",
            ),
            (
                emit(wit::Rows {
                    timestamps: Some(vec![0, 5, -1]),
                    ..rows()
                }),
                "negative timestamp -1 at row 2",
            ),
            (
                wit::Answer {
                    emitted: wit::Emitted::Selected(vec![0, 0]),
                    outcomes: vec![],
                },
                "a bitmap of 2 bytes for 3 rows",
            ),
            (
                wit::Answer {
                    emitted: wit::Emitted::Nothing,
                    outcomes: vec![dropped(3)],
                },
                "an outcome to row 3",
            ),
            (
                wit::Answer {
                    emitted: wit::Emitted::Nothing,
                    outcomes: vec![dropped(1), dropped(1)],
                },
                "two outcomes",
            ),
            (
                wit::Answer {
                    emitted: wit::Emitted::Nothing,
                    outcomes: vec![dropped(1), dropped(0)],
                },
                "must rise",
            ),
            (
                wit::Answer {
                    emitted: wit::Emitted::Selected(vec![0b010]),
                    outcomes: vec![dropped(1)],
                },
                "selects row 1 and",
            ),
            (
                wit::Answer {
                    emitted: wit::Emitted::Rows(wit::Rows {
                        causes: Some(vec![0, 2]),
                        ..rows()
                    }),
                    outcomes: vec![dropped(2)],
                },
                "caused by row 2",
            ),
        ];
        for (answer, expected) in cases {
            let message = lift(answer, 3, 2).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn a_punctuation_inherits_nothing() {
        let column = || {
            Some(ColumnResult {
                data: vec![],
                offsets: vec![0, 0],
                validity: Some(vec![0]),
            })
        };
        let whole = wit::Rows {
            keys: column(),
            values: column(),
            ..rows()
        };
        assert!(lift_punctuation(whole, 1).is_ok());
        assert!(lift_punctuation(rows(), 1).is_ok());
        let no_keys = wit::Rows {
            values: column(),
            ..rows()
        };
        assert!(
            lift_punctuation(no_keys, 1)
                .unwrap_err()
                .contains("must give `keys` and `values`")
        );
        let caused = wit::Rows {
            causes: Some(vec![]),
            ..rows()
        };
        assert!(lift_punctuation(caused, 1).unwrap_err().contains("`causes`"));
    }
}
