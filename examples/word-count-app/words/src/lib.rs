//! Counts words, and says of each first letter how many words there were and which was the longest.
use wasmill_guest::dsl::*;
use wasmill_guest::prelude::*;

fn words(line: String) -> Vec<String> {
    line.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// What is kept of the words that begin with a letter.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Letter {
    words: u64,
    longest: String,
}

impl Letter {
    fn with(self, word: String) -> Self {
        Letter {
            words: self.words + 1,
            longest: if word.len() > self.longest.len() {
                word
            } else {
                self.longest
            },
        }
    }
}

struct Words;

impl Application for Words {
    fn build(b: &mut Builder) {
        let words = b.stream::<(), String>("lines").flat_map_values(words).named("words");
        words
            .group_by(|word| word.clone())
            .count()
            .named("counts")
            .emit(Emit::OnCommit)
            .to("counts");
        words
            .group_by(|word| word.chars().take(1).collect::<String>())
            .aggregate(|| Json(Letter::default()), |Json(letter), word| Json(letter.with(word)))
            .named("letters")
            .to("letters");
    }
}

wasmill_guest::application!(Words);

#[test]
fn splits_at_whatever_is_no_letter_or_digit() {
    assert_eq!(words("Call me Ishmael. ".to_owned()), ["call", "me", "ishmael"]);
    assert!(words(" \t".to_owned()).is_empty());
}

#[test]
fn keeps_the_first_of_the_longest() {
    let letter = Letter::default().with("ab".to_owned()).with("ac".to_owned());
    let longest = "ab".to_owned();
    assert_eq!(letter, Letter { words: 2, longest });
}
