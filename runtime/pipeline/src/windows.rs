//! `window = { tumbling = "1m", grace = "10s" }` of an aggregate, and what goes with it.

use topology::{NodeKind, Sink, WindowAggregate, Windowing, Windows};

use crate::build::{Builder, feed, settle, was};
use crate::diagnostics::{Code, Diagnostic, meant};
use crate::file::{AggregatePart, StepPart};
use crate::operators::Reduced;
use crate::reader::{Reader, Text};
use crate::sinks;
use crate::tree::{Kind, Span, Table};
use crate::units;
use crate::wiring::{Out, Outputs};

#[derive(Debug)]
pub struct WindowPart {
    pub windowing: Windowing,
    /// The topic of rows that come too late.
    pub late: Option<Text>,
}

const KINDS: &[&str] = &["tumbling", "hopping", "sliding", "session"];
/// A hundred years: more than any stream has, and far from where sums of times overflow.
const MS_MAX: u64 = 100 * 365 * 86_400_000;

/// Whether the table says `emit = "on-close"`.
pub fn is_on_close(table: &Table) -> bool {
    matches!(table.get("emit").map(|emit| &emit.kind), Some(Kind::Text(word)) if word == "on-close")
}

pub fn read(table: &Table, reader: &mut Reader) -> Option<WindowPart> {
    let on_close = is_on_close(table);
    let Some(value) = table.get("window") else {
        if let Some(emit) = table.get("emit").filter(|_| on_close) {
            let message = "`emit = \"on-close\"` is for windows, and there is no `window`".to_string();
            let hint = "say `window = { tumbling = \"1m\", grace = \"10s\" }`, or another `emit`".to_string();
            reader.bad_value(&emit.span, message, Some(hint));
        }
        if let Some(late) = table.entry("late") {
            let message = "`late` is for windows, and there is no `window`".to_string();
            reader.bad_value(&late.key_span, message, None);
        }
        return None;
    };
    let late = reader
        .text(table, "late")
        .filter(|topic| sinks::check_topic(topic, reader));
    if let Kind::Text(word) = &value.kind {
        if word == "unlimited" {
            return unlimited(&value.span, on_close, late, reader);
        }
        let hint = meant(word, ["unlimited"]).unwrap_or_else(|| "say `{ tumbling = \"1m\", … }`".into());
        reader.bad_value(&value.span, format!("`{word}` is no window"), Some(hint));
        return None;
    }
    let window = reader.table(value, "`window`")?;
    let windowing = windowing(window, &value.span, on_close, reader)?;
    Some(WindowPart {
        windowing: Windowing {
            late: late.is_some(),
            ..windowing
        },
        late,
    })
}

/// One window takes every row, so none is late and none closes.
fn unlimited(span: &Span, on_close: bool, late: Option<Text>, reader: &mut Reader) -> Option<WindowPart> {
    if on_close {
        reader.bad_value(span, "a window without end never closes".to_string(), None);
    }
    if let Some(late) = late {
        reader.bad_value(&late.span, "nothing is late for a window without end".to_string(), None);
    }
    Some(WindowPart {
        windowing: Windowing {
            windows: Windows::Unlimited,
            grace_ms: 0,
            retention_ms: i64::MAX,
            on_close: false,
            late: false,
        },
        late: None,
    })
}

fn windowing(table: &Table, span: &Span, on_close: bool, reader: &mut Reader) -> Option<Windowing> {
    let keys = [
        "tumbling",
        "hopping",
        "advance",
        "sliding",
        "session",
        "grace",
        "retention",
    ];
    reader.keys(table, "a window", &keys, &["start", "zone", "offset"]);
    let given: Vec<&str> = KINDS.iter().copied().filter(|kind| table.get(kind).is_some()).collect();
    let [kind] = given.as_slice() else {
        let message = "a window is one of `tumbling`, `hopping`, `sliding` and `session`".to_string();
        let hint = "say `{ tumbling = \"1m\", grace = \"10s\" }`".to_string();
        reader.bad_value(span, message, Some(hint));
        return None;
    };
    let size = time(table, kind, 1, reader);
    let advance = advance(table, kind, size, span, reader);
    if table.get("grace").is_none() {
        let hint = "say how long after its end a window still takes records: `grace = \"10s\"`, or `\"0s\"`";
        reader.missing(span, "a window", "grace", hint);
    }
    let grace = time(table, "grace", 0, reader);
    let (size, grace) = (size?, grace?);
    let retention_ms = retention_ms(table, (kind, size, grace), on_close, reader);
    let windows = match *kind {
        "tumbling" => Windows::Time {
            size_ms: size,
            advance_ms: size,
        },
        "hopping" => Windows::Time {
            size_ms: size,
            advance_ms: advance?,
        },
        "session" => Windows::Session { gap_ms: size },
        _ => Windows::Sliding { difference_ms: size },
    };
    Some(Windowing {
        windows,
        grace_ms: grace,
        retention_ms,
        on_close,
        late: false,
    })
}

