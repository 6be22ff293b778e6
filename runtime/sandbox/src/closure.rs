//! A closure of an application, called for the rows of its node: what its answer may hold.

use task::processor::{Answer, Emission, Emitted};
use topology::ClosureForm;

/// Checks an answer that keeps the rules for every answer against those of the node's operator.
///
/// # Errors
/// Which rule it breaks, in a form that completes "the answer of `transform` …".
pub(crate) fn check(form: ClosureForm, answer: &Answer, rows: usize) -> Result<(), String> {
    let word = form.word();
    match (&answer.emitted, form) {
        (Emitted::Selected(_), ClosureForm::Filter) => Ok(()),
        (Emitted::Nothing, ClosureForm::Filter) => Ok(()),
        (Emitted::Selected(_), _) => Err(format!("selects rows, which a `{word}` does not")),
        (Emitted::Rows(_), ClosureForm::Filter) => Err("makes rows, where a `filter` selects them".to_owned()),
        (Emitted::Nothing, _) if form.gives_one() && answer.outcomes.len() < rows => Err(missing(word, 0, rows)),
        (Emitted::Nothing, _) => Ok(()),
        (Emitted::Rows(emission), _) => check_rows(form, emission, answer.outcomes.len(), rows),
    }
}

fn check_rows(form: ClosureForm, emission: &Emission, outcomes: usize, rows: usize) -> Result<(), String> {
    let word = form.word();
    let columns = [
        ("targets", emission.targets.is_some(), false),
        ("keys", emission.keys.is_some(), form.makes_keys()),
        ("values", emission.values.is_some(), form.makes_values()),
        ("timestamps", emission.timestamps.is_some(), false),
        ("headers", emission.headers.is_some(), false),
    ];
    for (column, given, wanted) in columns {
        match (given, wanted) {
            (true, false) => return Err(format!("has `{column}`, which a `{word}` does not make")),
            (false, true) => return Err(format!("has no `{column}`, which a `{word}` makes")),
            _ => {}
        }
    }
    if !form.gives_one() {
        return Ok(());
    }
    let Some(causes) = &emission.causes else { return Ok(()) };
    if let Some(row) = causes.iter().zip(causes.iter().skip(1)).find(|(a, b)| a == b) {
        return Err(format!("has two rows for row {}, where a `{word}` gives one", row.0));
    }
    match causes.len() + outcomes == rows {
        true => Ok(()),
        false => Err(missing(word, causes.len(), rows - outcomes)),
    }
}

fn missing(word: &str, found: usize, wanted: usize) -> String {
    format!("has {found} rows, where a `{word}` gives one for each of {wanted}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use arrow_array::BinaryArray;
    use task::processor::RowOutcome;

    fn rows(causes: Option<Vec<u32>>, keys: usize, values: usize) -> Answer {
        let column = |rows: usize| (rows > 0).then(|| BinaryArray::new_null(rows));
        Answer {
            emitted: Emitted::Rows(Emission {
                causes,
                keys: column(keys),
                values: column(values),
                ..Emission::default()
            }),
            outcomes: Vec::new(),
        }
    }

    #[test]
    fn each_operator_has_its_columns_and_its_number_of_rows() {
        use ClosureForm::{Filter, FlatMap, FlatMapValues, Map, MapValues, SelectKey};
        let nothing = || Answer {
            emitted: Emitted::Nothing,
            outcomes: Vec::new(),
        };
        assert!(check(MapValues, &rows(None, 0, 2), 2).is_ok());
        assert!(check(Map, &rows(None, 2, 2), 2).is_ok());
        assert!(check(SelectKey, &rows(None, 2, 0), 2).is_ok());
        assert!(check(FlatMapValues, &rows(Some(vec![1, 1]), 0, 2), 2).is_ok());
        assert!(check(FlatMap, &nothing(), 2).is_ok());
        assert!(check(Filter, &nothing(), 2).is_ok());
        let mut one_failed = rows(Some(vec![1]), 0, 1);
        one_failed.outcomes.push((0, RowOutcome::Drop(String::new())));
        assert!(check(MapValues, &one_failed, 2).is_ok());
        for (form, answer, expected) in [
            (
                MapValues,
                nothing(),
                "has 0 rows, where a `map-values` gives one for each of 2",
            ),
            (MapValues, rows(Some(vec![1]), 0, 1), "has 1 rows"),
            (Map, rows(Some(vec![1, 1]), 2, 2), "two rows for row 1"),
            (
                MapValues,
                rows(None, 2, 2),
                "has `keys`, which a `map-values` does not make",
            ),
            (FlatMap, rows(Some(vec![0]), 0, 1), "has no `keys`"),
            (SelectKey, rows(None, 2, 2), "has `values`"),
            (Filter, rows(None, 0, 2), "makes rows"),
        ] {
            let message = check(form, &answer, 2).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
    }
}
