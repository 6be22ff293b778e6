//! Every folder of `tests/cases/pipeline`: a file with mistakes and the diagnostics that it gets.
//!
//! `modules.json` in a folder holds descriptions of modules. With `WASMILL_BLESS=1` the diagnostics are written instead
//! of compared; read what changed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;

use pipeline::{ModuleRef, Undescribed, Vars};
use topology::description::ModuleDescription;

fn describe(modules: &[ModuleDescription], reference: &ModuleRef) -> Result<ModuleDescription, Undescribed> {
    let known: Vec<String> = modules
        .iter()
        .map(|module| format!("{}@{}", module.name, module.version))
        .collect();
    match reference {
        ModuleRef::Registered { name, version } => modules
            .iter()
            .find(|module| module.name == *name && module.version == *version)
            .cloned()
            .ok_or(Undescribed {
                message: "it is not registered".into(),
                hint: None,
                known,
            }),
        ModuleRef::File(_) => Err(Undescribed {
            message: "there is no such file".into(),
            hint: None,
            known: Vec::new(),
        }),
    }
}

fn rendered(folder: &Path) -> String {
    let text = fs::read_to_string(folder.join("pipeline.toml")).unwrap();
    let modules: Vec<ModuleDescription> = match fs::read_to_string(folder.join("modules.json")) {
        Ok(json) => serde_json::from_str(&json).unwrap(),
        Err(_) => Vec::new(),
    };
    match pipeline::parse(&text, "pipeline.toml", &Vars::default(), &|reference| {
        describe(&modules, reference)
    }) {
        Ok(_) => panic!("`{}` parses", folder.display()),
        Err(diagnostics) => diagnostics.render(false),
    }
}

#[test]
fn mistakes_are_shown_where_they_are() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/pipeline");
    let mut folders: Vec<_> = fs::read_dir(&cases)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    folders.sort();
    assert!(!folders.is_empty(), "no cases in `{}`", cases.display());
    let bless = std::env::var_os("WASMILL_BLESS").is_some();
    let mut wrong = Vec::new();
    for folder in folders {
        let found = rendered(&folder);
        let file = folder.join("error.txt");
        if bless {
            fs::write(&file, &found).unwrap();
        } else if fs::read_to_string(&file).unwrap_or_default() != found {
            wrong.push(format!("{}:\n{found}", folder.display()));
        }
    }
    assert!(wrong.is_empty(), "{} cases differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn later_issues_are_not_mistaken_for_unknown_words() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/pipeline");
    for sketch in ["fraud-sketch", "flights-sketch"] {
        let text = rendered(&cases.join(sketch));
        let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error[")).collect();
        assert!(
            errors.iter().all(|line| line.starts_with("error[not-supported-yet]")),
            "{text}"
        );
    }
}
