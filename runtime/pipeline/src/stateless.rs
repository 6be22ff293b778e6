//! Steps that make or choose rows by expressions, without state: their words in the file, and their nodes.

use topology::{Expression, Filter, Format, Map, NodeKind, Predicate, Selector, Shape};

use crate::build::{Builder, feed, settle};
use crate::diagnostics::{Code, Diagnostic};
use crate::file::{self, Part, StepPart, Work};
use crate::reader::{Reader, Text};
use crate::tree::{Kind, Span, Table, Value};
use crate::wiring::{Out, Outputs};

pub const OPS: &[&str] = &[
    "filter",
    "filter-not",
    "map",
    "map-values",
    "flat-map",
    "flat-map-values",
    "peek",
    "repartition",
    "to-stream",
];

#[derive(Debug)]
pub enum Stateless {
    Filter { condition: Text, not: bool },
    Map(MapPart),
    Repartition { partitions: Option<i32> },
    ToStream,
    Peek,
}

#[derive(Debug)]
pub struct MapPart {
    pub each: Option<Text>,
    pub key: Option<ShapePart>,
    pub value: Option<ShapePart>,
    pub key_result: Option<(Format, Span)>,
    pub result: Option<(Format, Span)>,
}

/// An expression, or a table of them.
#[derive(Debug)]
pub enum ShapePart {
    Expression(Text),
    Object(Vec<(String, ShapePart)>),
}

impl ShapePart {
    fn texts(&self) -> Vec<&Text> {
        match self {
            Self::Expression(text) => vec![text],
            Self::Object(fields) => fields.iter().flat_map(|(_, part)| part.texts()).collect(),
        }
    }
}

/// `None`: the step is none of these.
pub fn read(op: &Text, table: &Table, reader: &mut Reader) -> Option<Work> {
    let word = op.text.as_str();
    let own: &[&str] = match word {
        "filter" | "filter-not" => &["where"],
        "map" => &["key", "value", "key-result", "result"],
        "map-values" => &["value", "result"],
        "flat-map" => &["each", "key", "value", "key-result", "result"],
        "flat-map-values" => &["each", "value", "result"],
        "repartition" => &["partitions"],
        "to-stream" => &["key", "key-result"],
        "peek" => &[],
        _ => return None,
    };
    let known = [&["op", "from", "was", "on-error"], own].concat();
    reader.keys(table, &format!("a `{word}` step"), &known, &["name"]);
    let work = match word {
        "filter" | "filter-not" => {
            needs(op, table, "where", "say `where = \"value.amount > 10\"`", reader)?;
            reader.text(table, "where").map(|condition| Stateless::Filter {
                condition,
                not: word == "filter-not",
            })
        }
        "repartition" => Some(Stateless::Repartition {
            partitions: file::partitions(table, reader),
        }),
        "peek" => Some(Stateless::Peek),
        "to-stream" if table.get("key").is_none() => Some(Stateless::ToStream),
        _ => map(op, table, reader).map(Stateless::Map),
    };
    Some(work.map_or(Work::Unknown, Work::Stateless))
}

/// `select-key` with an expression: `key = "…"`.
pub fn key_by_expression(table: &Table, reader: &mut Reader) -> Work {
    let part = MapPart {
        each: None,
        key: table.get("key").and_then(|value| shape(value, "`key`", reader)),
        value: None,
        key_result: file::format(table, "key-result", reader),
        result: None,
    };
    Work::Stateless(Stateless::Map(part))
}

