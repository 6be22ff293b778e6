//! The runner on native pipelines, and the engine's own cases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::project::Project;
use super::report::CaseReport;
use super::{cases, lines, play, projects};
use std::path::Path;

const COUNT: &str = r#"
wasmill = 1
name = "counting"
[sources.words]
topic = "words"
value = "string"
[steps.counts]
op = "count"
from = "words"
group-by = "value"
[sinks.counts]
from = "counts"
topic = "word-counts"
"#;

fn played(pipeline: &str, input: &str, expected: &str) -> CaseReport {
    let project = Project::native(pipeline).unwrap();
    let steps = lines::input(&project, input, "input.jsonl").unwrap();
    let expected = lines::expected(&project, expected, "expected.jsonl").unwrap();
    play::all_ways(&project, "case", &steps, &expected, 1)
}

fn text(mut report: CaseReport) -> String {
    report.ms = 0;
    report.text().join("\n")
}

const WORDS: &str = r#"
{"topic": "words", "value": "a", "timestamp": 1000}
{"topic": "words", "value": "b"}
{"restart": true}
{"topic": "words", "value": "a", "timestamp": 500}
"#;

#[test]
fn a_case_passes_in_every_cut() {
    let expected = r#"
{"topic": "word-counts", "key": "a", "value": 1, "timestamp": 1000}
{"topic": "word-counts", "key": "b", "value": 1, "timestamp": 1001}
{"topic": "word-counts", "key": "a", "value": 2, "timestamp": 1000}
{"store": "counts", "key": "b", "value": 1}
{"store": "counts", "key": "a", "value": 2, "timestamp": 1000}
{"store": "counts", "key": "c", "value": null}
"#;
    // Whole, one by one, restarted; random cuts of two records are one of the first two.
    assert_eq!(
        text(played(COUNT, WORDS, expected)),
        "ok     case  3 inputs, 3 runs, 0 ms"
    );
}

#[test]
fn a_failure_shows_what_differs_line_by_line() {
    let expected = r#"
{"topic": "word-counts", "key": "a", "value": 1}
{"topic": "word-counts", "key": "c", "value": 1}
{"topic": "word-counts", "key": "a", "value": 2}
{"store": "counts", "key": "a", "value": 2}
"#;
    let shown = r#"FAILED case  3 inputs, 1 run, 0 ms
  whole: not as expected (- expected, + got)
  topic word-counts
      {"topic": "word-counts", "key": "a", "value": 1}
    - {"topic": "word-counts", "key": "c", "value": 1}
    + {"topic": "word-counts", "key": "b", "value": 1}
      {"topic": "word-counts", "key": "a", "value": 2}
  store counts
      {"store": "counts", "key": "a", "value": 2}
    + {"store": "counts", "key": "b", "value": 1}"#;
    assert_eq!(text(played(COUNT, WORDS, expected)), shown);
    // An output that the case says nothing of is a failure, a store is not.
    let silent = text(played(COUNT, WORDS, ""));
    assert!(
        silent.contains("topic word-counts") && !silent.contains("store counts"),
        "{silent}"
    );
}

#[test]
fn a_pipeline_that_stops_fails_with_its_reason() {
    let sum = COUNT
        .replace("\"count\"", "\"sum\"")
        .replace("value = \"string\"", "value = \"i64\"");
    let sum = sum.replace("group-by = \"value\"", "");
    let input = r#"
{"topic": "words", "key": "k", "value": 9223372036854775807}
{"topic": "words", "key": "k", "value": 1}
"#;
    let shown = text(played(&sum, input, ""));
    assert!(
        shown.contains("whole: the pipeline stopped: task 0_0: step `counts` at words-0-1: the sum of"),
        "{shown}"
    );
    let stops = r#"
{"topic": "word-counts", "key": "k", "value": 9223372036854775807}
{"stops": "does not fit 64 bits"}
"#;
    assert_eq!(text(played(&sum, input, stops)), "ok     case  2 inputs, 3 runs, 0 ms");
    let later = text(played(&sum, input, &stops.replace("64", "32")));
    assert!(
        later.contains("the end\n    - {\"stops\": \"does not fit 32 bits\"}\n    + {\"stops\": \"task"),
        "{later}"
    );
    let early = text(played(COUNT, "", stops));
    assert!(early.contains("the end\n    - {\"stops\""), "{early}");
}

