//! From sources to a core module: a command of the author's (`wasmill.toml`), or cargo for a Rust crate.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "wasm32-unknown-unknown";
/// Where Debian's rust-web-src puts the sources of the standard library.
const DEBIAN_STD: &str = "/usr/lib/rustlib/src/rust/library";

/// `wasmill.toml`, beside the sources: how any toolchain makes the module.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recipe {
    build: Build,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Build {
    /// Program and arguments, run in the folder.
    command: Vec<String>,
    /// What it makes: a core module or a component, relative to the folder.
    output: PathBuf,
    name: Option<String>,
}

pub struct Built {
    pub name: String,
    pub core: PathBuf,
}

pub fn build(folder: &Path) -> Result<Built> {
    let recipe = folder.join("wasmill.toml");
    if recipe.exists() {
        let text = std::fs::read_to_string(&recipe)?;
        let recipe: Recipe = toml::from_str(&text).with_context(|| format!("failed to read `{}`", recipe.display()))?;
        return by_recipe(folder, recipe.build);
    }
    if folder.join("Cargo.toml").exists() {
        return by_cargo(folder);
    }
    bail!("`{}` has neither wasmill.toml nor Cargo.toml", folder.display())
}

/// What [`build`] would make in `folder`; `None` where it can make nothing.
pub fn name(folder: &Path) -> Option<String> {
    let recipe = folder.join("wasmill.toml");
    if !recipe.exists() {
        return crate_name(folder).ok();
    }
    let recipe: Recipe = toml::from_str(&std::fs::read_to_string(recipe).ok()?).ok()?;
    Some(name_of(&recipe.build))
}

fn name_of(build: &Build) -> String {
    let stem = build.output.file_stem().map(|s| s.to_string_lossy().into_owned());
    build.name.clone().or(stem).unwrap_or_else(|| "module".into())
}

fn by_recipe(folder: &Path, build: Build) -> Result<Built> {
    let (program, arguments) = build
        .command
        .split_first()
        .context("`build.command` of wasmill.toml is empty")?;
    let status = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .status()
        .with_context(|| format!("failed to start `{program}`"))?;
    if !status.success() {
        bail!("`{}` ended with {status}", build.command.join(" "));
    }
    Ok(Built {
        name: name_of(&build),
        core: folder.join(&build.output),
    })
}

/// Where the standard library for Wasm comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Toolchain {
    Rustup,
    Debian,
}

fn by_cargo(folder: &Path) -> Result<Built> {
    let name = crate_name(folder)?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || {
            folder
                .canonicalize()
                .unwrap_or_else(|_| folder.to_owned())
                .join("target")
        },
        PathBuf::from,
    );
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--release", "--target", TARGET])
        .current_dir(folder);
    if choose()? == Toolchain::Debian {
        // Debian's compiler with its own sources of the standard library; rustup's linker comes with rustup's compiler.
        let sysroot = output("rustc", &["--print", "sysroot"]).unwrap_or_default();
        let linker = format!("{sysroot}/lib/rustlib/x86_64-unknown-linux-gnu/bin");
        let path = std::env::var("PATH").unwrap_or_default();
        cargo
            .env("PATH", format!("{linker}:{path}"))
            .env("RUSTC", "/usr/bin/rustc")
            .env("RUSTC_BOOTSTRAP", "1")
            .args(["-Z", "build-std=std,panic_abort"]);
    }
    let status = cargo
        .status()
        .context("failed to start `cargo`; for Rust see https://rustup.rs")?;
    if !status.success() {
        bail!("`cargo build` ended with {status}");
    }
    let core = target
        .join(TARGET)
        .join("release")
        .join(format!("{}.wasm", name.replace('-', "_")));
    Ok(Built { name, core })
}

/// `WASMILL_GUEST_TOOLCHAIN` = rustup, debian or auto: an installed target of rustup, else one that rustup can add, else
/// Debian's.
fn choose() -> Result<Toolchain> {
    let has_target = || {
        output("rustup", &["target", "list", "--installed"]).is_some_and(|list| list.lines().any(|line| line == TARGET))
    };
    let debian = || Path::new(DEBIAN_STD).exists() && output("/usr/bin/rustc", &["-V"]).is_some();
    let add = || {
        Command::new("rustup")
            .args(["target", "add", TARGET])
            .status()
            .is_ok_and(|status| status.success())
    };
    match std::env::var("WASMILL_GUEST_TOOLCHAIN").as_deref().unwrap_or("auto") {
        "rustup" if has_target() || add() => Ok(Toolchain::Rustup),
        "rustup" => bail!("rustup has no target {TARGET} and cannot add it"),
        "debian" if debian() => Ok(Toolchain::Debian),
        "debian" => bail!("no Wasm standard library of Debian's; hint: apt-get install rustc-web rust-web-src"),
        "auto" if has_target() || add() => Ok(Toolchain::Rustup),
        "auto" if debian() => Ok(Toolchain::Debian),
        "auto" => bail!(
            "no Wasm standard library; hint: rustup target add {TARGET}, or on Debian apt-get install rustc-web rust-web-src"
        ),
        other => bail!("WASMILL_GUEST_TOOLCHAIN is `{other}`; it may be rustup, debian or auto"),
    }
}

fn crate_name(folder: &Path) -> Result<String> {
    let path = folder.join("Cargo.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
    let table: toml::Table = text
        .parse()
        .with_context(|| format!("failed to read `{}`", path.display()))?;
    let name = table
        .get("package")
        .and_then(|package| package.get("name"))
        .and_then(toml::Value::as_str);
    Ok(name
        .with_context(|| format!("`{}` has no package.name", path.display()))?
        .to_owned())
}

/// What a program prints, when it is there and succeeds.
pub fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(args)
        .output()
        .ok()
        .filter(|o| o.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
