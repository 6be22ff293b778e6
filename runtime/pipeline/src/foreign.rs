//! A join of two tables by a field of the left one: three nodes, and two topics between them.

use topology::{Emit, ForeignJoin, ForeignLookup, ForeignResolve, Format, JoinKind, NodeKind, Side, StoreKind};

use crate::build::{Builder, feed, settle, was};
use crate::diagnostics::{Code, Diagnostic};
use crate::file::{Part, StepPart};
use crate::joins::JoinPart;
use crate::wiring::{Out, Outputs};

impl Builder<'_> {
    pub(crate) fn foreign_join(
        &mut self,
        step: &StepPart,
        part: &JoinPart,
        on: &Part,
        left: Out,
        right: Out,
    ) -> Outputs {
        if !self.check_foreign(part, on, &left, &right) {
            return Outputs::Unknown;
        }
        let (left, left_store) = self.stored(step, Side::Left, left);
        let (right, right_store) = self.stored(step, Side::Right, right);
        let (left, right) = (self.latest(left), self.latest(right));
        let join = ForeignJoin {
            kind: part.kind,
            on: on.selector.clone(),
            value: part.value.clone(),
            left_key: settle(left.key),
            left_value: settle(left.value),
            right_value: settle(right.value),
        };
        let (name, topics) = (&step.name.text, was(step));
        let beside = |what: &str| (format!("{name}-{what}"), format!("{topics}-{what}"));
        let made = |node, port, key| Out {
            node,
            port,
            key,
            value: Some(Format::Bytes),
            ..Out::default()
        };
        let kind = NodeKind::ForeignSubscribe(join.clone());
        let subscribe = self.node(format!("{name}-subscribe"), kind, vec![feed(&left, 0)]);
        let (node, topic) = beside("subscription");
        let subscribed = self.repartition(&node, &topic, made(subscribe, 0, right.key), None);
        let (store, changelog) = beside("subscriptions");
        let form = (StoreKind::KeyValue, 1, Format::Bytes, Format::Bytes);
        let lookup = ForeignLookup {
            join: join.clone(),
            store: self.store(&store, &changelog, &step.name.span, form, Emit::EveryUpdate),
            right: right_store.unwrap_or_default(),
        };
        let inputs = vec![feed(&subscribed, 0), feed(&right, 1)];
        let lookup = self.node(format!("{name}-lookup"), NodeKind::ForeignLookup(lookup), inputs);
        let (node, topic) = beside("response");
        let answered = self.repartition(&node, &topic, made(lookup, 0, left.key), None);
        let key = join.left_key;
        let resolve = NodeKind::ForeignResolve(ForeignResolve {
            join,
            left: left_store.unwrap_or_default(),
        });
        let inputs = vec![feed(&answered, 0), feed(&left, 1)];
        let resolve = self.node(format!("{name}-resolve"), resolve, inputs);
        let results = vec![feed(&made(resolve, 0, None), 0), feed(&made(subscribe, 1, None), 0)];
        let results = self.node(format!("{name}-results"), NodeKind::Merge, results);
        let form = (StoreKind::Timestamped, 1, key, Format::Json);
        let store = self.store(name, topics, &step.name.span, form, Emit::EveryUpdate);
        let inputs = vec![feed(&made(results, 0, None), 0)];
        let node = self.node(name, NodeKind::ToTable { store }, inputs);
        Outputs::One(Out {
            node,
            port: 0,
            key: Some(key),
            value: Some(Format::Json),
            key_changed: false,
            table: true,
        })
    }

    /// Whether the join can be built.
    fn check_foreign(&mut self, part: &JoinPart, on: &Part, left: &Out, right: &Out) -> bool {
        for (from, side) in [(&part.left, left), (&part.right, right)] {
            if !side.table {
                let message = format!(
                    "a join `on` a field is one of two tables, and `{}` is a stream",
                    from.text
                );
                let hint = "group the stream by that field first, and leave `on` out";
                self.reader.bad_value(&from.span, message, Some(hint.to_string()));
                return false;
            }
        }
        if part.kind == JoinKind::Outer {
            let message = "a join `on` a field is `inner` or `left`".to_string();
            self.reader.bad_value(&on.span, message, None);
        }
        self.check_times(part);
        if let Some((_, span)) = &part.grace {
            let message = "a join of two tables has no `grace`: what comes late changes the result".to_string();
            self.reader.bad_value(span, message, None);
        }
        self.check_side(part, Side::Left, left);
        self.check_side(part, Side::Right, right);
        self.check_foreign_key(part, on, left, right);
        true
    }

    fn check_foreign_key(&mut self, part: &JoinPart, on: &Part, left: &Out, right: &Out) {
        let (Some(foreign), Some(key)) = (self.part_format(on, left), right.key) else {
            return;
        };
        if key.accepts(foreign) || foreign == Format::Bytes {
            return;
        }
        let message = format!(
            "`{}` is `{}`, the keys of `{}` are `{}`",
            on.selector.word(),
            foreign.word(),
            part.right.text,
            key.word()
        );
        let problem = Diagnostic::at(Code::FormatMismatch, &on.span, message);
        self.reader
            .report(problem.hint("a foreign key is compared with the right table's keys as bytes"));
    }
}