fn map(op: &Text, table: &Table, reader: &mut Reader) -> Option<MapPart> {
    let word = op.text.as_str();
    let each = word.starts_with("flat-map");
    if each {
        needs(
            op,
            table,
            "each",
            "say `each = \"value.items\"`, an expression that gives a list",
            reader,
        )?;
    }
    if matches!(word, "map" | "flat-map" | "to-stream") {
        needs(
            op,
            table,
            "key",
            "say `key = \"value.user\"`; for values alone there is `map-values`",
            reader,
        )?;
    }
    if word == "map-values" {
        let hint = "say `value = \"value.amount * 2\"`, or a table: `value = { amount = \"value.amount\" }`";
        needs(op, table, "value", hint, reader)?;
    }
    let value = match table.get("value") {
        Some(value) => Some(shape(value, "`value`", reader)?),
        // Each element becomes a value as it is.
        None if each => Some(ShapePart::Expression(Text {
            text: "item".to_owned(),
            span: op.span.clone(),
        })),
        None => None,
    };
    Some(MapPart {
        each: if each { Some(reader.text(table, "each")?) } else { None },
        key: match table.get("key") {
            Some(key) => Some(shape(key, "`key`", reader)?),
            None => None,
        },
        value,
        key_result: file::format(table, "key-result", reader),
        result: file::format(table, "result", reader),
    })
}

fn needs(op: &Text, table: &Table, key: &str, hint: &str, reader: &mut Reader) -> Option<()> {
    if table.get(key).is_none() {
        reader.missing(&op.span, &format!("a `{}` step", op.text), key, hint);
        return None;
    }
    Some(())
}

fn shape(value: &Value, what: &str, reader: &mut Reader) -> Option<ShapePart> {
    match &value.kind {
        Kind::Table(table) => {
            let fields: Option<Vec<_>> = table
                .entries
                .iter()
                .map(|entry| {
                    let what = format!("`{}`", entry.key);
                    Some((entry.key.clone(), shape(&entry.value, &what, reader)?))
                })
                .collect();
            fields.map(ShapePart::Object)
        }
        Kind::Text(_) => reader.as_text(value, what).map(ShapePart::Expression),
        _ => {
            reader.wrong_type(value, what, "an expression in a string, or a table of them");
            None
        }
    }
}

