//! `new`, `build`, `componentize`, `test`: what a guest author does before any node.

use crate::args::{BuildArgs, ComponentizeArgs, Global, NewArgs, TestArgs};
use crate::show;
use crate::toolchain;
use anyhow::{Context, Result, bail};
use std::path::Path;
use wit_component::ComponentEncoder;

/// Files of a new Rust project; `{name}`, `{ident}` and `{sdk}` are put in.
const TEMPLATE: [(&str, &str); 6] = [
    ("Cargo.toml", include_str!("../../templates/rust/Cargo.toml.in")),
    ("src/lib.rs", include_str!("../../templates/rust/lib.rs.in")),
    ("pipeline.toml", include_str!("../../templates/rust/pipeline.toml.in")),
    (
        "cases/words/input.jsonl",
        include_str!("../../templates/rust/input.jsonl.in"),
    ),
    (
        "cases/words/expected.jsonl",
        include_str!("../../templates/rust/expected.jsonl.in"),
    ),
    (".gitignore", "/target\n*.wasm\n"),
];

pub fn new(args: &NewArgs) -> Result<()> {
    let name = &args.name;
    let valid = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && name.len() <= 64;
    if !valid {
        bail!("`{name}` is no name: a lower-case letter, then letters, digits and `-`, at most 64");
    }
    let folder = Path::new(name);
    if folder.exists() {
        bail!("`{name}` is there already");
    }
    let sdk = match &args.sdk {
        Some(path) => {
            let path = path
                .canonicalize()
                .with_context(|| format!("no SDK in `{}`", path.display()))?;
            format!("{{ path = \"{}\" }}", path.display())
        }
        None => format!("\"{}\"", env!("CARGO_PKG_VERSION")),
    };
    for (file, text) in TEMPLATE {
        let path = folder.join(file);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).with_context(|| format!("failed to create `{}`", parent.display()))?;
        let text = text
            .replace("{name}", name)
            .replace("{ident}", &name.replace('-', "_"))
            .replace("{sdk}", &sdk);
        std::fs::write(&path, text).with_context(|| format!("failed to write `{}`", path.display()))?;
    }
    show::say(&format!(
        "made {name}/; next: cd {name} && wasmill build && wasmill test"
    ));
    Ok(())
}

pub fn build(args: &BuildArgs) -> Result<()> {
    let started = std::time::Instant::now();
    let built = toolchain::build(&args.dir)?;
    let output = args
        .output
        .clone()
        .unwrap_or_else(|| args.dir.join(format!("{}.wasm", built.name)));
    write_component(&built.core, &output)?;
    let bytes = std::fs::metadata(&output)?.len();
    let took = show::duration(started.elapsed().as_millis() as u64);
    show::say(&format!("{} ({}) in {took}", output.display(), show::size(bytes)));
    Ok(())
}

pub fn componentize(args: &ComponentizeArgs) -> Result<()> {
    write_component(&args.core, &args.output)
}

/// Wraps a core module, whose bindings left their description of the world in it, into a component.
pub fn write_component(core: &Path, output: &Path) -> Result<()> {
    let bytes = std::fs::read(core).with_context(|| format!("failed to read `{}`", core.display()))?;
    if wasmparser::Parser::is_component(&bytes) {
        std::fs::write(output, &bytes).with_context(|| format!("failed to write `{}`", output.display()))?;
        return Ok(());
    }
    let component = ComponentEncoder::default()
        .module(&bytes)
        .and_then(|encoder| encoder.validate(true).encode())
        .with_context(|| {
            format!(
                "failed to make a component of `{}`; it must be a core module built with a Wasmill SDK \
                 (bindings of world `wasmill:streams/processor`)",
                core.display()
            )
        })?;
    if let Some(folder) = output.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("failed to create `{}`", folder.display()))?;
    }
    std::fs::write(output, component).with_context(|| format!("failed to write `{}`", output.display()))
}

pub fn test(global: &Global, args: &TestArgs) -> Result<()> {
    crate::cases::run(global, args)
}
