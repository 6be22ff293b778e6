//! `[sinks.NAME]`.

use crate::diagnostics::{Code, Diagnostic};
use crate::file::{self, SinkPart};
use crate::reader::{Reader, Text};
use crate::tree::Table;

const KEYS: &[&str] = &["from", "topic", "key", "value", "create"];
const LATER: &[&str] = &[
    "topics",
    "partitioner",
    "headers",
    "connector",
    "grants",
    "delay",
    "merge",
];

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
    // Dynamic topics (`topics`) are reported as not supported yet; asking for `topic` too would mislead.
    if table.get("topic").is_none() && table.get("topics").is_none() {
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
        key: file::format(table, "key", reader),
        value: file::format(table, "value", reader),
        create: file::create(table, reader),
        name,
    }
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
