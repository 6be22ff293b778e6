//! The table, its ratios, and the bars with "met" or "missed by".

use crate::bars;
use crate::programs::{Programs, System};
use crate::rows::{Cell, Results, Row, What};
use std::fmt::Write;

/// One run, as it is told while the set goes on.
pub fn line(row: &Row) -> String {
    let mut text = format!(
        "{:?} {} {} {} {} round {}:",
        row.cell.what,
        row.system.name(),
        row.cell.job.name(),
        row.cell.guarantee.name(),
        row.cell.threads,
        row.round
    );
    for (name, value) in row
        .figures
        .iter()
        .filter(|(name, _)| !name.contains("whole") && !name.contains("broker"))
    {
        _ = write!(text, " {name} {}", short(*value));
    }
    text
}

/// Four digits are more than any of these figures has.
pub fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 1_000.0 => {
            let digits = format!("{value:.0}");
            let mut out = String::new();
            for (index, digit) in digits.chars().enumerate() {
                if index > 0 && (digits.len() - index).is_multiple_of(3) {
                    out.push(',');
                }
                out.push(digit);
            }
            out
        }
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), short)
}

/// Figures of the throughput table: name, heading.
const THROUGHPUT: [(&str, &str); 6] = [
    ("records-per-second", "records/s"),
    ("cpu-s-per-million", "CPU s/M"),
    ("warm-cpu-s-per-million", "warm CPU s/M"),
    ("broker-cpu-s-per-million", "broker CPU s/M"),
    ("peak-mib", "peak MiB"),
    ("start-s", "start s"),
];

fn title(cell: &Cell) -> String {
    let mut title = format!("{} {}", cell.job.name(), cell.guarantee.name());
    if cell.threads > 1 {
        _ = write!(title, ", {} threads", cell.threads);
    }
    if !cell.variant.is_empty() {
        _ = write!(title, ", {}", cell.variant);
    }
    title
}

/// `of / to` as "3.2x".
fn ratio(of: Option<f64>, to: Option<f64>) -> String {
    match (of, to) {
        (Some(of), Some(to)) if to > 0.0 => format!("{:.2}x", of / to),
        _ => "-".to_owned(),
    }
}

/// Rows of a table with columns of their own width; Markdown, and readable as it is.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |c: usize| {
        rows.iter()
            .filter_map(|r| r.get(c))
            .map(|t| t.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).enumerate();
        let padded = cells.map(|(column, (cell, width))| match column {
            0 | 1 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        _ = writeln!(text, "| {} |", padded.collect::<Vec<_>>().join(" | "));
        if index == 0 {
            let rule = widths.iter().enumerate().map(|(column, width)| match column {
                0 | 1 => "-".repeat(*width),
                _ => format!("{}:", "-".repeat(width.saturating_sub(1))),
            });
            _ = writeln!(text, "| {} |", rule.collect::<Vec<_>>().join(" | "));
        }
    }
    text
}

fn throughput(results: &Results) -> String {
    let mut rows = vec![vec!["job".to_owned(), "program".to_owned()]];
    rows[0].extend(THROUGHPUT.map(|(_, heading)| heading.to_owned()));
    rows[0].extend(["records/s to Streams", "CPU to Streams", "CPU to floor"].map(str::to_owned));
    for cell in results.cells(What::Throughput) {
        for system in results.systems(&cell) {
            let median = |system, figure| results.median(&cell, system, figure);
            let mut row = vec![title(&cell), system.name()];
            row.extend(THROUGHPUT.map(|(figure, _)| shown(median(system, figure))));
            let to = |figure, other| ratio(median(system, figure), median(other, figure));
            row.extend([
                to("records-per-second", System::Streams),
                to("cpu-s-per-million", System::Streams),
                to("cpu-s-per-million", System::Floor),
            ]);
            rows.push(row);
        }
    }
    table(&rows)
}

/// A measurement, its heading, and its figures with theirs.
type Section = (What, &'static str, &'static [(&'static str, &'static str)]);

