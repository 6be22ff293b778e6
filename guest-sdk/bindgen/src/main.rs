//! Writes the Rust bindings of the world `granted-processor`: all that a module may want. A component imports of it what
//! its code calls.
//!
//! `wasmill-guest-bindgen WIT_DIR OUT.rs`. Called by `guest-sdk/rust/bindings.sh`, which also formats nothing:
//! the file is the generator's own output and is never edited.
use anyhow::{Context, Result, bail};
use wit_bindgen_core::{Files, WorldGenerator};
use wit_parser::Resolve;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [wit, out] = arguments.as_slice() else {
        bail!("usage: wasmill-guest-bindgen WIT_DIR OUT.rs")
    };
    let mut resolve = Resolve::default();
    let (package, _) = resolve
        .push_path(wit)
        .with_context(|| format!("failed to read the contract in `{wit}`"))?;
    let world = resolve.select_world(&[package], Some("granted-processor"))?;
    let options = wit_bindgen_rust::Opts {
        generate_all: true,
        pub_export_macro: true,
        ..Default::default()
    };
    let mut files = Files::default();
    options.build().generate(&mut resolve, world, &mut files)?;
    let mut written = 0;
    for (_, text) in files.iter() {
        std::fs::write(out, text).with_context(|| format!("failed to write `{out}`"))?;
        written += 1;
    }
    if written != 1 {
        bail!("the generator wrote {written} files instead of one");
    }
    Ok(())
}
