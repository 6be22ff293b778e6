//! What expressions give, what is refused, and that no text makes the library panic.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::{Compiled, Error, FUNCTIONS, Row};
use serde_json::json;
use topology::{Expression, Format};

fn expression(text: &str) -> Expression {
    Expression {
        text: text.into(),
        key: Format::String,
        value: Format::Json,
    }
}

fn evaluate(text: &str, value: &str) -> Result<serde_json::Value, Error> {
    let headers = [("trace".to_owned(), Some(b"t1".to_vec())), ("empty".to_owned(), None)];
    let row = Row {
        key: Some(b"k"),
        value: (!value.is_empty()).then_some(value.as_bytes()),
        timestamp: 1_000,
        headers: &headers,
    };
    Compiled::new(&expression(text)).unwrap().json(&row, None)
}

#[test]
fn fields_arithmetic_texts_and_conditions() {
    let value = r#"{"amount": 12, "price": 1.5, "user": {"name": " Ada "}, "tags": ["a", "b"], "no": null}"#;
    for (text, expected) in [
        ("value.amount > 10", json!(true)),
        ("value.amount > 11.5", json!(true)),
        ("value.amount + 1", json!(13)),
        ("double(value.amount) * value.price", json!(18.0)),
        ("value.user.name.trim().upperAscii()", json!("ADA")),
        ("key + '-' + value.tags[1]", json!("k-b")),
        ("has(value.user) && !has(value.users)", json!(true)),
        ("value.no == null", json!(true)),
        ("value.tags.exists(t, t == 'b')", json!(true)),
        ("value.tags.map(t, t + '!')", json!(["a!", "b!"])),
        ("value.tags.join(',')", json!("a,b")),
        ("'x' in value.tags", json!(false)),
        ("value.user.name.matches('^ A')", json!(true)),
        ("timestamp % 7", json!(6)),
        ("headers.trace", json!("t1")),
        ("headers.empty == null", json!(true)),
        ("{'b': 1, 'a': value.price}", json!({"a": 1.5, "b": 1})),
        ("value.amount > 100 ? 'much' : 'little'", json!("little")),
        ("int('12') + 1", json!(13)),
        ("size(value.tags)", json!(2)),
    ] {
        assert_eq!(evaluate(text, value), Ok(expected), "{text}");
    }
    assert_eq!(evaluate("value == null", ""), Ok(json!(true)));
}

#[test]
fn what_cannot_be_evaluated_says_why() {
    for (text, value, part) in [
        ("value.amount > 1", "{}", "No such key"),
        ("value.amount > 1", r#"{"amount": "x"}"#, ""),
        ("value.amount / 0", r#"{"amount": 1}"#, "Division by zero"),
        ("value.amount + 9223372036854775807", r#"{"amount": 1}"#, "Overflow"),
        ("value[3]", "[1]", ""),
    ] {
        match evaluate(text, value) {
            Err(Error::Evaluation(reason)) => assert!(reason.contains(part), "{text}: {reason}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    match evaluate("value.amount > 1", "{") {
        Err(Error::Deserialization(reason)) => assert!(reason.contains("not JSON"), "{reason}"),
        other => panic!("{other:?}"),
    }
    let row = Row::default();
    let number = Compiled::new(&expression("1 + 1")).unwrap();
    assert!(matches!(number.holds(&row), Err(Error::Evaluation(r)) if r.contains("a whole number")));
}

#[test]
fn a_text_that_is_no_expression_is_refused_with_its_place() {
    for (text, part, at) in [
        ("value.amount >", "", None),
        ("valeu.amount > 1", "there is no variable `valeu`", Some(0)),
        (
            "key == 'a' && sizes(value) > 1",
            "there is no function `sizes`",
            Some(14),
        ),
    ] {
        let problem = Compiled::new(&expression(text)).unwrap_err();
        assert!(problem.message.contains(part), "{text}: {problem:?}");
        assert!(at.is_none() || problem.at == at, "{text}: {problem:?}");
    }
    let long = format!("'{}'", "a".repeat(5_000));
    assert!(Compiled::new(&expression(&long)).is_err());
    let deep = format!("{}1{}", "(".repeat(2_000), ")".repeat(2_000));
    assert!(Compiled::new(&expression(&deep)).is_err());
}

/// Each function of the list is one that the library has: a wrong call of it fails otherwise than an unknown one.
#[test]
fn every_function_of_the_list_is_there() {
    for name in FUNCTIONS {
        let called = match *name {
            "has" => "has(value.a)".to_owned(),
            "all" | "exists" | "exists_one" | "filter" => format!("[1].{name}(x, true)"),
            "map" => "[1].map(x, x)".to_owned(),
            "join" => "['a'].join()".to_owned(),
            "contains" | "startsWith" | "endsWith" | "matches" | "indexOf" | "lastIndexOf" | "split" => {
                format!("'a'.{name}('a')")
            }
            "charAt" | "substring" => format!("'a'.{name}(0)"),
            "replace" => "'a'.replace('a', 'b')".to_owned(),
            "lowerAscii" | "upperAscii" | "trim" | "reverse" => format!("'a'.{name}()"),
            "size" | "bytes" => format!("{name}('a')"),
            "bool" => "bool('true')".to_owned(),
            _ => format!("{name}('1')"),
        };
        let result = Compiled::new(&expression(&called));
        let result = result.map(|c| {
            c.value(
                &Row {
                    value: Some(b"{}"),
                    ..Row::default()
                },
                None,
            )
        });
        assert!(matches!(result, Ok(Ok(_))), "{called}: {result:?}");
    }
}

proptest::proptest! {
    /// Any text is an expression or is refused; any value is evaluated or fails. Nothing panics.
    #[test]
    fn nothing_panics(
        pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..12),
        value in proptest::sample::select(VALUES),
    ) {
        if let Ok(compiled) = Compiled::new(&expression(&pieces.concat())) {
            let _ = compiled.json(&Row { key: Some(b"k"), value: Some(value.as_bytes()), ..Row::default() }, None);
        }
    }
}

const PIECES: &[&str] = &[
    "value",
    "key",
    ".a",
    "[0]",
    "[-1]",
    "['a']",
    "+",
    "-",
    "*",
    "/",
    "%",
    "(",
    ")",
    "1",
    "1.5",
    "'a'",
    "\"",
    "==",
    "<",
    "&&",
    "!",
    "?",
    ":",
    ".size()",
    ".substring(",
    ".charAt(",
    ",",
    "9223372036854775807",
    "{",
    "}",
    "[",
    "]",
    "has(",
    "int(",
    "double(",
    "string(",
    ".map(x, x)",
    ".exists(x, x",
    "1e400",
    "'é'",
    ".split('')",
    ".replace('', 'b')",
    "null",
    "-9223372036854775808",
    "timestamp",
    "headers",
];
const VALUES: &[&str] = &[
    "{}",
    "[]",
    "1",
    "-9223372036854775808",
    "\"é\"",
    "{\"a\": [1, {\"a\": null}]}",
    "1e308",
    "{",
];
