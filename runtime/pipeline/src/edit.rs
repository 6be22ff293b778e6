//! Another module in a step of a file, everything else as the author wrote it.

use std::collections::BTreeMap;

use crate::tree::{self, Kind, Span};

/// Puts `modules` (step to what `module = …` is to say) into the text of a file. Comments, spaces and order stay.
///
/// # Errors
/// A sentence for each step that the file does not have, or that has no module; and for a text that is no TOML.
pub fn with_modules(text: &str, modules: &BTreeMap<String, String>) -> Result<String, Vec<String>> {
    let mut syntax = Vec::new();
    let root = tree::read(text, &mut syntax);
    if !syntax.is_empty() {
        return Err(vec!["the file is no TOML".to_string()]);
    }
    let steps = match root.get("steps").map(|steps| &steps.kind) {
        Some(Kind::Table(steps)) => steps,
        _ => return Err(vec!["the file has no steps".to_string()]),
    };
    let (mut edits, mut problems): (Vec<(Span, &String)>, Vec<String>) = (Vec::new(), Vec::new());
    for (step, module) in modules {
        let Some(Kind::Table(found)) = steps.get(step).map(|step| &step.kind) else {
            let names: Vec<&str> = steps.entries.iter().map(|entry| entry.key.as_str()).collect();
            problems.push(format!("there is no step `{step}`; there are: {}", names.join(", ")));
            continue;
        };
        match found.get("module").map(|value| (&value.kind, &value.span)) {
            Some((Kind::Text(_), span)) => edits.push((span.clone(), module)),
            _ => problems.push(format!("step `{step}` has no module")),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    // From the end, so that the places before stay right.
    edits.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    let mut edited = text.to_string();
    for (span, module) in edits {
        edited.replace_range(span, &toml::Value::String(module.clone()).to_string());
    }
    Ok(edited)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FILE: &str = "[steps.words]   # splits\nfrom = \"lines\"\nmodule = \"tokenize@1\"      # as registered\n\n\
        [steps.other]\nmodule = './x.wasm'\n\n[steps.counts]\nop = \"count\"\n";

    fn edited(changes: &[(&str, &str)]) -> Result<String, Vec<String>> {
        let changes = changes
            .iter()
            .map(|(step, module)| (step.to_string(), module.to_string()));
        with_modules(FILE, &changes.collect())
    }

    #[test]
    fn only_the_modules_change() {
        let text = edited(&[("words", "tokenize@2.0.0"), ("other", "x@\"1\"")]).unwrap();
        let expected = FILE
            .replace("\"tokenize@1\"", "\"tokenize@2.0.0\"")
            .replace("'./x.wasm'", "'x@\"1\"'");
        assert_eq!(text, expected);
        assert_eq!(edited(&[]).unwrap(), FILE);
    }

    #[test]
    fn every_step_that_does_not_fit_is_named() {
        let problems = edited(&[("word", "a@1"), ("counts", "a@1"), ("words", "a@1")]).unwrap_err();
        assert_eq!(
            problems,
            [
                "step `counts` has no module",
                "there is no step `word`; there are: words, other, counts"
            ]
        );
    }
}
