//! Splits lines into lower-case words.

fn words(line: &str) -> impl Iterator<Item = String> + '_ {
    line.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

wasmill_guest::flat_map_values!(words);

#[test]
fn splits_at_whatever_is_no_letter_or_digit() {
    assert_eq!(
        words("Call me Ishmael. ").collect::<Vec<_>>(),
        ["call", "me", "ishmael"]
    );
    assert_eq!(words("--Ödipus's 2nd--").collect::<Vec<_>>(), ["ödipus", "s", "2nd"]);
    assert_eq!(words(" \t").count(), 0);
}
