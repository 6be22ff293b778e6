//! `timestamp` of a source: `"record"`, `"wall-clock"`, or a part of its rows: `{ field = "value.at" }`.

use topology::{Format, InvalidTime, Selector, TimeForm, TimeOf, Timestamps};

use crate::build::Builder;
use crate::diagnostics::{Code, Diagnostic, meant};
use crate::file::{self, Part, SourcePart};
use crate::reader::{Reader, Text};
use crate::tree::{Kind, Span, Table};
use crate::wiring::Out;

#[derive(Debug, Default)]
pub struct TimestampPart {
    of: TimeOfPart,
    form: TimeForm,
    invalid: InvalidTime,
    /// Where the file says `dead-letter`.
    dead_letter: Option<Span>,
}

#[derive(Debug, Default)]
enum TimeOfPart {
    #[default]
    Record,
    WallClock,
    Field(Part),
    Expression(Text),
}

pub fn read(source: &Table, reader: &mut Reader) -> TimestampPart {
    let Some(value) = source.get("timestamp") else {
        return TimestampPart::default();
    };
    match &value.kind {
        Kind::Text(word) => {
            let of = match word.as_str() {
                "record" => TimeOfPart::Record,
                "wall-clock" => TimeOfPart::WallClock,
                other => {
                    let hint = meant(other, ["record", "wall-clock"]);
                    let hint = hint.unwrap_or_else(|| "say `{ field = \"value.at\" }` for a part of the rows".into());
                    reader.bad_value(&value.span, format!("`{other}` is no source of times"), Some(hint));
                    TimeOfPart::Record
                }
            };
            TimestampPart {
                of,
                ..TimestampPart::default()
            }
        }
        Kind::Table(table) => of_rows(table, reader),
        _ => {
            reader.wrong_type(value, "`timestamp`", "a word or a table");
            TimestampPart::default()
        }
    }
}

fn of_rows(table: &Table, reader: &mut Reader) -> TimestampPart {
    reader.keys(table, "`timestamp`", &["field", "expression", "format", "invalid"], &[]);
    let forms = [("ms", TimeForm::Ms), ("s", TimeForm::S), ("rfc3339", TimeForm::Rfc3339)];
    let policies = [
        ("fail", InvalidTime::Fail),
        ("skip", InvalidTime::Skip),
        ("dead-letter", InvalidTime::DeadLetter),
        ("partition-time", InvalidTime::PartitionTime),
    ];
    let form = reader.word(table, "format", &forms, &[]).unwrap_or_default();
    let invalid = reader.word(table, "invalid", &policies, &[]);
    let field = table.get("field").and_then(|v| file::selector(v, "`field`", reader));
    let expression = reader.text(table, "expression");
    if let (Some(_), Some(both)) = (table.entry("field"), table.entry("expression")) {
        let message = "a time is a `field` or an `expression`, not both".to_string();
        reader.bad_value(&both.key_span, message, None);
    }
    let of = match (field, expression) {
        (Some(field), _) => TimeOfPart::Field(field),
        (None, Some(expression)) => TimeOfPart::Expression(expression),
        (None, None) => TimeOfPart::Record,
    };
    if let (TimeOfPart::Record, Some(entry), None) = (&of, table.entry("format"), table.entry("field")) {
        let message = "the time of a record itself has no `format`".to_string();
        let hint = "say which part of the rows it is the format of: `field = \"value.at\"`".to_string();
        reader.bad_value(&entry.key_span, message, Some(hint));
    }
    // A file that names a field means every row to have it; what a producer left out is nobody's word.
    let natural = match of {
        TimeOfPart::Record | TimeOfPart::WallClock => InvalidTime::Skip,
        TimeOfPart::Field(_) | TimeOfPart::Expression(_) => InvalidTime::Fail,
    };
    let dead_letter = table.get("invalid").map(|value| value.span.clone());
    TimestampPart {
        of,
        form,
        invalid: invalid.unwrap_or(natural),
        dead_letter: dead_letter.filter(|_| invalid == Some(InvalidTime::DeadLetter)),
    }
}

impl Builder<'_> {
    /// `out`: what the source gives.
    pub(crate) fn timestamps(&mut self, source: &SourcePart, out: &Out) -> Timestamps {
        let TimestampPart {
            of,
            form,
            invalid,
            dead_letter,
        } = &source.timestamp;
        if let Some(span) = dead_letter {
            let what = format!("source `{}` sends rows without a time", source.name.text);
            self.check_letters_have_a_topic(span, &what);
        }
        let of = match of {
            TimeOfPart::Record => TimeOf::Record,
            TimeOfPart::WallClock => TimeOf::WallClock,
            TimeOfPart::Field(part) => {
                self.check_time(part, out);
                TimeOf::Part {
                    part: part.selector.clone(),
                    form: *form,
                }
            }
            TimeOfPart::Expression(text) => TimeOf::Expression {
                expression: self.expression(text, out, false),
                form: *form,
            },
        };
        Timestamps {
            of,
            invalid: *invalid,
            idle_ms: source.idle_ms,
        }
    }

    /// Bytes are no time.
    fn check_time(&mut self, part: &Part, out: &Out) {
        let format = self.part_format(part, out);
        let whole = !matches!(part.selector, Selector::Field(_));
        let Some(format @ (Format::Bytes | Format::F64)) = format.filter(|_| whole) else {
            return;
        };
        let message = format!(
            "a time is a whole number or a text, and `{}` is `{}`",
            part.selector.word(),
            format.word()
        );
        let hint = format!("say what it is at the source: `{} = \"string\"`", part.selector.word());
        self.reader
            .report(Diagnostic::at(Code::FormatMismatch, &part.span, message).hint(hint));
    }
}