#[test]
fn wrong_lines_are_named_by_file_and_line() {
    let project = Project::native(COUNT).unwrap();
    let input = |line: &str| {
        lines::input(&project, &format!("\n{line}"), "input.jsonl")
            .unwrap_err()
            .to_string()
    };
    let expected = |line: &str| {
        lines::expected(&project, line, "expected.jsonl")
            .unwrap_err()
            .to_string()
    };
    for (message, part) in [
        (
            input(r#"{"topic": "words", "vlaue": "a"}"#),
            "input.jsonl:2: unknown field `vlaue`\nhint: did you mean `value`?",
        ),
        (
            input(r#"{"topik": "words"}"#),
            "input.jsonl:2: a line has one of `topic`",
        ),
        (
            input(r#"{"topic": "wordz"}"#),
            "reads no topic `wordz`\nhint: did you mean `words`?",
        ),
        (
            input(r#"{"topic": "words", "timestamp": "now"}"#),
            "`timestamp` is a number of milliseconds",
        ),
        (input(r#"{"advance": "soon"}"#), "`advance` takes milliseconds"),
        (input(r#"{"commit": 1}"#), "say {\"commit\": true}"),
        (input("{"), "input.jsonl:2: no JSON"),
        (
            expected(r#"{"topic": "word-counts", "value": "x"}"#),
            "expected.jsonl:1: `value`: `\"x\"` is not a whole number",
        ),
        (expected(r#"{"topic": "words"}"#), "writes no topic `words`"),
        (
            expected(r#"{"store": "count", "key": "a"}"#),
            "no store `count`\nhint: did you mean `counts`?",
        ),
        (
            expected(r#"{"store": "counts", "key": "a", "headers": []}"#),
            "unknown field `headers`",
        ),
        (expected(r#"{"dead-letter": "words"}"#), "no `dead-letters`"),
    ] {
        assert!(message.contains(part), "{message}");
    }
}

/// Every folder in `tests/cases/engine` is a rule of Kafka Streams that native operators keep.
#[test]
fn the_cases_of_the_engine_pass() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/engine");
    let mut failed = Vec::new();
    let mut count = 0;
    for project in projects(&folder).unwrap() {
        let loaded = Project::load(&project, &pipeline::Vars::default()).unwrap();
        for case in cases(&project).unwrap() {
            count += 1;
            let report = play::case(&loaded, &super::case_name(&project, &case), &case, 1).unwrap();
            if !report.passed {
                failed.push(text(report));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(count >= 15, "only {count} cases were found");
}

proptest::proptest! {
    /// Lines with anything wrong in them, or nothing: they are read, or refused with their place.
    #[test]
    fn lines_are_read_or_refused(
        edits in proptest::collection::vec(
            (0_usize..1_000, 0_usize..12, proptest::sample::select(PIECES)), 0..5)
    ) {
        let mut text = EVERYTHING.to_owned();
        for (at, gone, piece) in edits {
            let from = text.floor_char_boundary(at % (text.len() + 1));
            let to = text.ceil_char_boundary((from + gone).min(text.len()));
            text.replace_range(from..to, piece);
        }
        let project = Project::native(COUNT).unwrap();
        if let Err(refused) = lines::input(&project, &text, "in") {
            proptest::prop_assert!(refused.to_string().starts_with("in:"), "{}", refused);
        }
        if let Err(refused) = lines::expected(&project, &text, "ex") {
            proptest::prop_assert!(refused.to_string().starts_with("ex:"), "{}", refused);
        }
    }
}

const EVERYTHING: &str = r#"{"topic": "words", "key": null, "value": "a", "timestamp": 9223372036854775807, "headers": [["a", "b"], ["c", null]]}
{"topic": "words", "value": {"base64": "AAEC"}}
{"commit": true}
{"advance": "10s"}
{"advance": 5}
{"restart": true}
{"topic": "word-counts", "key": "a", "value": 2, "timestamp": 1000}
{"store": "counts", "key": "b", "value": 1}
{"store": "counts", "key": "c", "value": null}
{"dead-letter": "words", "reason": "x"}
{"stops": "why"}
"#;
const PIECES: &[&str] = &[
    "",
    "\"",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\n",
    "null",
    "true",
    "-1",
    "1e999",
    "9223372036854775807",
    "topic",
    "base64",
    "store",
    "advance",
    "10d",
    "ü",
    "\\u0000",
];
