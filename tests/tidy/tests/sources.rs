//! Names and lengths of source files (the reasons stand in runtime/ARCHITECTURE.md).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
/// Tests may be longer: a list of cases is read from top to bottom.
const TEST_LINES_MAX: usize = 600;
const TEST_FUNCTION_LINES_MAX: usize = 130;
/// Longer, with a reason.
const LONG: [(&str, &str); 1] = [(
    "runtime/kafka/src/errors.rs",
    "one match that is a table of librdkafka's error codes",
)];
/// Generated, and named so.
const GENERATED: [&str; 2] = [
    "guest-sdk/rust/src/bindings.rs",
    "guest-sdk/rust/src/application_bindings.rs",
];
const VAGUE: [&str; 9] = [
    "common", "types", "utils", "util", "helpers", "manager", "impl", "base", "factory",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            rust_files(&path, into);
        } else if name.ends_with(".rs") {
            into.push(path);
        }
    }
}

fn sources() -> Vec<(String, String)> {
    let root = root();
    let mut files = Vec::new();
    for folder in ["runtime", "guest-sdk", "tests", "examples"] {
        rust_files(&root.join(folder), &mut files);
    }
    files
        .into_iter()
        .map(|f| {
            (
                f.strip_prefix(&root).unwrap().to_string_lossy().into_owned(),
                fs::read_to_string(&f).unwrap(),
            )
        })
        .filter(|(name, _)| !GENERATED.contains(&name.as_str()))
        .collect()
}

/// Files that only tests and measurements use.
fn is_test(name: &str) -> bool {
    ["tests/", "/tests/", "/tests.rs", "/examples/", "/exactness/"]
        .iter()
        .any(|part| match part.strip_suffix('/') {
            Some("tests") => name.starts_with(part),
            _ => name.contains(part),
        })
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        let lines = text.lines().count();
        let lines_max = if is_test(&name) { TEST_LINES_MAX } else { LINES_MAX };
        if lines > lines_max {
            wrong.push(format!("{name}: {lines} lines, at most {lines_max}"));
        }
        let stem = Path::new(&name).file_stem().unwrap().to_string_lossy().into_owned();
        if VAGUE.contains(&stem.as_str()) {
            wrong.push(format!("{name}: `{stem}` says nothing"));
        }
        if name.starts_with("runtime/") && name.contains("/src/") && !text.starts_with("//!") {
            wrong.push(format!("{name}: does not begin with what it is for (`//!`)"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Counts by indentation, which rustfmt guarantees: a function ends with `}` in its own column.
#[test]
fn functions_are_short() {
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        if LONG.iter().any(|(long, _)| *long == name) {
            continue;
        }
        let mut open: Option<(usize, usize, &str)> = None;
        let mut lines_max = if is_test(&name) {
            TEST_FUNCTION_LINES_MAX
        } else {
            FUNCTION_LINES_MAX
        };
        for (number, line) in text.lines().enumerate() {
            let body = line.trim_start();
            if body == "#[cfg(test)]" {
                lines_max = TEST_FUNCTION_LINES_MAX;
            }
            let indent = line.len() - body.len();
            let starts = [
                "fn ",
                "pub fn ",
                "pub(crate) fn ",
                "async fn ",
                "pub async fn ",
                "unsafe fn ",
                "pub(super) fn ",
            ];
            if starts.iter().any(|s| body.starts_with(s)) && !body.ends_with(';') && !body.ends_with('}') {
                open = Some((number, indent, body));
            } else if let Some((start, column, head)) = open
                && indent == column
                && body.starts_with('}')
            {
                if number - start > lines_max {
                    wrong.push(format!("{name}:{}: {} lines: {head}", start + 1, number - start));
                }
                open = None;
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
