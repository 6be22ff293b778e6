//! `[steps.NAME.grants]` and `[[steps.NAME.grants.http]]`: what a module may use beyond its world.
//!
//! Secrets are named in headers only, as `${secret:NAME}`; `vars` has put variables in and marked the secrets.

use std::collections::HashSet;

use indexmap::IndexMap;
use topology::{Grants, HeaderPart, HttpGrant, Origin};

use crate::diagnostics::{Code, Diagnostic};
use crate::reader::Reader;
use crate::tree::{Kind, Table, Value};
use crate::vars;

/// Origins of one step: more than a module asks, few enough to look through at every request.
const ORIGINS_MAX: usize = 64;
const HEADERS_MAX: usize = 32;
const NAME_BYTES_MAX: usize = 128;

const HTTP: &[&str] = &[
    "origin",
    "headers",
    "timeout",
    "connect-timeout",
    "concurrent",
    "request-bytes",
    "response-bytes",
    "private",
];

/// Headers that belong to the connection, so that neither a grant nor a guest may give them.
const OF_THE_CONNECTION: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// `None`: they are there and wrong, which is reported; what is lacking cannot be said.
pub fn read(table: &Table, reader: &mut Reader) -> Option<Grants> {
    let before = reader.problems.len();
    let grants = all(table, reader);
    (reader.problems.len() == before).then_some(grants)
}

fn all(table: &Table, reader: &mut Reader) -> Grants {
    let mut grants = Grants::default();
    let Some(table) = table.get("grants").and_then(|value| reader.table(value, "`grants`")) else {
        return grants;
    };
    reader.keys(table, "`grants`", &["http", "env", "clock", "random"], &[]);
    grants.clock = reader.boolean(table, "clock").unwrap_or(false);
    grants.random = reader.boolean(table, "random").unwrap_or(false);
    grants.env = env(table, reader);
    grants.http = http(table, reader);
    grants
}

fn env(table: &Table, reader: &mut Reader) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for value in reader.list(table, "env").unwrap_or_default() {
        let Some(name) = reader.as_text(value, "a variable of the environment") else {
            continue;
        };
        if !legal_name(&name.text) {
            let message = format!("`{}` is no name of a variable of the environment", name.text);
            reader.bad_value(&name.span, message, None);
        } else if names.contains(&name.text) {
            let message = format!("`{}` is granted twice", name.text);
            reader.report(Diagnostic::at(Code::DuplicateName, &name.span, message));
        } else {
            names.push(name.text);
        }
    }
    names
}

fn http(table: &Table, reader: &mut Reader) -> Vec<HttpGrant> {
    let list = match table.get("http") {
        None => return Vec::new(),
        Some(Value {
            kind: Kind::List(list), ..
        }) => list,
        Some(value) => {
            let message = format!("`http` must be a list of tables, not {}", value.kind.name());
            let hint = "one for each origin: `[[steps.NAME.grants.http]]`, with two brackets";
            reader.report(Diagnostic::at(Code::WrongType, &value.span, message).hint(hint));
            return Vec::new();
        }
    };
    if let Some(one_more) = list.get(ORIGINS_MAX) {
        let message = format!("a step is granted at most {ORIGINS_MAX} origins");
        reader.report(Diagnostic::at(Code::TooLarge, &one_more.span, message));
    }
    let mut seen = HashSet::new();
    let mut grants = Vec::new();
    for value in list.iter().take(ORIGINS_MAX) {
        let Some(table) = reader.table(value, "a grant of `http`") else {
            continue;
        };
        let Some(grant) = http_grant(table, value, reader) else {
            continue;
        };
        if !seen.insert(grant.origin.clone()) {
            let span = table.get("origin").map_or(&value.span, |origin| &origin.span);
            let message = format!("`{}` is granted twice", grant.origin);
            reader.report(Diagnostic::at(Code::DuplicateName, span, message));
        }
        grants.push(grant);
    }
    grants
}

fn http_grant(table: &Table, value: &Value, reader: &mut Reader) -> Option<HttpGrant> {
    reader.keys(table, "a grant of `http`", HTTP, &["name", "redirects", "proxy", "ca"]);
    if table.get("origin").is_none() {
        let hint = "say `origin = \"https://HOST\"`, with the port where it is not the scheme's own";
        reader.missing(&value.span, "a grant of `http`", "origin", hint);
    }
    let origin = origin(table, reader);
    let headers = headers(table, reader);
    let mut grant = HttpGrant {
        headers,
        ..HttpGrant::new(origin?)
    };
    // Both are bounded by `limits.http` as well, which says how long a call may take.
    grant.timeout_ms = reader
        .duration(table, "timeout", 1..=600_000)
        .unwrap_or(grant.timeout_ms);
    grant.connect_ms = reader
        .duration(table, "connect-timeout", 1..=60_000)
        .unwrap_or(grant.connect_ms);
    if let Some(concurrent) = reader.integer(table, "concurrent", 1..=1_000) {
        grant.concurrent = u32::try_from(concurrent).unwrap_or(grant.concurrent);
    }
    grant.request_bytes = reader
        .size(table, "request-bytes", 0..=256 << 20)
        .unwrap_or(grant.request_bytes);
    grant.response_bytes = reader
        .size(table, "response-bytes", 0..=256 << 20)
        .unwrap_or(grant.response_bytes);
    grant.private = reader.boolean(table, "private").unwrap_or(false);
    Some(grant)
}

