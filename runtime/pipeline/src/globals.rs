//! Global tables, `as = "global-table"`, and joins with them.

use topology::{Format, GlobalId, GlobalJoin, GlobalKey, GlobalTable, JoinKind, NodeKind, Selector, Side};

use crate::build::{Builder, feed, settle};
use crate::diagnostics::{Code, Diagnostic};
use crate::file::{Part, SourcePart, StepPart};
use crate::joins::JoinPart;
use crate::reader::Reader;
use crate::selectors;
use crate::tree::Table;
use crate::wiring::{Out, Outputs};

/// A global table is what its topic says, all of it, at no time in particular.
pub fn check_source(table: &Table, reader: &mut Reader) {
    for (key, hint) in [
        ("topics", "say `topic = \"…\"`: it has one topic"),
        ("start", "it is read from its beginning"),
        ("timestamp", "no time goes by its rows"),
        ("idle", "no time goes by its rows"),
    ] {
        if let Some(entry) = table.entry(key) {
            let message = format!("a global table has no `{key}`");
            reader.bad_value(&entry.key_span, message, Some(hint.to_string()));
        }
    }
}

impl Builder<'_> {
    pub(crate) fn global_source(&mut self, source: &SourcePart) {
        let name = &source.name.text;
        let Some(topic) = source.topics.first() else {
            self.outputs.insert(name.clone(), Outputs::Unknown);
            return;
        };
        self.outputs.insert(name.clone(), Outputs::Global(self.globals.len()));
        self.globals.push(GlobalTable {
            name: name.clone(),
            topic: topic.text.clone(),
            key: source.key,
            value: source.value,
            create: source.create.clone(),
        });
    }

    pub(crate) fn global_join(&mut self, step: &StepPart, part: &JoinPart, table: GlobalId) -> Outputs {
        let left = self.resolve(&part.left);
        let Some(right) = self.globals.get(table) else {
            return Outputs::Unknown;
        };
        let right = Out {
            key: Some(right.key),
            value: Some(right.value),
            ..Out::default()
        };
        if left.table {
            let message = format!(
                "`{}` is a table, and a stream is joined with a global table",
                part.left.text
            );
            let hint = "make it a stream first: `op = \"to-stream\"`; a table with a table by another key is \
                        `as = \"table\"` on both sides and `on`";
            self.reader.bad_value(&part.left.span, message, Some(hint.to_string()));
        }
        if part.kind == JoinKind::Outer {
            let message = "a stream and a global table are joined `inner` or `left`".to_string();
            let hint = "a change of the table makes no record".to_string();
            self.reader.bad_value(&part.right.span, message, Some(hint));
        }
        self.check_times(part);
        if let Some((_, span)) = &part.grace {
            let message = "a join with a global table has no `grace`: it takes what the table has".to_string();
            self.reader.bad_value(span, message, None);
        }
        self.check_side(part, Side::Left, &left);
        self.check_side(part, Side::Right, &right);
        let table_key = settle(right.key);
        let join = GlobalJoin {
            kind: part.kind,
            table,
            on: self.global_key(part, &left, table_key),
            table_key,
            value: part.value.clone(),
            key: settle(left.key),
            left_value: settle(left.value),
            right_value: settle(right.value),
        };
        let node = self.node(
            &step.name.text,
            NodeKind::GlobalJoin(Box::new(join)),
            vec![feed(&left, 0)],
        );
        Outputs::One(Out {
            node,
            port: 0,
            value: Some(Format::Json),
            table: false,
            ..left
        })
    }

    /// A part of the stream's row, or an expression over it; without a word, its key.
    fn global_key(&mut self, part: &JoinPart, left: &Out, table_key: Format) -> GlobalKey {
        let Some(on) = &part.on else {
            let span = part.right.span.clone();
            let whole = Part {
                selector: Selector::Key,
                span,
            };
            self.check_whole_key(part, &whole, left.key, table_key);
            return GlobalKey::Part(whole.selector);
        };
        let Some(selector) = selectors::plain_field(&on.text) else {
            return GlobalKey::Expression(self.expression(on, left, false));
        };
        let said = Part {
            selector,
            span: on.span.clone(),
        };
        match said.selector {
            Selector::Key => self.check_whole_key(part, &said, left.key, table_key),
            Selector::Value => self.check_whole_key(part, &said, left.value, table_key),
            // It is written as the table's keys are.
            Selector::Field(_) => _ = self.part_format(&said, left),
        }
        GlobalKey::Part(said.selector)
    }

    /// Keys are compared as bytes.
    fn check_whole_key(&mut self, part: &JoinPart, on: &Part, given: Option<Format>, key: Format) {
        let Some(given) = given.filter(|given| !key.accepts(*given) && *given != Format::Bytes) else {
            return;
        };
        let message = format!(
            "the {} of `{}` is `{}`, the keys of `{}` are `{}`",
            on.selector.word(),
            part.left.text,
            given.word(),
            part.right.text,
            key.word()
        );
        let problem = Diagnostic::at(Code::FormatMismatch, &on.span, message);
        self.reader.report(problem.hint(
            "keys are compared as bytes; say `on = \"value.FIELD\"` or an expression, whose result is written as \
             the table's keys are",
        ));
    }
}