/// All but throughput.
const OTHERS: [Section; 5] = [
    (
        What::Restore,
        "Restore (state removed, changelog on the broker; by the program's own word, then start to output)",
        &[
            ("restore-s", "restore s"),
            ("keys-per-second", "keys/s"),
            ("restart-with-state-s", "start with state s"),
            ("restart-without-state-s", "start without s"),
            ("peak-mib", "peak MiB"),
        ],
    ),
    (
        What::Crash,
        "Killed in the middle of the input, static member: start to the next committed output",
        &[("restart-to-output-s", "s")],
    ),
    (
        What::Latency,
        "Latency at 5,000 records/s",
        &[
            ("p50-ms", "p50 ms"),
            ("p90-ms", "p90 ms"),
            ("p99-ms", "p99 ms"),
            ("max-ms", "max ms"),
            ("cores", "cores"),
        ],
    ),
    (
        What::Embedded,
        "On the embedded log (no broker; the log's own work is in the CPU seconds)",
        &[
            ("records-per-second", "records/s"),
            ("cpu-s-per-million", "CPU s/M"),
            ("peak-mib", "peak MiB"),
        ],
    ),
    (
        What::Curve,
        "Cost by number of records and keys (flat is good)",
        &[
            ("records-per-second", "records/s"),
            ("cpu-s-per-million", "CPU s/M"),
            ("warm-cpu-s-per-million", "warm CPU s/M"),
            ("peak-mib", "peak MiB"),
        ],
    ),
];

fn other(results: &Results, what: What, heading: &str, figures: &[(&str, &str)]) -> String {
    let mut rows = vec![vec!["job".to_owned(), "program".to_owned()]];
    rows[0].extend(figures.iter().map(|(_, heading)| (*heading).to_owned()));
    for cell in results.cells(what) {
        for system in results.systems(&cell) {
            let title = match what {
                What::Curve => {
                    let (records, keys) = (short(cell.records as f64), short(cell.keys as f64));
                    format!("{records} records, {keys} keys, {}", title(&cell))
                }
                What::Restore => format!("{} keys, {}", short(cell.keys as f64), title(&cell)),
                _ => title(&cell),
            };
            let mut row = vec![title, system.name()];
            row.extend(
                figures
                    .iter()
                    .map(|(figure, _)| shown(results.median(&cell, system, figure))),
            );
            rows.push(row);
        }
    }
    if rows.len() > 1 {
        format!("\n## {heading}\n\n{}", table(&rows))
    } else {
        String::new()
    }
}

/// Everything as printed.
pub fn text(results: &Results, _programs: &Programs) -> String {
    let mut text = String::new();
    if !results.cells(What::Throughput).is_empty() {
        _ = write!(text, "## Throughput\n\n{}", throughput(results));
    }
    for (what, heading, figures) in OTHERS {
        text.push_str(&other(results, what, heading, figures));
    }
    let bars = bars::all(results);
    if !bars.is_empty() {
        let mut rows = vec![["bar", "asked", "measured", "verdict"].map(str::to_owned).to_vec()];
        rows.extend(bars.into_iter().map(|bar| {
            let verdict = bar.verdict();
            vec![bar.what, bar.asked, bar.measured, verdict]
        }));
        _ = write!(text, "\n## Bars\n\n{}", table(&rows));
    }
    text
}

/// The page that is kept: the tables with what a reader must know to judge them, and every round.
pub fn page(results: &Results, programs: &Programs, tables: &str) -> String {
    let mut page = String::from("# Measured beside Kafka Streams\n\n");
    page.push_str(&crate::machine::described(results, programs));
    _ = write!(page, "\n{tables}\n## Every round\n\n");
    let mut rows = vec![
        ["what", "program", "round", "load", "figures"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for row in &results.rows {
        let figures: Vec<String> = row.figures.iter().map(|(n, v)| format!("{n} {}", short(*v))).collect();
        let size = format!(
            "{} records, {} keys",
            short(row.cell.records as f64),
            short(row.cell.keys as f64)
        );
        rows.push(vec![
            format!("{:?} {}, {size}", row.cell.what, title(&row.cell)).to_lowercase(),
            row.system.name(),
            row.round.to_string(),
            short(row.load),
            figures.join("; "),
        ]);
    }
    page.push_str(&table(&rows));
    page
}