fn origin(table: &Table, reader: &mut Reader) -> Option<Origin> {
    let text = reader.text(table, "origin")?;
    match Origin::parse(&text.text) {
        Ok(origin) => Some(origin),
        Err(problem) => {
            reader.bad_value(&text.span, format!("`{}` is no origin", text.text), Some(problem));
            None
        }
    }
}

fn headers(table: &Table, reader: &mut Reader) -> IndexMap<String, Vec<HeaderPart>> {
    let mut headers = IndexMap::new();
    let Some(table) = table.get("headers").and_then(|value| reader.table(value, "`headers`")) else {
        return headers;
    };
    if let Some(one_more) = table.entries.get(HEADERS_MAX) {
        let message = format!("a grant adds at most {HEADERS_MAX} headers");
        reader.report(Diagnostic::at(Code::TooLarge, &one_more.key_span, message));
    }
    for entry in table.entries.iter().take(HEADERS_MAX) {
        let name = entry.key.to_ascii_lowercase();
        if let Some(problem) = name_problem(&name) {
            reader.bad_value(&entry.key_span, format!("`{}` {problem}", entry.key), None);
            continue;
        }
        let Some(text) = reader.as_text(&entry.value, &format!("header `{}`", entry.key)) else {
            continue;
        };
        match template(&text.text) {
            Ok(parts) => {
                if headers.insert(name, parts).is_some() {
                    let message = format!("header `{}` is there twice", entry.key);
                    reader.report(Diagnostic::at(Code::DuplicateName, &entry.key_span, message));
                }
            }
            Err(problem) => {
                let hint = "a secret is written `${secret:NAME}`, a variable `${NAME}`, and a literal `${` as `$${`";
                let message = format!("the value of header `{}` {problem}", entry.key);
                reader.bad_value(&text.span, message, Some(hint.to_string()));
            }
        }
    }
    headers
}

fn name_problem(name: &str) -> Option<&'static str> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(token) {
        return Some("is no name of a header");
    }
    let taken = OF_THE_CONNECTION.contains(&name) || name.starts_with("proxy-");
    taken.then_some("belongs to the connection, and the host writes it")
}

/// Text with secrets as [`vars`] marks them.
fn template(text: &str) -> Result<Vec<HeaderPart>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(vars::SECRET) {
        let (name, after) = after.split_once(vars::SECRET_END).unwrap_or((after, ""));
        if !legal_name(name) {
            return Err(format!("has `{name}` for a secret, which is no name of one"));
        }
        parts.push(HeaderPart::Text(before.to_string()));
        parts.push(HeaderPart::Secret(name.to_string()));
        rest = after;
    }
    parts.push(HeaderPart::Text(rest.to_string()));
    parts.retain(|part| *part != HeaderPart::Text(String::new()));
    let visible = |part: &HeaderPart| match part {
        HeaderPart::Text(text) => text.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b)),
        HeaderPart::Secret(_) => true,
    };
    if parts.iter().all(visible) {
        Ok(parts)
    } else {
        Err("has letters that a header cannot hold: only visible ASCII goes".into())
    }
}

/// A name that is safe as a variable of an environment and as a file.
fn legal_name(name: &str) -> bool {
    let first = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let rest = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    name.len() <= NAME_BYTES_MAX && name.bytes().next().is_some_and(first) && name.bytes().all(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stand_between_texts() {
        let text = |text: &str| HeaderPart::Text(text.into());
        let secret = |name: &str| HeaderPart::Secret(name.into());
        let cases = [
            ("Bearer \u{1}KEY\u{2}", Ok(vec![text("Bearer "), secret("KEY")])),
            ("\u{1}A\u{2}\u{1}B\u{2}", Ok(vec![secret("A"), secret("B")])),
            ("a ${secret:A}", Ok(vec![text("a ${secret:A}")])),
            ("", Ok(vec![])),
        ];
        for (template_text, parts) in cases {
            assert_eq!(template(template_text), parts, "{template_text}");
        }
        for broken in ["\u{1}\u{2}", "\u{1}../a\u{2}", "\u{2}", "a\nb", "ü"] {
            assert!(template(broken).is_err(), "{broken}");
        }
    }
}
