//! What a person sees: tables, sizes, durations. Data goes to stdout, talk to stderr.

use crate::args::Format;
use anyhow::Result;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;
use std::io::{IsTerminal, Write};

/// Prints to stdout; a closed pipe (`| head`) ends the process quietly, as a filter should.
pub fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{text}").is_err() {
        std::process::exit(0);
    }
}

/// Talk for the person: what is being done, hints.
pub fn say(text: &str) {
    anstream::eprintln!("{text}");
}

pub fn json(value: &impl Serialize) -> Result<()> {
    line(&serde_json::to_string_pretty(value)?);
    Ok(())
}

/// JSON, or what `text` prints.
pub fn either<T: Serialize>(format: Format, value: &T, text: impl FnOnce(&T)) -> Result<()> {
    match format {
        Format::Json => json(value)?,
        Format::Text => text(value),
    }
    Ok(())
}

/// A table without lines; columns named in `right` are aligned to the right.
pub fn table(head: &[&str], right: &[&str], rows: Vec<Vec<String>>) {
    let arrangement = if std::io::stdout().is_terminal() {
        ContentArrangement::Dynamic
    } else {
        ContentArrangement::Disabled
    };
    for row in table_lines(head, right, rows, arrangement) {
        line(&row);
    }
}

/// The same as lines of text.
pub fn table_lines(
    head: &[&str],
    right: &[&str],
    rows: Vec<Vec<String>>,
    arrangement: ContentArrangement,
) -> Vec<String> {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(head.iter().map(|h| h.to_uppercase()))
        .set_content_arrangement(arrangement);
    for row in rows {
        table.add_row(row);
    }
    for (index, name) in head.iter().enumerate() {
        if let Some(column) = table.column_mut(index) {
            column.set_padding((0, 2));
            if right.contains(name) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    table.lines().map(|row| row.trim_end().to_owned()).collect()
}

/// At most so many characters; the last one tells that there were more.
pub fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// `18.3 MiB`.
pub fn size(bytes: u64) -> String {
    let (mut amount, mut unit) = (bytes as f64, "B");
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if amount < 1024.0 {
            break;
        }
        (amount, unit) = (amount / 1024.0, next);
    }
    if unit == "B" {
        format!("{bytes} B")
    } else {
        format!("{amount:.1} {unit}")
    }
}

/// `208,160`.
pub fn number(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if n < 0 { format!("-{text}") } else { text }
}

/// `1.5 s`, `320 ms`.
pub fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", ms as f64 / 1e3),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms / 1_000 % 60),
        _ => format!("{} h {} min", ms / 3_600_000, ms / 60_000 % 60),
    }
}

/// Milliseconds since 1970, UTC to the second.
pub fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| time.strftime("%F %T").to_string())
}

/// A JSON value as a cell: text without quotes.
pub fn cell(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_numbers_with_commas() {
        assert_eq!([number(0), number(999), number(-1_234_567)], ["0", "999", "-1,234,567"]);
        assert_eq!([size(17), size(18 << 20)], ["17 B", "18.0 MiB"]);
    }
}
