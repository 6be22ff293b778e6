//! Operators on tables: their rows replace each other, so what a row takes away counts as much as what it brings.

use topology::{AggregateFunction, Dedup, Emit, Format, NodeKind, Selector, StoreKind, TtlTable, VersionedTable};

use crate::build::{Builder, feed, settle, was};
use crate::diagnostics::{Code, Diagnostic};
use crate::file::{AggregatePart, Part, StepPart, Work};
use crate::joins::TIME_MS_MAX;
use crate::reader::{Reader, Text};
use crate::steps::STEP;
use crate::tree::{Span, Table};
use crate::wiring::{Out, Outputs};

/// How the rows of a table live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowsPart {
    pub ttl_ms: Option<i64>,
    /// How far back the table remembers.
    pub history_ms: Option<i64>,
}

/// `ttl = "1d"` or `versioned = "1h"`, of a table.
pub fn read_rows(table: &Table, is_table: bool, reader: &mut Reader) -> RowsPart {
    let mut time = |key: &str| {
        let entry = table.entry(key)?;
        if !is_table {
            let message = format!("`{key}` is for tables");
            reader.bad_value(&entry.key_span, message, Some("say `as = \"table\"`".to_string()));
        }
        reader
            .duration(table, key, 1..=TIME_MS_MAX)
            .and_then(|ms| i64::try_from(ms).ok())
    };
    let (ttl_ms, history_ms) = (time("ttl"), time("versioned"));
    if let (Some(_), Some(_), Some(entry)) = (ttl_ms, history_ms, table.entry("versioned")) {
        reader.later(&entry.key_span, "`versioned` beside `ttl`");
    }
    RowsPart { ttl_ms, history_ms }
}

/// `op = "dedup"`, `within = "1h"`.
pub fn read_dedup(table: &Table, reader: &mut Reader) -> Work {
    reader.keys(table, "a `dedup` step", &[STEP, &["within"]].concat(), &["by"]);
    if table.get("within").is_none() {
        let span = table.get("op").map_or(table.span.clone(), |op| op.span.clone());
        let hint = "say for how long a key is remembered: `within = \"1h\"`";
        reader.missing(&span, "a `dedup` step", "within", hint);
    }
    match reader.duration(table, "within", 1..=TIME_MS_MAX).map(i64::try_from) {
        Some(Ok(within_ms)) => Work::Dedup { within_ms },
        _ => Work::Unknown,
    }
}

impl Builder<'_> {
    /// A table of rows of `input`. `names`: of its store, and the one under which its changelog was made.
    pub(crate) fn table(&mut self, node: &str, names: (&str, &str), span: &Span, input: Out, rows: RowsPart) -> Out {
        let (name, topics) = names;
        let form = (StoreKind::Timestamped, 1, settle(input.key), settle(input.value));
        let store = self.store(name, topics, span, form, Emit::EveryUpdate);
        let mut beside = |what: &str| {
            let form = (StoreKind::KeyValue, 1, Format::Bytes, Format::Bytes);
            let (name, topics) = (format!("{name}-{what}"), format!("{topics}-{what}"));
            self.store(&name, &topics, span, form, Emit::EveryUpdate)
        };
        let kind = match rows {
            RowsPart {
                history_ms: Some(history_ms),
                ..
            } => NodeKind::VersionedTable(VersionedTable {
                history_ms,
                store,
                history: beside("history"),
            }),
            RowsPart {
                ttl_ms: Some(ttl_ms), ..
            } => NodeKind::TtlTable(TtlTable {
                ttl_ms,
                store,
                index: beside("ttl"),
            }),
            RowsPart { .. } => NodeKind::ToTable { store },
        };
        let id = self.node(node, kind, vec![feed(&input, 0)]);
        Out {
            node: id,
            port: 0,
            table: true,
            ..input
        }
    }

    /// The output of a table that has the latest rows only: late ones change no aggregate and no joined table.
    pub(crate) fn latest(&self, input: Out) -> Out {
        let versioned = matches!(
            self.nodes.get(input.node).map(|node| &node.kind),
            Some(NodeKind::VersionedTable(_))
        );
        Out {
            port: if versioned { 1 } else { input.port },
            ..input
        }
    }

    /// What a table is made of row by row: the node above filters, new values and `peek`, or its own.
    pub(crate) fn made_of(&self, table: &Out) -> Option<&NodeKind> {
        let mut node = self.nodes.get(table.node)?;
        // A node's inputs were made before it.
        loop {
            let passes = match &node.kind {
                NodeKind::Filter(filter) => filter.table,
                NodeKind::Map(map) => map.table,
                NodeKind::Merge => true,
                _ => false,
            };
            match node.inputs.as_slice() {
                [above] if passes => node = self.nodes.get(above.from)?,
                _ => return Some(&node.kind),
            }
        }
    }

    pub(crate) fn dedup(&mut self, step: &StepPart, within_ms: i64, input: Out, from: &Text) -> Outputs {
        self.no_table(&input, from, "`dedup` of a table, whose rows replace each other,");
        let by = Part {
            selector: Selector::Key,
            span: from.span.clone(),
        };
        let at = self.regroup(step, input, &by, None);
        let name = &step.name.text;
        let form = (StoreKind::KeyValue, 1, Format::Bytes, Format::Bytes);
        let store = self.store(name, was(step), &step.name.span, form, Emit::EveryUpdate);
        let node = self.node(name, NodeKind::Dedup(Dedup { within_ms, store }), vec![feed(&at, 0)]);
        Outputs::One(Out { node, port: 0, ..at })
    }

    /// Old values are taken out and new ones added, so there are only aggregates that can take out.
    pub(crate) fn table_aggregate(
        &mut self,
        step: &StepPart,
        part: &AggregatePart,
        input: Out,
        from: &Text,
    ) -> Outputs {
        if !matches!(part.function, AggregateFunction::Count | AggregateFunction::Sum) {
            let word = part.function.word();
            let message =
                format!("`{word}` of a table: when a row is replaced, a `{word}` cannot take its old value out");
            let hint = "`count` and `sum` can; the others work on a stream, where nothing is ever taken back";
            let problem = Diagnostic::at(Code::BadValue, &from.span, message).label("a table");
            self.reader.report(problem.hint(hint));
            return Outputs::Unknown;
        }
        if let Some(NodeKind::WindowAggregate(_) | NodeKind::Suppress(_)) = self.made_of(&input) {
            self.no_table(
                &input,
                from,
                "a table of windows is aggregated by taking out old results, which",
            );
            return Outputs::Unknown;
        }
        let name = &step.name.text;
        let group_key = self.part_format(&part.by, &input);
        let reduced = self.reduced(part, &input, from);
        let known = reduced.known;
        let (key, result) = (settle(group_key), settle(known));
        let input = self.latest(input);
        let kind = NodeKind::GroupTable(part.by.selector.clone());
        let node = self.node(format!("{name}-group"), kind, vec![feed(&input, 0)]);
        let mut at = Out {
            node,
            key: Some(key),
            value: Some(Format::Bytes),
            ..Out::default()
        };
        if part.by.selector != Selector::Key {
            at = self.repartition(name, was(step), at, part.partitions);
        }
        let form = (StoreKind::Timestamped, 1, key, result);
        let store = self.store(name, was(step), &step.name.span, form, part.emit);
        let node = self.node(
            name,
            NodeKind::TableAggregate(reduced.aggregate(part, store)),
            vec![feed(&at, 0)],
        );
        Outputs::One(Out {
            node,
            port: 0,
            key: Some(key),
            value: known,
            key_changed: false,
            table: true,
        })
    }
}
