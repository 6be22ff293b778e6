//! What becomes of records that fail: `on-error`, `retries`, `dead-letters`.

use topology::{CreateTopic, DeadLetters, OnError, Retries};

use crate::build::Builder;
use crate::diagnostics::{Code, Diagnostic};
use crate::file::{self, StepPart};
use crate::reader::{Reader, Text};
use crate::sinks;
use crate::tree::{Kind, Span, Table};

/// `dead-letters = "TOPIC"`, or `{ topic = "TOPIC", create = { partitions = N } }`.
#[derive(Debug)]
pub struct DeadLettersPart {
    pub topic: Text,
    pub create: Option<CreateTopic>,
}

pub fn dead_letters(table: &Table, reader: &mut Reader) -> Option<DeadLettersPart> {
    let value = table.get("dead-letters")?;
    let (topic, create) = match &value.kind {
        Kind::Table(parts) => {
            reader.keys(parts, "`dead-letters`", &["topic", "create"], &[]);
            if parts.get("topic").is_none() {
                reader.missing(&value.span, "`dead-letters`", "topic", "say `topic = \"…\"`");
            }
            (reader.text(parts, "topic")?, file::create(parts, reader))
        }
        _ => (reader.text(table, "dead-letters")?, None),
    };
    // A name that is no topic's is reported; that the steps have none would be an echo of it.
    sinks::check_topic(&topic, reader);
    Some(DeadLettersPart { topic, create })
}

pub fn on_error(table: &Table, reader: &mut Reader) -> Option<(OnError, Span)> {
    let words = [
        ("stop", OnError::Stop),
        ("skip", OnError::Skip),
        ("dead-letter", OnError::DeadLetter),
    ];
    let value = reader.word(table, "on-error", &words, &[])?;
    Some((value, table.get("on-error")?.span.clone()))
}

/// `retries = { max = 5, backoff = "200ms..10s" }`.
pub fn retries(table: &Table, mut retries: Retries, reader: &mut Reader) -> Retries {
    let Some(table) = table.get("retries").and_then(|value| reader.table(value, "`retries`")) else {
        return retries;
    };
    reader.keys(table, "`retries`", &["max", "backoff"], &[]);
    if let Some(max) = reader.integer(table, "max", 0..=1_000_000) {
        retries.max = u32::try_from(max).unwrap_or(u32::MAX);
    }
    if let Some(text) = reader.text(table, "backoff") {
        match crate::units::duration_range_ms(&text.text) {
            Some((min, max)) => (retries.backoff_ms_min, retries.backoff_ms_max) = (min, max),
            None => {
                let hint = "write the first and the longest wait, like \"200ms..10s\"".to_string();
                reader.bad_value(
                    &text.span,
                    format!("`{}` is no range of durations", text.text),
                    Some(hint),
                );
            }
        }
    }
    retries
}

impl Builder<'_> {
    pub(crate) fn dead_letters(&mut self) -> Option<DeadLetters> {
        let letters = self.file.dead_letters.as_ref()?;
        self.check_own(&letters.topic);
        Some(DeadLetters {
            topic: letters.topic.text.clone(),
            create: letters.create.clone(),
        })
    }

    pub(crate) fn check_dead_letters(&mut self, step: &StepPart) {
        if let Some(span) = &step.dead_letter_span {
            let what = format!("step `{}` sends failures", step.name.text);
            self.check_letters_have_a_topic(span, &what);
        }
    }

    /// `what` goes to dead letters, as the file says at `span`.
    pub(crate) fn check_letters_have_a_topic(&mut self, span: &Span, what: &str) {
        if self.file.dead_letters.is_some() {
            return;
        }
        let hint = "say `dead-letters = \"TOPIC\"` in `[defaults]`";
        let message = format!("{what} to dead letters, and no topic is named for them");
        // Once: the same default may stand for many steps.
        let problem = Diagnostic::at(Code::MissingKey, span, message).hint(hint);
        let same = |other: &Diagnostic| other.code == Code::MissingKey && other.place == problem.place;
        if !self.reader.problems.iter().any(same) {
            self.reader.report(problem);
        }
    }
}
