//! `op = "join"`: two inputs, `left` and `right`.

use topology::{
    Emit, FieldPath, Format, JoinGrace, JoinKind, NodeKind, Projection, Selector, Side, StoreId, StoreKind, TableJoin,
    VersionedTable,
};

use crate::build::{Builder, feed, settle, was};
use crate::diagnostics::{Code, Diagnostic};
use crate::file::{Inputs, StepPart, Work};
use crate::reader::{Reader, Text};
use crate::selectors;
use crate::tree::{Span, Table};
use crate::wiring::{Out, Outputs};

/// A hundred years: more than any stream has, and far from where sums of times overflow.
pub const TIME_MS_MAX: u64 = 100 * 365 * 86_400_000;

/// A span of time in milliseconds, and where the file says so.
pub type Time = (u64, Span);

#[derive(Debug)]
pub struct JoinPart {
    pub kind: JoinKind,
    pub left: Text,
    pub right: Text,
    pub value: Projection,
    pub within: Option<Time>,
    pub before: Option<Time>,
    pub after: Option<Time>,
    pub grace: Option<Time>,
    /// Whether the file says a span, and a grace, right or wrong.
    pub says: (bool, bool),
    /// The key of the right side, in the left one.
    pub on: Option<Text>,
}

impl JoinPart {
    pub fn inputs(&self, table: &Table) -> Inputs {
        let port = |key: &str, from: &Text| {
            let span = table
                .entry(key)
                .map_or(from.span.clone(), |entry| entry.key_span.clone());
            let text = key.to_string();
            (Text { text, span }, from.clone())
        };
        let ports = vec![port("left", &self.left), port("right", &self.right)];
        Inputs::Ports(ports, table.span.clone())
    }
}

pub fn read(table: &Table, reader: &mut Reader) -> Work {
    let keys = [
        "on", "op", "left", "right", "kind", "value", "within", "before", "after", "grace", "was", "on-error",
    ];
    reader.keys(table, "a `join` step", &keys, &["partitions", "retention"]);
    let kinds = [
        ("inner", JoinKind::Inner),
        ("left", JoinKind::Left),
        ("outer", JoinKind::Outer),
    ];
    let kind = reader.word(table, "kind", &kinds, &[]).unwrap_or_default();
    let mut side = |key: &str| {
        if table.get(key).is_none() {
            let span = table.get("op").map_or(table.span.clone(), |op| op.span.clone());
            reader.missing(
                &span,
                "a `join` step",
                key,
                "say `left = \"NAME\"` and `right = \"NAME\"`",
            );
        }
        reader.text(table, key)
    };
    let (left, right) = (side("left"), side("right"));
    let mut time = |key: &str| {
        let span = table.get(key)?.span.clone();
        let ms = reader.duration(table, key, 0..=TIME_MS_MAX)?;
        Some((ms, span))
    };
    let (within, before, after, grace) = (time("within"), time("before"), time("after"), time("grace"));
    let spans = ["within", "before", "after"];
    let says = (
        spans.iter().any(|key| table.get(key).is_some()),
        table.get("grace").is_some(),
    );
    let on = reader.text(table, "on");
    let value = projection(table, reader);
    match (left, right) {
        (Some(left), Some(right)) => Work::Join(Box::new(JoinPart {
            kind,
            left,
            right,
            value,
            within,
            before,
            after,
            grace,
            says,
            on,
        })),
        _ => Work::Unknown,
    }
}

/// `value = { amount = "left.amount", home = "right.country", card = "key", all = "left" }`.
fn projection(table: &Table, reader: &mut Reader) -> Projection {
    let Some(value) = table.get("value").and_then(|value| reader.table(value, "`value`")) else {
        return Projection::Both;
    };
    let mut fields = Vec::new();
    for entry in &value.entries {
        let Some(text) = reader.as_text(&entry.value, &format!("`value.{}`", entry.key)) else {
            continue;
        };
        match part(&text.text) {
            Some((side, selector)) => fields.push((entry.key.clone(), side, selector)),
            None => {
                let message = format!("`{}` is no part of a joined record", text.text);
                let hint = "say `key`, `left`, `left.FIELD`, `right` or `right.FIELD`, a field of a JSON value";
                reader.bad_value(&text.span, message, Some(hint.to_string()));
            }
        }
    }
    Projection::Fields(fields)
}

fn part(text: &str) -> Option<(Side, Selector)> {
    if text == "key" {
        return Some((Side::Left, Selector::Key));
    }
    let (name, path) = match text.split_once('.') {
        Some((name, path)) => (name, Some(path)),
        None => (text, None),
    };
    let side = match name {
        "left" => Side::Left,
        "right" => Side::Right,
        _ => return None,
    };
    let Some(path) = path else {
        return Some((side, Selector::Value));
    };
    let path: Vec<String> = path.split('.').map(str::to_string).collect();
    let whole = path.iter().all(|field| !field.is_empty());
    whole.then_some((side, Selector::Field(FieldPath(path))))
}

