//! `[sinks.NAME]`.

use crate::diagnostics::{Code, Diagnostic};
use crate::file::{self, SinkPart};
use crate::reader::{Reader, Text};
use crate::tree::Table;

const KEYS: &[&str] = &["from", "topic", "topic-from", "topics", "key", "value", "create"];
const LATER: &[&str] = &["partitioner", "headers", "connector", "grants", "delay", "merge"];

/// Topics of one sink.
const TOPICS_MAX: usize = 100;

pub fn read(name: Text, table: &Table, reader: &mut Reader) -> SinkPart {
    reader.keys(table, "a sink", KEYS, LATER);
    let what = format!("sink `{}`", name.text);
    if table.get("from").is_none() {
        reader.missing(
            &name.span,
            &what,
            "from",
            "say `from = \"STEP\"`, or `from = \"STEP.PORT\"`",
        );
    }
    let route = route(&what, table, reader);
    // Where topics are said by expression, asking for `topic` too would mislead.
    if table.get("topic").is_none() && table.get("topics").is_none() && table.get("topic-from").is_none() {
        reader.missing(
            &name.span,
            &what,
            "topic",
            "only the pipeline file names topics: say `topic = \"…\"`",
        );
    }
    SinkPart {
        from: reader.text(table, "from"),
        topic: reader.text(table, "topic").filter(|topic| check_topic(topic, reader)),
        route,
        key: file::format(table, "key", reader),
        value: file::format(table, "value", reader),
        create: file::create(table, reader),
        name,
    }
}

/// `topic-from = "value.kind"` and `topics = ["a", "b"]`, all that it may give.
fn route(what: &str, table: &Table, reader: &mut Reader) -> Option<(Text, Vec<Text>)> {
    let (by, topics) = (table.entry("topic-from"), table.entry("topics"));
    match (by, topics) {
        (None, None) => return None,
        (Some(by), Some(_)) => {
            if let Some(topic) = table.entry("topic") {
                let message = format!("{what} has `topic` and `topic-from`, and may have one");
                reader.report(
                    Diagnostic::at(Code::BadValue, &topic.key_span, message).also(&by.key_span, "the other one"),
                );
            }
        }
        (Some(by), None) => {
            let hint = "only the pipeline file names topics: say all that the expression may give, `topics = [\"…\"]`";
            reader.missing(&by.key_span, what, "topics", hint);
        }
        (None, Some(topics)) => {
            let hint = "say the topic of a record by an expression: `topic-from = \"value.kind\"`";
            reader.missing(&topics.key_span, what, "topic-from", hint);
        }
    }
    let by = reader.text(table, "topic-from")?;
    let listed: Vec<Text> = reader
        .list(table, "topics")?
        .iter()
        .filter_map(|value| reader.as_text(value, "a topic"))
        .collect();
    let listed: Vec<Text> = listed.into_iter().filter(|topic| check_topic(topic, reader)).collect();
    // Each is a node of its own.
    if listed.is_empty() || listed.len() > TOPICS_MAX {
        let span = topics.map_or(by.span.clone(), |topics| topics.value.span.clone());
        reader.bad_value(
            &span,
            format!("`topics` has one topic at least, and at most {TOPICS_MAX}"),
            None,
        );
        return None;
    }
    Some((by, listed))
}

/// Whether Kafka would take the name.
pub fn check_topic(topic: &Text, reader: &mut Reader) -> bool {
    let Some(problem) = topology::topic_problem(&topic.text) else {
        return true;
    };
    let message = format!("`{}` is no name for a topic", topic.text);
    reader.report(Diagnostic::at(Code::BadTopic, &topic.span, message).hint(problem));
    false
}
