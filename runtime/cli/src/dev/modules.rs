//! The modules that a pipeline file names, and the sources that make them.

use crate::toolchain;
use anyhow::{Context, Result};
use pipeline::ModuleRef;
use std::path::{Path, PathBuf};

/// A module of the file.
#[derive(Debug, PartialEq)]
pub struct Wanted {
    /// As it stands in the file.
    pub named: String,
    pub from: From,
}

#[derive(Debug, PartialEq)]
pub enum From {
    /// A folder that `wasmill build` can build, and where the component goes.
    Sources { folder: PathBuf, output: PathBuf },
    /// A component that something else makes.
    Component(PathBuf),
    /// Only the node's registry can have it.
    Registry,
}

/// What the file in `dir` names: built from `dir` itself or a folder in it, when that makes a module of this name.
pub fn wanted(dir: &Path, text: &str, vars: &pipeline::Vars) -> Vec<Wanted> {
    let sources = sources(dir);
    let folder_of = |name: &str| {
        let same = |known: &str| known.replace('-', "_") == name.replace('-', "_");
        sources
            .iter()
            .find(|(known, _)| same(known))
            .map(|(_, folder)| folder.clone())
    };
    let wanted = |module: ModuleRef| {
        let named = module.to_string();
        let from = match &module {
            ModuleRef::File(path) => {
                let output = dir.join(path.trim_start_matches("./"));
                let stem = output.file_stem().map(|s| s.to_string_lossy().into_owned());
                match stem.and_then(|stem| folder_of(&stem)) {
                    Some(folder) => From::Sources { folder, output },
                    None => From::Component(output),
                }
            }
            ModuleRef::Registered { name, .. } => match folder_of(name) {
                Some(folder) => {
                    let output = folder.join(format!("{name}.wasm"));
                    From::Sources { folder, output }
                }
                None => From::Registry,
            },
        };
        Wanted { named, from }
    };
    pipeline::modules(text, vars).into_iter().map(wanted).collect()
}

/// Names and folders of what can be built.
fn sources(dir: &Path) -> Vec<(String, PathBuf)> {
    let mut folders = vec![dir.to_owned()];
    folders.extend(crate::cases::folders(dir).unwrap_or_default());
    let named = |folder: PathBuf| Some((toolchain::name(&folder)?, folder));
    folders.into_iter().filter_map(named).collect()
}

/// Builds a component into `output`. The compiler talks to stderr.
pub fn build(folder: &Path, output: &Path) -> Result<Vec<u8>> {
    let built = toolchain::build(folder)?;
    crate::commands::write_component(&built.core, output)?;
    read(output)
}

pub fn read(component: &Path) -> Result<Vec<u8>> {
    std::fs::read(component).with_context(|| format!("failed to read the module `{}`", component.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    #[test]
    fn modules_are_built_from_folders_of_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let crate_in = |folder: &str, name: &str| {
            let folder = dir.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("Cargo.toml"), format!("[package]\nname = \"{name}\"\n")).unwrap();
            folder
        };
        let tokenize = crate_in("tokenize", "tokenize");
        let own = crate_in("", "rank-it");
        let text = "[steps.a]\nmodule = \"tokenize@1.0.0\"\n[steps.b]\nmodule = \"./out/rank_it.wasm\"\n\
                    [steps.c]\nmodule = \"./other.wasm\"\n[steps.d]\nmodule = \"far@2\"\n";
        let path = |name: &str| dir.path().join(name);
        let expected = [
            (
                "tokenize@1.0.0",
                From::Sources {
                    output: tokenize.join("tokenize.wasm"),
                    folder: tokenize,
                },
            ),
            (
                "./out/rank_it.wasm",
                From::Sources {
                    folder: own,
                    output: path("out/rank_it.wasm"),
                },
            ),
            ("./other.wasm", From::Component(path("other.wasm"))),
            ("far@2", From::Registry),
        ];
        let found = wanted(dir.path(), text, &pipeline::Vars::default());
        let found: Vec<(&str, &From)> = found.iter().map(|w| (w.named.as_str(), &w.from)).collect();
        let expected: Vec<(&str, &From)> = expected.iter().map(|(named, from)| (*named, from)).collect();
        assert_eq!(found, expected);
    }
}
