//! The topology of tests/cases/engine/application-twin with closures in place of expressions and of native aggregates.
//! Some closures panic at a word, which is in none of its lines.
use wasmill_guest::dsl::*;

fn split(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn length(word: &str) -> i64 {
    word.chars().count() as i64
}

struct Twin;

impl Application for Twin {
    fn build(b: &mut Builder) {
        let lines = b.stream::<String, String>("lines");
        let words = lines
            .flat_map_values(|line| split(&line))
            .named("split")
            .filter(|word| length(word) > 1)
            .named("words");
        words
            .group_by(|word| word.clone())
            .count()
            .named("counts")
            .emit(Emit::OnCommit)
            .to("counts");
        words
            .map(|_, word| (word.clone(), length(&word)))
            .named("lengths")
            .group_by_key()
            .aggregate(
                || 0_i64,
                |total, length| {
                    assert!(length != 10, "a word of ten letters");
                    total + length
                },
            )
            .named("totals")
            .to("totals");
        let by_length = words.select_key(|word| length(word).to_string()).named("by-length");
        by_length
            .group_by_key()
            .reduce(String::max)
            .named("greatest")
            .to_stream()
            .to("greatest");
        let upper = |word: String| {
            assert!(word != "boom", "met a boom");
            word.to_uppercase()
        };
        by_length.map_values(upper).named("upper").to("upper");
        lines
            .flat_map(|key, line| split(&line).into_iter().map(move |word| (word, key.clone())))
            .named("pairs")
            .to("pairs");
    }
}

wasmill_guest::application!(Twin);
