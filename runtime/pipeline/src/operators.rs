//! Steps with an operator that needs more than an edge: aggregates and branches.

use topology::{Aggregate, AggregateFunction, Branch, Format, NodeKind, Predicate, Selector, StoreId, StoreKind};

use crate::build::{Builder, feed, settle, was};
use crate::diagnostics::{Code, Diagnostic};
use crate::file::{AggregatePart, Part, StepPart};
use crate::reader::Text;
use crate::tree::Span;
use crate::wiring::{Out, Outputs};

/// What an aggregate reduces, and the format of its result as far as it is known.
pub struct Reduced {
    of: Selector,
    of_format: Format,
    pub known: Option<Format>,
}

impl Reduced {
    pub fn aggregate(self, part: &AggregatePart, store: StoreId) -> Aggregate {
        Aggregate {
            function: part.function,
            of: self.of,
            of_format: self.of_format,
            result: settle(self.known),
            store,
            emit: part.emit,
        }
    }
}

impl Builder<'_> {
    pub(crate) fn aggregate(&mut self, step: &StepPart, part: &AggregatePart, input: Out, from: &Text) -> Outputs {
        if input.table {
            return self.table_aggregate(step, part, input, from);
        }
        let grouped = self.regroup(step, input, &part.by, part.partitions);
        let reduced = self.reduced(part, &grouped, from);
        if let Some(window) = &part.window {
            return self.window_aggregate(step, part, window, &grouped, reduced);
        }
        let (key, known) = (settle(grouped.key), reduced.known);
        let form = (StoreKind::Timestamped, 1, key, settle(known));
        let store = self.store(&step.name.text, was(step), &step.name.span, form, part.emit);
        let kind = NodeKind::Aggregate(reduced.aggregate(part, store));
        let id = self.node(&step.name.text, kind, vec![feed(&grouped, 0)]);
        Outputs::One(Out {
            node: id,
            port: 0,
            key: Some(key),
            value: known,
            key_changed: false,
            table: true,
        })
    }

    /// What the step reduces of the rows at `at`.
    pub(crate) fn reduced(&mut self, part: &AggregatePart, at: &Out, from: &Text) -> Reduced {
        let of = part.of.clone().unwrap_or(Part {
            selector: Selector::Value,
            span: from.span.clone(),
        });
        let field = matches!(of.selector, Selector::Field(_));
        let selected = self.part_format(&of, at);
        // What the number of a field is written as is JSON's.
        let of_format = if field { Some(Format::Json) } else { selected };
        let known = self.result(part, &of, of_format, from);
        Reduced {
            of: of.selector,
            of_format: settle(of_format),
            known,
        }
    }

    /// Format of the aggregate. Numbers keep their type; a number in JSON or in text is a floating-point one unless the
    /// file says otherwise.
    fn result(&mut self, part: &AggregatePart, of: &Part, of_format: Option<Format>, from: &Text) -> Option<Format> {
        use AggregateFunction::{Count, First, Last, Max, Min, Sum};
        // What is not known of the input does not matter to a count.
        let given = if part.function == Count {
            Format::Any
        } else {
            of_format?
        };
        let (natural, allowed): (Format, &[Format]) = match (part.function, given) {
            (Count, _) => (Format::I64, &[Format::I64]),
            // Of a field, what is kept is its bare text.
            (First | Last, _) if matches!(of.selector, Selector::Field(_)) => (Format::String, &[]),
            (First | Last, given) => (settle(Some(given)), &[]),
            (Sum | Min | Max, Format::I64) => (Format::I64, &[Format::I64, Format::F64]),
            (Sum | Min | Max, Format::F64) => (Format::F64, &[Format::F64]),
            (Sum, Format::Json | Format::String) => (Format::F64, &[Format::F64, Format::I64]),
            (Min | Max, Format::Json) => (Format::F64, &[Format::F64, Format::I64, Format::String]),
            (Min | Max, Format::String) => (Format::String, &[Format::String, Format::F64, Format::I64]),
            (Min | Max, _) => (Format::Bytes, &[Format::Bytes]),
            (Sum, _) => {
                let message = format!(
                    "`sum` needs numbers, but `{}` is `{}`",
                    of.selector.word(),
                    given.word()
                );
                let hint =
                    "say the format at the source (`value = \"i64\"`), or a field of JSON: `of = \"value.FIELD\"`";
                let span = if part.of.is_some() { &of.span } else { &from.span };
                self.reader
                    .report(Diagnostic::at(Code::FormatMismatch, span, message).hint(hint));
                return Some(Format::I64);
            }
        };
        let Some((said, span)) = &part.result else {
            return Some(natural);
        };
        if *said == natural || allowed.contains(said) {
            return Some(*said);
        }
        let message = format!(
            "a `{}` of `{}` cannot be `{}`",
            part.function.word(),
            given.word(),
            said.word()
        );
        let words: Vec<&str> = std::iter::once(natural)
            .chain(allowed.iter().copied())
            .map(Format::word)
            .collect();
        let mut unique = words.clone();
        unique.dedup();
        let problem = Diagnostic::at(Code::FormatMismatch, span, message);
        self.reader
            .report(problem.hint(format!("it can be {}", unique.join(", "))));
        Some(natural)
    }

    pub(crate) fn branch(
        &mut self,
        step: &StepPart,
        branches: &[(Text, Predicate, Span)],
        default: Option<&Text>,
        input: Out,
    ) -> Outputs {
        let mut seen: Vec<&Text> = Vec::new();
        for name in branches.iter().map(|(name, _, _)| name).chain(default) {
            if let Some(other) = seen.iter().find(|other| other.text == name.text) {
                let message = format!("two branches are called `{}`", name.text);
                let problem = Diagnostic::at(Code::DuplicateName, &name.span, message);
                self.reader.report(problem.also(&other.span, "the other one"));
            }
            seen.push(name);
        }
        let mut conditions = Vec::new();
        for (name, predicate, span) in branches {
            let predicate = match predicate {
                Predicate::Where(expression) => {
                    let text = Text {
                        text: expression.text.clone(),
                        span: span.clone(),
                    };
                    Predicate::Where(self.expression(&text, &input, false))
                }
                Predicate::Equals { of, .. } | Predicate::StartsWith { of, .. } | Predicate::Exists { of } => {
                    let selector = of.clone();
                    let span = span.clone();
                    self.part_format(&Part { selector, span }, &input);
                    predicate.clone()
                }
            };
            conditions.push((name.text.clone(), predicate));
        }
        let ports = branches
            .iter()
            .map(|(name, _, _)| name)
            .chain(default)
            .map(|name| name.text.clone());
        let ports: Vec<String> = ports.collect();
        let kind = NodeKind::Branch(Branch {
            branches: conditions,
            default: default.map(|name| name.text.clone()),
        });
        let node = self.node(&step.name.text, kind, vec![feed(&input, 0)]);
        let outs = (0_u32..).zip(ports).map(|(port, name)| {
            (
                name,
                Out {
                    node,
                    port,
                    table: false,
                    ..input.clone()
                },
            )
        });
        Outputs::Ports(outs.collect())
    }
}
