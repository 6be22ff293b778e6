//! `op = "join"` of two streams: `within`, or `before` and `after`, and `grace`.

use topology::{Emit, Format, JoinKind, NodeKind, Side, StoreId, StoreKind, StreamJoin};

use crate::build::{Builder, feed, settle, was};
use crate::file::StepPart;
use crate::joins::JoinPart;
use crate::wiring::{Out, Outputs};

/// `before`, `after` and `grace`, in milliseconds.
type Times = (i64, i64, i64);

impl Builder<'_> {
    pub(crate) fn stream_join(&mut self, step: &StepPart, part: &JoinPart, left: Out, right: Out) -> Outputs {
        let times = self.times(step, part);
        self.check_keys(part, &left, &right);
        self.check_side(part, Side::Left, &left);
        self.check_side(part, Side::Right, &right);
        let Some((before_ms, after_ms, grace_ms)) = times else {
            return Outputs::Unknown;
        };
        let left = self.side(step, Side::Left, left);
        let right = self.side(step, Side::Right, right);
        let key = settle(left.key.or(right.key));
        let mut join = StreamJoin {
            kind: part.kind,
            before_ms,
            after_ms,
            grace_ms,
            left: 0,
            right: 0,
            waiting: None,
            value: part.value.clone(),
            key,
            left_value: settle(left.value),
            right_value: settle(right.value),
        };
        let windowed = key.windowed(topology::WindowKind::Time);
        let kind = join.store_kind();
        join.left = self.join_store(step, "left", (kind, 1, windowed, join.left_value));
        join.right = self.join_store(step, "right", (kind, 1, windowed, join.right_value));
        if part.kind != JoinKind::Inner {
            let form = (StoreKind::KeyValue, 1, Format::Bytes, Format::Bytes);
            join.waiting = Some(self.join_store(step, "waiting", form));
        }
        let inputs = vec![feed(&left, 0), feed(&right, 1)];
        let node = self.node(&step.name.text, NodeKind::StreamJoin(Box::new(join)), inputs);
        Outputs::One(Out {
            node,
            port: 0,
            key: Some(key),
            value: Some(Format::Json),
            key_changed: false,
            table: false,
        })
    }

    fn join_store(&mut self, step: &StepPart, what: &str, form: (StoreKind, u32, Format, Format)) -> StoreId {
        let name = format!("{}-{what}", step.name.text);
        let topics = format!("{}-{what}", was(step));
        self.store(&name, &topics, &step.name.span, form, Emit::EveryUpdate)
    }

    fn times(&mut self, step: &StepPart, part: &JoinPart) -> Option<Times> {
        let ms = |time: &Option<(u64, crate::tree::Span)>| {
            let (ms, _) = time.as_ref()?;
            i64::try_from(*ms).ok()
        };
        if let (Some(_), Some((_, span))) = (&part.within, part.before.as_ref().or(part.after.as_ref())) {
            let message = "`within` says both `before` and `after`".to_string();
            self.reader
                .bad_value(span, message, Some("say one or the other".to_string()));
        }
        let span = &step.name.span;
        let (says_span, says_grace) = part.says;
        if !says_span {
            let hint = "say how far apart two records of a pair may be: `within = \"5m\"`, or `before` and `after`";
            self.reader.missing(span, "a join of two streams", "within", hint);
        }
        if !says_grace {
            let hint = "say how long after the end of its window a record still waits for its match: `grace = \"10s\"`";
            self.reader.missing(span, "a join of two streams", "grace", hint);
        }
        let before = ms(&part.before).or(ms(&part.within));
        let after = ms(&part.after).or(ms(&part.within));
        if before.is_none() && after.is_none() {
            return None;
        }
        Some((before.unwrap_or(0), after.unwrap_or(0), ms(&part.grace)?))
    }
}