/// How long a window is kept: at least until no row can come into it any more. A sliding one tells of the rows before
/// those that come into it, too.
fn retention_ms(table: &Table, (kind, size, grace): (&str, i64, i64), on_close: bool, reader: &mut Reader) -> i64 {
    let retention = time(table, "retention", 1, reader);
    let least = if kind == "sliding" {
        2 * size + grace
    } else {
        // A session closes a moment after its gap and grace: until it goes on it is kept.
        size + grace + i64::from(on_close && kind == "session")
    };
    if let (Some(retention), Some(said)) = (retention, table.get("retention"))
        && retention < least
    {
        let message = format!("a {kind} window of {size} ms with {grace} ms of grace is not kept in {retention} ms");
        let hint = format!("`retention` is at least {least} ms; leave it out for that");
        reader.bad_value(&said.span, message, Some(hint));
    }
    retention.unwrap_or(least)
}

fn advance(table: &Table, kind: &str, size: Option<i64>, span: &Span, reader: &mut Reader) -> Option<i64> {
    let entry = table.entry("advance");
    match (kind, entry) {
        ("hopping", None) => {
            let hint = "say how far the next window starts after this one: `advance = \"10s\"`";
            reader.missing(span, "a hopping window", "advance", hint);
            None
        }
        ("hopping", Some(_)) => {
            let advance = time(table, "advance", 1, reader)?;
            if let (Some(size), Some(said)) = (size, table.get("advance"))
                && advance > size
            {
                let message = format!("an advance of {advance} ms leaves gaps between windows of {size} ms");
                let hint = "it is at most the size of the window".to_string();
                reader.bad_value(&said.span, message, Some(hint));
            }
            Some(advance)
        }
        (_, Some(entry)) => {
            let message = format!("a {kind} window has no `advance`");
            reader.report(Diagnostic::at(Code::BadValue, &entry.key_span, message).hint("say `hopping`"));
            None
        }
        _ => None,
    }
}

/// A duration; what people write for a negative one is no duration at all, and is told so.
fn time(table: &Table, key: &str, min: u64, reader: &mut Reader) -> Option<i64> {
    let text = reader.text(table, key)?;
    if let Some(positive) = text.text.trim().strip_prefix('-')
        && units::duration_ms(positive).is_some()
    {
        reader.bad_value(&text.span, format!("`{key}` of a window is not negative"), None);
        return None;
    }
    if units::duration_ms(&text.text) == Some(0) && min > 0 {
        reader.bad_value(&text.span, format!("`{key}` of a window is longer than nothing"), None);
        return None;
    }
    i64::try_from(reader.duration(table, key, min..=MS_MAX)?).ok()
}

impl Builder<'_> {
    pub(crate) fn window_aggregate(
        &mut self,
        step: &StepPart,
        part: &AggregatePart,
        window: &WindowPart,
        grouped: &Out,
        reduced: Reduced,
    ) -> Outputs {
        let name = &step.name.text;
        let result = settle(reduced.known);
        let key = settle(grouped.key).windowed(window.windowing.window_kind());
        let form = (window.windowing.store_kind(), 1, key, result);
        let store = self.store(name, was(step), &step.name.span, form, part.emit);
        let kind = NodeKind::WindowAggregate(WindowAggregate {
            aggregate: reduced.aggregate(part, store),
            windowing: window.windowing,
        });
        let node = self.node(name, kind, vec![feed(grouped, 0)]);
        let out = Out {
            node,
            port: 0,
            key: grouped.key.map(|_| key),
            value: Some(result),
            key_changed: true,
            table: !window.windowing.on_close,
        };
        if let Some(late) = &window.late {
            self.check_own(late);
            let sink = Sink {
                topic: late.text.clone(),
                key: settle(grouped.key),
                value: settle(grouped.value),
                create: None,
            };
            let late = Out { port: 1, ..out.clone() };
            self.node(format!("{name}-late"), NodeKind::Sink(sink), vec![feed(&late, 0)]);
        }
        Outputs::One(out)
    }
}
