//! Two lists of rows beside each other: what is the same, what is missing, what came instead.

use super::lines::Expected;
use super::outcome::{Group, Outcome, Row};
use serde_json::Value;

/// Rows of one side that are aligned with those of the other. Beyond, rows are compared place by place.
const ALIGNED_ROWS_MAX: usize = 2_000;
/// Equal rows that are shown around a difference.
const CONTEXT_ROWS: usize = 3;

/// A difference in one group.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    pub group: Group,
    pub lines: Vec<Marked>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Marked {
    Same(Row),
    /// Only on the first side: expected.
    Missing(Row),
    /// Only on the second side: got.
    Extra(Row),
    /// So many equal rows are not shown.
    Skipped(usize),
}

/// A row fits when it has everything that the expected one says; of the reason for a stop, a part is enough.
fn fits(expected: &Row, got: &Row) -> bool {
    expected.iter().all(
        |(name, value)| match (name.as_str(), value.as_str(), got.get(name).and_then(Value::as_str)) {
            ("stops", Some(part), Some(whole)) => whole.contains(part),
            _ => got.get(name) == Some(value),
        },
    )
}

/// Groups that the case does not mention must be empty if they are outputs; stores and repartition topics are free.
/// The stores of a pipeline that stopped are not there.
pub fn with_expected(expected: &Expected, got: &Outcome, is_output: impl Fn(&Group) -> bool) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (group, rows) in &got.groups {
        let wanted = expected.get(group);
        if wanted.is_none() && !is_output(group) {
            continue;
        }
        differences.extend(difference(group, wanted.map_or(&[][..], Vec::as_slice), rows));
    }
    differences
}

/// Of two runs that should have given the same.
pub fn runs(first: &Outcome, second: &Outcome) -> Vec<Difference> {
    let empty = Vec::new();
    let rows = |group: &Group| second.groups.get(group).unwrap_or(&empty);
    first
        .groups
        .iter()
        .filter_map(|(group, wanted)| difference(group, wanted, rows(group)))
        .collect()
}

fn difference(group: &Group, wanted: &[Row], got: &[Row]) -> Option<Difference> {
    let same = wanted.len() == got.len() && wanted.iter().zip(got).all(|(w, g)| fits(w, g));
    (!same).then(|| Difference {
        group: group.clone(),
        lines: shortened(marked(wanted, got)),
    })
}

fn marked(wanted: &[Row], got: &[Row]) -> Vec<Marked> {
    if wanted.len().max(got.len()) > ALIGNED_ROWS_MAX {
        return place_by_place(wanted, got);
    }
    let lengths = common_lengths(wanted, got);
    let length = |w: usize, g: usize| lengths.get(w).and_then(|row| row.get(g)).copied().unwrap_or_default();
    let (mut w, mut g) = (0, 0);
    let mut lines = Vec::new();
    loop {
        match (wanted.get(w), got.get(g)) {
            (Some(a), Some(b)) if fits(a, b) && length(w, g) == length(w + 1, g + 1) + 1 => {
                lines.push(Marked::Same(like(b, a)));
                (w, g) = (w + 1, g + 1);
            }
            (Some(a), b) if b.is_none() || length(w + 1, g) >= length(w, g + 1) => {
                lines.push(Marked::Missing(like(a, a)));
                w += 1;
            }
            (_, Some(b)) => {
                lines.push(Marked::Extra(like(b, wanted.first().unwrap_or(b))));
                g += 1;
            }
            _ => return lines,
        }
    }
}

/// The row with those fields only that the other one has: what nobody asked for is noise.
fn like(row: &Row, other: &Row) -> Row {
    let bare = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    row.iter()
        .filter(|(name, value)| other.contains_key(*name) && !(name.as_str() == "headers" && bare(value)))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn place_by_place(wanted: &[Row], got: &[Row]) -> Vec<Marked> {
    let mut lines = Vec::new();
    for place in 0..wanted.len().max(got.len()) {
        match (wanted.get(place), got.get(place)) {
            (Some(w), Some(g)) if fits(w, g) => lines.push(Marked::Same(like(g, w))),
            (w, g) => {
                lines.extend(w.map(|row| Marked::Missing(like(row, row))));
                lines.extend(g.map(|row| Marked::Extra(like(row, w.unwrap_or(row)))));
            }
        }
    }
    lines
}

/// `[w][g]`: rows that the ends from `w` and `g` on have in common, in order.
fn common_lengths(wanted: &[Row], got: &[Row]) -> Vec<Vec<u32>> {
    let mut lengths = vec![vec![0_u32; got.len() + 1]; wanted.len() + 1];
    for (w, row) in wanted.iter().enumerate().rev() {
        let below = lengths.get(w + 1).cloned().unwrap_or_default();
        let Some(current) = lengths.get_mut(w) else { continue };
        for (g, other) in got.iter().enumerate().rev() {
            let at = |row: &[u32], g: usize| row.get(g).copied().unwrap_or_default();
            let length = if fits(row, other) {
                at(&below, g + 1) + 1
            } else {
                at(&below, g).max(at(current, g + 1))
            };
            if let Some(cell) = current.get_mut(g) {
                *cell = length;
            }
        }
    }
    lengths
}

fn shortened(lines: Vec<Marked>) -> Vec<Marked> {
    let differs: Vec<bool> = lines.iter().map(|line| !matches!(line, Marked::Same(_))).collect();
    let near = |place: usize| {
        let range = place.saturating_sub(CONTEXT_ROWS)..(place + CONTEXT_ROWS + 1).min(differs.len());
        differs.get(range).is_some_and(|around| around.contains(&true))
    };
    let mut shown = Vec::new();
    for (place, line) in lines.into_iter().enumerate() {
        if near(place) {
            shown.push(line);
        } else if let Some(Marked::Skipped(count)) = shown.last_mut() {
            *count += 1;
        } else {
            shown.push(Marked::Skipped(1));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rows(values: &[i64]) -> Vec<Row> {
        values
            .iter()
            .map(|v| [("value".to_owned(), json!(v))].into_iter().collect())
            .collect()
    }

    fn marks(wanted: &[i64], got: &[i64]) -> String {
        let lines = difference(&Group::DeadLetters, &rows(wanted), &rows(got))
            .map(|d| d.lines)
            .unwrap_or_default();
        let mark = |line: &Marked| match line {
            Marked::Same(row) => format!(" {}", row.values().map(ToString::to_string).collect::<String>()),
            Marked::Missing(row) => format!("-{}", row.values().map(ToString::to_string).collect::<String>()),
            Marked::Extra(row) => format!("+{}", row.values().map(ToString::to_string).collect::<String>()),
            Marked::Skipped(count) => format!("~{count}"),
        };
        lines.iter().map(mark).collect()
    }

    #[test]
    fn only_what_differs_is_marked() {
        assert_eq!(marks(&[1, 2, 3], &[1, 2, 3]), "");
        assert_eq!(marks(&[1, 2, 3], &[1, 3]), " 1-2 3");
        assert_eq!(marks(&[1, 3], &[1, 2, 3]), " 1+2 3");
        assert_eq!(marks(&[1, 2], &[1, 9]), " 1-2+9");
        assert_eq!(marks(&[], &[1]), "+1");
        assert_eq!(marks(&[1, 2, 3, 4, 5, 6], &[1, 2, 3, 4, 5]), "~2 3 4 5-6");
    }
}