impl Builder<'_> {
    pub(crate) fn join(&mut self, step: &StepPart, part: &JoinPart) -> Outputs {
        if let Some(Outputs::Global(table)) = self.outputs.get(&part.right.text).cloned() {
            return self.global_join(step, part, table);
        }
        let (left, right) = (self.resolve(&part.left), self.resolve(&part.right));
        // The first node is a source, whose formats are known: this is what `resolve` gives after a problem.
        let unknown = |out: &Out| out.node == 0 && out.key.is_none() && out.value.is_none();
        if unknown(&left) || unknown(&right) {
            return Outputs::Unknown;
        }
        if !left.table && !right.table {
            if let Some(on) = &part.on {
                let message = "a join of two streams goes by their keys, and has no `on`".to_string();
                let hint = "another key comes before it: `op = \"select-key\"`".to_string();
                self.reader.bad_value(&on.span, message, Some(hint));
            }
            return self.stream_join(step, part, left, right);
        }
        match part.on.clone() {
            Some(on) => match selectors::read(on, self.reader) {
                Some(on) => self.foreign_join(step, part, &on, left, right),
                None => Outputs::Unknown,
            },
            None => self.table_join(step, part, left, right),
        }
    }

    fn table_join(&mut self, step: &StepPart, part: &JoinPart, left: Out, right: Out) -> Outputs {
        if !right.table {
            let message = "the table of a join with a stream is its right side".to_string();
            let hint = format!(
                "say `left = \"{}\"` and `right = \"{}\"`",
                part.right.text, part.left.text
            );
            self.reader.bad_value(&part.right.span, message, Some(hint));
            return Outputs::Unknown;
        }
        self.check_times(part);
        if let (true, Some((_, span))) = (left.table, &part.grace) {
            let message = "a join of two tables has no `grace`: what comes late changes the result".to_string();
            self.reader.bad_value(span, message, None);
        }
        if !left.table && part.kind == JoinKind::Outer {
            let message = "a stream and a table are joined `inner` or `left`".to_string();
            let hint = "a change of the table alone makes no record".to_string();
            self.reader.bad_value(&part.right.span, message, Some(hint));
        }
        self.check_keys(part, &left, &right);
        self.check_side(part, Side::Left, &left);
        self.check_side(part, Side::Right, &right);
        let (left_ttl_ms, right_ttl_ms) = (self.ttl_ms(&left), self.ttl_ms(&right));
        let (left, left_store) = match left.table {
            true => self.stored(step, Side::Left, left),
            false => (self.side(step, Side::Left, left), None),
        };
        let (right, right_store) = self.stored(step, Side::Right, right);
        let versions = self.versions(&right).filter(|_| left_store.is_none());
        let grace = part.grace.as_ref().filter(|_| left_store.is_none());
        let grace = grace.and_then(|grace| self.join_grace(step, part, grace, versions));
        let (left, right) = (self.latest(left), self.latest(right));
        let join = TableJoin {
            kind: part.kind,
            left: left_store,
            right: right_store.unwrap_or_default(),
            value: part.value.clone(),
            key: settle(left.key.or(right.key)),
            left_value: settle(left.value),
            right_value: settle(right.value),
            left_ttl_ms,
            right_ttl_ms,
            versions,
            grace,
        };
        let key = Some(join.key);
        let inputs = vec![feed(&left, 0), feed(&right, 1)];
        let node = self.node(&step.name.text, NodeKind::TableJoin(join), inputs);
        Outputs::One(Out {
            node,
            port: 0,
            key,
            value: Some(Format::Json),
            key_changed: false,
            table: left_store.is_some(),
        })
    }

    fn versions(&self, table: &Out) -> Option<VersionedTable> {
        match self.nodes.get(table.node).map(|node| &node.kind) {
            Some(NodeKind::VersionedTable(table)) => Some(*table),
            _ => None,
        }
    }

    fn ttl_ms(&self, table: &Out) -> Option<i64> {
        match self.made_of(table).filter(|_| table.table) {
            Some(NodeKind::TtlTable(table)) => Some(table.ttl_ms),
            _ => None,
        }
    }

    /// A table has no window.
    pub(crate) fn check_times(&mut self, part: &JoinPart) {
        for (what, time) in [
            ("within", &part.within),
            ("before", &part.before),
            ("after", &part.after),
        ] {
            if let Some((_, span)) = time {
                let message = format!("a join with a table has no `{what}`: it takes what the table has");
                self.reader.bad_value(span, message, None);
            }
        }
    }

    /// The buffer of a join whose stream waits. The table must know what it was when the wait is over.
    fn join_grace(
        &mut self,
        step: &StepPart,
        part: &JoinPart,
        (ms, span): &Time,
        versions: Option<VersionedTable>,
    ) -> Option<JoinGrace> {
        let grace_ms = i64::try_from(*ms).ok()?;
        let history_ms = versions.map(|table| table.history_ms);
        if history_ms.is_none_or(|history_ms| history_ms < grace_ms) {
            let message = match history_ms {
                None => format!(
                    "`{}` does not remember what it was when the wait is over",
                    part.right.text
                ),
                Some(history_ms) => format!("`{}` remembers {history_ms} ms and not {ms} ms", part.right.text),
            };
            let hint = "a table remembers as long as it says: `versioned = \"1h\"`, at least the `grace`";
            self.reader.bad_value(span, message, Some(hint.to_string()));
            return None;
        }
        let (name, topics) = (format!("{}-buffer", step.name.text), format!("{}-buffer", was(step)));
        let form = (StoreKind::KeyValue, 1, Format::Bytes, Format::Bytes);
        let buffer = self.store(&name, &topics, &step.name.span, form, Emit::EveryUpdate);
        Some(JoinGrace { grace_ms, buffer })
    }

    /// Keys are compared as bytes.
    pub(crate) fn check_keys(&mut self, part: &JoinPart, left: &Out, right: &Out) {
        let (Some(one), Some(other)) = (left.key, right.key) else {
            return;
        };
        if one == other || one == Format::Any || other == Format::Any {
            return;
        }
        let message = format!(
            "`{}` has keys as `{}`, `{}` as `{}`",
            part.left.text,
            one.word(),
            part.right.text,
            other.word()
        );
        let problem = Diagnostic::at(Code::FormatMismatch, &part.right.span, message)
            .also(&part.left.span, format!("`{}`", one.word()));
        self.reader.report(
            problem
                .label(format!("`{}`", other.word()))
                .hint("the two sides of a join have keys of one format"),
        );
    }

    /// A field needs JSON around it.
    pub(crate) fn check_side(&mut self, part: &JoinPart, side: Side, out: &Out) {
        let Projection::Fields(fields) = &part.value else {
            return;
        };
        let of = |(_, of, selector): &(String, Side, Selector)| *of == side && matches!(selector, Selector::Field(_));
        let known = out.value.filter(|value| !matches!(value, Format::Json | Format::Any));
        let (Some((name, ..)), Some(value)) = (fields.iter().find(|field| of(field)), known) else {
            return;
        };
        let from = match side {
            Side::Left => &part.left,
            Side::Right => &part.right,
        };
        let message = format!(
            "`{name}` is a field of a JSON value, but the values of `{}` are `{}`",
            from.text,
            value.word()
        );
        let problem = Diagnostic::at(Code::FormatMismatch, &from.span, message);
        self.reader
            .report(problem.hint("where they are JSON, say `value = \"json\"` at their source"));
    }

    /// One side of a join, partitioned by its key.
    pub(crate) fn side(&mut self, step: &StepPart, side: Side, at: Out) -> Out {
        if !at.key_changed {
            return at;
        }
        let name = format!("{}-{}", step.name.text, side.word());
        self.repartition(&name, &format!("{}-{}", was(step), side.word()), at, None)
    }

    /// A table with its store; one that has none, since it is made of another table, gets one.
    pub(crate) fn stored(&mut self, step: &StepPart, side: Side, at: Out) -> (Out, Option<StoreId>) {
        let known = match self.nodes.get(at.node).map(|node| &node.kind) {
            Some(NodeKind::ToTable { store }) => Some(*store),
            Some(NodeKind::TtlTable(table)) => Some(table.store),
            Some(NodeKind::VersionedTable(table)) => Some(table.store),
            Some(NodeKind::Cogroup(cogroup)) => Some(cogroup.store),
            Some(NodeKind::Aggregate(aggregate) | NodeKind::TableAggregate(aggregate)) => Some(aggregate.store),
            _ => None,
        };
        if known.is_some() {
            return (at, known);
        }
        let name = format!("{}-{}", step.name.text, side.word());
        let topics = format!("{}-{}", was(step), side.word());
        let form = (StoreKind::Timestamped, 1, settle(at.key), settle(at.value));
        let store = self.store(&name, &topics, &step.name.span, form, Emit::EveryUpdate);
        let node = self.node(name, NodeKind::ToTable { store }, vec![feed(&at, 0)]);
        (Out { node, port: 0, ..at }, Some(store))
    }
}
