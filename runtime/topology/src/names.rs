//! The names that a pipeline gives to what it makes, and the rules for those that users give.

/// Longest name of a pipeline, source, step, sink, module, port or store: three of them and a suffix still fit
/// Kafka's 249 bytes for a topic.
pub const NAME_BYTES_MAX: usize = 64;
/// Kafka's limit.
const TOPIC_BYTES_MAX: usize = 249;

/// Why `name` is no name (`[a-z][a-z0-9-]*`, at most 64 bytes), or `None` when it is one.
pub fn name_problem(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("a name must not be empty".to_string());
    }
    if name.len() > NAME_BYTES_MAX {
        return Some(format!(
            "a name has at most {NAME_BYTES_MAX} characters, this one has {}",
            name.len()
        ));
    }
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase());
    let goes_on = name
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if starts && goes_on {
        return None;
    }
    Some("a name starts with a lower-case letter and goes on with lower-case letters, digits and `-`".to_string())
}

/// Why Kafka would refuse `topic` as a name, or `None`.
pub fn topic_problem(topic: &str) -> Option<String> {
    if topic.is_empty() {
        return Some("a topic's name must not be empty".to_string());
    }
    if topic == "." || topic == ".." {
        return Some(format!("`{topic}` is no name for a topic"));
    }
    if topic.len() > TOPIC_BYTES_MAX {
        return Some(format!(
            "a topic's name has at most {TOPIC_BYTES_MAX} characters, this one has {}",
            topic.len()
        ));
    }
    let odd = topic
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')))?;
    Some(format!(
        "a topic's name has letters, digits, `.`, `_` and `-` only, not `{}`",
        odd.escape_debug()
    ))
}

/// `<pipeline>-<store>-changelog`.
pub fn changelog_topic(pipeline: &str, store: &str) -> String {
    format!("{pipeline}-{store}-changelog")
}

/// `<pipeline>-<step>-repartition`.
pub fn repartition_topic(pipeline: &str, step: &str) -> String {
    format!("{pipeline}-{step}-repartition")
}

/// The internal store of a sub-topology that has modules: operators' times, punctuations.
pub fn times_store(sub_topology: u32) -> String {
    format!("times-{sub_topology}")
}

/// Whether the pipeline keeps `topic` for itself, so that no source or sink may name it.
pub fn is_internal_topic(pipeline: &str, topic: &str) -> bool {
    let Some(rest) = topic.strip_prefix(pipeline).and_then(|rest| rest.strip_prefix('-')) else {
        return false;
    };
    matches!(rest, "placement" | "token" | "replays") || rest.ends_with("-changelog") || rest.ends_with("-repartition")
}
