//! Keeps the records whose value starts with an even byte; empty and null values are left out.
//!
//! The least that a module can do: it shows what the way through the sandbox costs.

fn even(value: &[u8]) -> bool {
    value.first().is_some_and(|byte| byte % 2 == 0)
}

wasmill_guest::filter!(even);

#[test]
fn looks_at_the_first_byte_only() {
    assert!(even(b"b1"));
    assert!(!even(b"a2"));
    assert!(!even(b""));
}