impl Builder<'_> {
    pub(crate) fn stateless(&mut self, step: &StepPart, part: &Stateless, input: Out, from: &Text) -> Outputs {
        let name = &step.name.text;
        match part {
            Stateless::Filter { condition, not } => {
                self.check_on_table(&[condition], &input, from, "a filter");
                let condition = Predicate::Where(self.expression(condition, &input, false));
                let kind = NodeKind::Filter(Filter {
                    condition,
                    not: *not,
                    table: input.table,
                });
                let id = self.node(name, kind, vec![feed(&input, 0)]);
                Outputs::One(Out {
                    node: id,
                    port: 0,
                    ..input
                })
            }
            Stateless::Map(part) => {
                if let (None, Some(value)) = (&part.key, &part.value) {
                    self.check_on_table(&value.texts(), &input, from, "new values");
                }
                if let (None, Some(each), true) = (&part.key, &part.each, input.table) {
                    let message = "a table has one row of a key, and a list gives any number".to_string();
                    let hint = "make it a stream first: `op = \"to-stream\"`".to_string();
                    self.reader.bad_value(&each.span, message, Some(hint));
                }
                self.map(step, part, &input)
            }
            Stateless::Repartition { partitions } => {
                let by = Part {
                    selector: Selector::Key,
                    span: from.span.clone(),
                };
                let moved = Out {
                    key_changed: true,
                    table: false,
                    ..input
                };
                let moved = self.regroup(step, moved, &by, *partitions);
                self.pass(name, moved)
            }
            Stateless::ToStream => self.pass(name, Out { table: false, ..input }),
            Stateless::Peek => self.pass(name, input),
        }
    }

    /// A node of the step's name that gives on what it gets.
    fn pass(&mut self, name: &str, input: Out) -> Outputs {
        let id = self.node(name, NodeKind::Merge, vec![feed(&input, 0)]);
        Outputs::One(Out {
            node: id,
            port: 0,
            ..input
        })
    }

    fn map(&mut self, step: &StepPart, part: &MapPart, input: &Out) -> Outputs {
        let item = part.each.is_some();
        // Under other keys its rows are a stream.
        let table = input.table && part.key.is_none() && !item;
        // A key is text unless the file says otherwise, as `group-by` has it; a value is JSON.
        let said =
            |said: &Option<(Format, Span)>, natural: Format| said.as_ref().map_or(natural, |(format, _)| *format);
        let key_format = match &part.key {
            Some(_) => Some(said(&part.key_result, Format::String)),
            None => input.key,
        };
        let value_format = match &part.value {
            Some(_) => Some(said(&part.result, Format::Json)),
            None => input.value,
        };
        let map = Map {
            each: part.each.as_ref().map(|each| self.expression(each, input, false)),
            key: part.key.as_ref().map(|key| self.shape(key, input, item)),
            value: part.value.as_ref().map(|value| self.shape(value, input, item)),
            key_format: settle(key_format),
            value_format: settle(value_format),
            table,
        };
        let id = self.node(&step.name.text, NodeKind::Map(map), vec![feed(input, 0)]);
        Outputs::One(Out {
            node: id,
            port: 0,
            key: key_format,
            value: value_format,
            key_changed: input.key_changed || part.key.is_some(),
            table,
        })
    }

    fn shape(&mut self, part: &ShapePart, input: &Out, item: bool) -> Shape {
        match part {
            ShapePart::Expression(text) => Shape::Expression(self.expression(text, input, item)),
            ShapePart::Object(fields) => {
                let fields = fields
                    .iter()
                    .map(|(name, part)| (name.clone(), self.shape(part, input, item)));
                Shape::Object(fields.collect())
            }
        }
    }

    /// On a table, expressions see what its rows replace as well, of which only key and value are known.
    fn check_on_table(&mut self, texts: &[&Text], input: &Out, from: &Text, what: &str) {
        if !input.table {
            return;
        }
        if let Some(NodeKind::VersionedTable(_)) = self.made_of(input) {
            self.no_table(input, from, &format!("{what} on a versioned table"));
        }
        for text in texts {
            let expression = Expression {
                text: text.text.clone(),
                key: Format::Any,
                value: Format::Any,
            };
            let compiled = expressions::Compiled::new(&expression).ok();
            if compiled.is_some_and(|compiled| compiled.reads_headers() || compiled.reads_timestamp()) {
                let message = "on a table an expression reads `key` and `value` only".to_string();
                let hint =
                    "nothing else is known of the row that is replaced; `op = \"to-stream\"` makes a stream of it";
                self.reader.bad_value(&text.span, message, Some(hint.to_string()));
            }
        }
    }

    /// Checked here, so that a mistake points into the file.
    pub(crate) fn expression(&mut self, text: &Text, input: &Out, item: bool) -> Expression {
        let expression = Expression {
            text: text.text.clone(),
            key: settle(input.key),
            value: settle(input.value),
        };
        match expressions::Compiled::new(&expression) {
            Err(problem) => {
                let at = problem.at.map(|at| within(text, at));
                let span = at.as_ref().unwrap_or(&text.span);
                self.reader.report(
                    Diagnostic::at(Code::BadValue, span, format!("no expression: {}", problem.message))
                        .maybe_hint(problem.hint),
                );
            }
            Ok(compiled) if compiled.reads_item() && !item => {
                let message = "there is no `item` here";
                let hint = "`item` is an element of what `each` gives, in `key` and `value` of a flat-map";
                self.reader
                    .report(Diagnostic::at(Code::BadValue, &text.span, message).hint(hint));
            }
            Ok(_) => {}
        }
        expression
    }
}

/// The place of a byte of the text, where the file has it as it is: in one line, without escapes.
fn within(text: &Text, at: usize) -> Span {
    if text.span.len() != text.text.len() + 2 {
        return text.span.clone();
    }
    let start = text.span.start + 1 + at;
    let rest = text.text.get(at..).unwrap_or_default();
    let word = rest
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(rest.len());
    start..(start + word.max(1)).min(text.span.end)
}
