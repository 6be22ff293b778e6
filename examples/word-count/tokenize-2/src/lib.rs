//! Splits lines into lower-case words, and leaves out those that every text has: the next version of `tokenize`.

/// In the order of the alphabet.
const STOP_WORDS: [&str; 30] = [
    "a", "all", "an", "and", "as", "at", "be", "but", "by", "for", "from", "he", "his", "i", "in", "is", "it", "me", "not",
    "of", "on", "so", "that", "the", "this", "to", "was", "which", "with", "you",
];

fn words(line: &str) -> impl Iterator<Item = String> + '_ {
    line.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .filter(|word| STOP_WORDS.binary_search(&word.as_str()).is_err())
}

wasmill_guest::flat_map_values!(words);

#[test]
fn leaves_out_stop_words() {
    assert_eq!(words("Call me Ishmael. ").collect::<Vec<_>>(), ["call", "ishmael"]);
    assert_eq!(words("The White Whale, THE whale").collect::<Vec<_>>(), ["white", "whale", "whale"]);
    assert!(STOP_WORDS.is_sorted());
}
