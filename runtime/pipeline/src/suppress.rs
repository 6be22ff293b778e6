//! `op = "suppress"`: a table whose updates are held back.

use topology::{Emit, NodeKind, StoreKind, Suppress, SuppressedWindow, Until, WhenFull, Windows};

use crate::build::{Builder, feed, settle, was};
use crate::file::{StepPart, Work};
use crate::reader::{Reader, Text};
use crate::tree::{Kind, Span, Table};
use crate::wiring::{Out, Outputs};

#[derive(Debug)]
pub struct SuppressPart {
    /// `None`: until the window closes.
    limit_ms: Option<i64>,
    until: Span,
    records_max: Option<u64>,
    bytes_max: Option<u64>,
    when_full: Option<(WhenFull, Span)>,
}

pub fn read(table: &Table, reader: &mut Reader) -> Work {
    let keys = [
        "op",
        "from",
        "was",
        "on-error",
        "until",
        "max-records",
        "max-bytes",
        "when-full",
    ];
    reader.keys(table, "a `suppress` step", &keys, &[]);
    let Some(until) = table.get("until") else {
        let span = table.get("op").map_or(table.span.clone(), |op| op.span.clone());
        let hint = "say `until = \"window-closes\"`, or for how long an update is held back: `until = \"1m\"`";
        reader.missing(&span, "a `suppress` step", "until", hint);
        return Work::Unknown;
    };
    let closes = matches!(&until.kind, Kind::Text(word) if word == "window-closes");
    let limit_ms = if closes {
        None
    } else {
        // A hundred years, far from where sums of times overflow.
        let Some(ms) = reader.duration(table, "until", 0..=100 * 365 * 86_400_000) else {
            return Work::Unknown;
        };
        i64::try_from(ms).ok()
    };
    let count = reader.integer(table, "max-records", 1..=i64::MAX);
    let words = [("emit-early", WhenFull::EmitEarly), ("stop", WhenFull::Stop)];
    let when_full = reader.word(table, "when-full", &words, &[]);
    let full_span = table.get("when-full").map(|value| value.span.clone());
    Work::Suppress(Box::new(SuppressPart {
        limit_ms,
        until: until.span.clone(),
        records_max: count.and_then(|count| u64::try_from(count).ok()),
        bytes_max: reader.size(table, "max-bytes", 1..=1 << 40),
        when_full: when_full.zip(full_span),
    }))
}

impl Builder<'_> {
    pub(crate) fn suppress(&mut self, step: &StepPart, part: &SuppressPart, input: Out, from: &Text) -> Outputs {
        if !input.table && (input.key.is_some() || input.value.is_some()) {
            let message = "only a table's updates can be held back".to_string();
            let hint = "in a stream no row replaces another; make a table of it: `op = \"to-table\"`".to_string();
            self.reader.bad_value(&from.span, message, Some(hint));
            return Outputs::Unknown;
        }
        let until = match part.limit_ms {
            Some(ms) => Until::TimeLimit { ms },
            None => match self.closing(&input) {
                Some(until) => until,
                None => {
                    let message = format!("`{}` is no table of windows that close", from.text);
                    let hint = "say for how long instead: `until = \"1m\"`".to_string();
                    self.reader.bad_value(&part.until, message, Some(hint));
                    return Outputs::Unknown;
                }
            },
        };
        if let (None, Some((WhenFull::EmitEarly, span))) = (part.limit_ms, &part.when_full) {
            let message = "a window that has not closed cannot go on early".to_string();
            self.reader
                .bad_value(span, message, Some("say `when-full = \"stop\"`".to_string()));
        }
        let natural = if part.limit_ms.is_none() {
            WhenFull::Stop
        } else {
            WhenFull::EmitEarly
        };
        let (key, value) = (settle(input.key), settle(input.value));
        let name = &step.name.text;
        let form = (StoreKind::KeyValue, 1, topology::Format::Bytes, topology::Format::Bytes);
        let store = self.store(name, was(step), &step.name.span, form, Emit::EveryUpdate);
        let suppress = Suppress {
            until,
            records_max: part.records_max,
            bytes_max: part.bytes_max,
            when_full: part.when_full.as_ref().map_or(natural, |(when, _)| *when),
            store,
            key,
            value,
        };
        let node = self.node(name, NodeKind::Suppress(suppress), vec![feed(&input, 0)]);
        Outputs::One(Out { node, port: 0, ..input })
    }

    /// When the windows of a table close.
    fn closing(&self, input: &Out) -> Option<Until> {
        let NodeKind::WindowAggregate(window) = self.made_of(input)? else {
            return None;
        };
        let grace_ms = window.windowing.grace_ms;
        Some(match window.windowing.windows {
            Windows::Time { size_ms, .. } => Until::WindowCloses {
                kind: SuppressedWindow::Time { size_ms },
                grace_ms,
            },
            Windows::Sliding { difference_ms } => Until::WindowCloses {
                kind: SuppressedWindow::Time { size_ms: difference_ms },
                grace_ms,
            },
            Windows::Session { gap_ms } => Until::WindowCloses {
                kind: SuppressedWindow::Session,
                grace_ms: grace_ms + gap_ms,
            },
            Windows::Unlimited => return None,
        })
    }
}
