//! `op = "cogroup"`: one aggregate of several streams, an object with a field for each of them.

use topology::{AggregateFunction, Cogroup, Emit, Format, NodeKind, StoreKind};

use crate::build::{Builder, feed, settle, was};
use crate::diagnostics::{Code, Diagnostic};
use crate::file::{self, AggregatePart, StepPart, Work};
use crate::operators::Reduced;
use crate::reader::{Reader, Text};
use crate::steps;
use crate::tree::{Table, Value};
use crate::wiring::{Out, Outputs};

/// Ports of a node are numbered by a byte.
const INPUTS_MAX: usize = 100;

#[derive(Debug)]
pub struct CogroupPart {
    pub inputs: Vec<InputPart>,
    emit: Emit,
    partitions: Option<i32>,
}

#[derive(Debug)]
pub struct InputPart {
    /// Of the field.
    name: Text,
    pub from: Text,
    aggregate: AggregatePart,
}

const FUNCTIONS: [(&str, AggregateFunction); 6] = [
    ("count", AggregateFunction::Count),
    ("sum", AggregateFunction::Sum),
    ("min", AggregateFunction::Min),
    ("max", AggregateFunction::Max),
    ("first", AggregateFunction::First),
    ("last", AggregateFunction::Last),
];

/// `inputs = [{ name = "visits", from = "visits", op = "count" }, …]`.
pub fn read(table: &Table, reader: &mut Reader) -> Work {
    let keys = ["op", "inputs", "was", "on-error", "emit", "partitions"];
    reader.keys(table, "a `cogroup` step", &keys, &["window", "late"]);
    let emits = [("every-update", Emit::EveryUpdate), ("on-commit", Emit::OnCommit)];
    let emit = reader.word(table, "emit", &emits, &["on-close"]).unwrap_or_default();
    let partitions = file::partitions(table, reader);
    if table.get("inputs").is_none() {
        let span = table.get("op").map_or(table.span.clone(), |op| op.span.clone());
        let hint = "say `inputs = [{ name = \"FIELD\", from = \"NAME\", op = \"count\" }, …]`, one for each stream";
        reader.missing(&span, "a `cogroup` step", "inputs", hint);
        return Work::Unknown;
    }
    let list = reader.list(table, "inputs").unwrap_or_default();
    let inputs: Vec<InputPart> = list.iter().filter_map(|value| input(value, reader)).collect();
    let said = table.get("inputs").map(|value| value.span.clone()).unwrap_or_default();
    if !(1..=INPUTS_MAX).contains(&list.len()) {
        let message = format!("a `cogroup` has 1 to {INPUTS_MAX} inputs, not {}", list.len());
        reader.bad_value(&said, message, None);
    }
    for (at, one) in inputs.iter().enumerate() {
        if let Some(other) = inputs.iter().take(at).find(|other| other.name.text == one.name.text) {
            let message = format!("two fields are called `{}`", one.name.text);
            let problem = Diagnostic::at(Code::DuplicateName, &one.name.span, message);
            reader.report(problem.also(&other.name.span, "the other one"));
        }
    }
    Work::Cogroup(Box::new(CogroupPart {
        inputs,
        emit,
        partitions,
    }))
}

fn input(value: &Value, reader: &mut Reader) -> Option<InputPart> {
    let what = "an input of a `cogroup`";
    let table = reader.table(value, what)?;
    let keys = ["name", "from", "op", "of", "group-by", "result"];
    reader.keys(table, what, &keys, &[]);
    let hints = [
        ("name", "say what the field is called: `name = \"visits\"`"),
        ("from", "say `from =` the name of a source or step, or `STEP.PORT`"),
        (
            "op",
            "say what its rows come to: `op = \"count\"`, sum, min, max, first or last",
        ),
    ];
    for (key, hint) in hints {
        if table.get(key).is_none() {
            reader.missing(&value.span, what, key, hint);
        }
    }
    let (name, from) = (reader.text(table, "name"), reader.text(table, "from"));
    if let Some(name) = &name {
        file::check_name(name, reader);
    }
    let function = reader.word(table, "op", &FUNCTIONS, &["aggregate", "reduce"])?;
    let aggregate = steps::aggregate_part(function, table, reader)?;
    Some(InputPart {
        name: name?,
        from: from?,
        aggregate,
    })
}

impl Builder<'_> {
    pub(crate) fn cogroup(&mut self, step: &StepPart, part: &CogroupPart) -> Outputs {
        let (name, topics) = (&step.name.text, was(step));
        let mut edges = Vec::new();
        let mut fields: Vec<(&InputPart, Reduced)> = Vec::new();
        let mut key: Option<(Format, &Text)> = None;
        for (port, input) in (0_u32..).zip(&part.inputs) {
            let at = self.resolve(&input.from);
            if at.table {
                let message = "a `cogroup` is of streams, and this is a table".to_string();
                let hint = "take its changes as a stream: `op = \"to-stream\"`".to_string();
                self.reader.bad_value(&input.from.span, message, Some(hint));
            }
            let beside = |of: &str| format!("{of}-{}", input.name.text);
            let names = (beside(name), beside(topics));
            let by = &input.aggregate.by;
            let grouped = self.regroup_as((&names.0, &names.1), at, by, part.partitions);
            self.check_group(&input.from, grouped.key, &mut key);
            edges.push(feed(&grouped, port));
            let reduced = self.reduced(&input.aggregate, &grouped, &input.from);
            fields.push((input, reduced));
        }
        let key = settle(key.map(|(key, _)| key));
        let form = (StoreKind::Timestamped, 1, key, Format::Json);
        let store = self.store(name, topics, &step.name.span, form, part.emit);
        let parts = fields.into_iter().map(|(input, reduced)| {
            let aggregate = reduced.aggregate(&input.aggregate, store);
            (input.name.text.clone(), aggregate)
        });
        let cogroup = Cogroup {
            parts: parts.collect(),
            store,
            emit: part.emit,
        };
        let node = self.node(name, NodeKind::Cogroup(cogroup), edges);
        Outputs::One(Out {
            node,
            port: 0,
            key: Some(key),
            value: Some(Format::Json),
            key_changed: false,
            table: true,
        })
    }

    /// Groups are found by the bytes of their keys.
    fn check_group<'f>(&mut self, from: &'f Text, given: Option<Format>, known: &mut Option<(Format, &'f Text)>) {
        match (given, *known) {
            (Some(given), None) => *known = Some((given, from)),
            (Some(given), Some((known, other))) if given != known => {
                let message = format!(
                    "`{}` has groups as `{}`, `{}` as `{}`",
                    from.text,
                    given.word(),
                    other.text,
                    known.word()
                );
                let problem = Diagnostic::at(Code::FormatMismatch, &from.span, message);
                self.reader.report(
                    problem
                        .also(&other.span, format!("`{}`", known.word()))
                        .hint("the streams of a `cogroup` have keys of one format"),
                );
            }
            _ => {}
        }
    }
}
