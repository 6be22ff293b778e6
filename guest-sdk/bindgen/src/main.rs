//! Writes the Rust bindings of a world with all that a module may want. A component imports of it what its code calls.
//!
//! `wasmill-guest-bindgen WIT_DIR WORLD OUT.rs [BINDINGS]`, where BINDINGS is the Rust path of bindings that have what
//! the world imports already. Called by `guest-sdk/rust/bindings.sh`, which also formats nothing:
//! the file is the generator's own output and is never edited.
use anyhow::{Context, Result, bail};
use wit_bindgen_core::{Files, WorldGenerator};
use wit_bindgen_rust::WithOption;
use wit_parser::{Resolve, WorldId, WorldItem};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (wit, world, out, there) = match arguments.as_slice() {
        [wit, world, out] => (wit, world, out, None),
        [wit, world, out, there] => (wit, world, out, Some(there)),
        _ => bail!("usage: wasmill-guest-bindgen WIT_DIR WORLD OUT.rs [BINDINGS]"),
    };
    let mut resolve = Resolve::default();
    let (package, _) = resolve
        .push_path(wit)
        .with_context(|| format!("failed to read the contract in `{wit}`"))?;
    let world = resolve.select_world(&[package], Some(world))?;
    let options = wit_bindgen_rust::Opts {
        generate_all: true,
        pub_export_macro: true,
        with: there.map_or_else(Vec::new, |there| imports(&resolve, world, there)),
        ..Default::default()
    };
    let mut files = Files::default();
    options.build().generate(&mut resolve, world, &mut files)?;
    let mut written = 0;
    for (_, text) in files.iter() {
        let mut text = String::from_utf8(text.to_vec())?;
        if there.is_some() {
            // Exported macros share one name space in a crate, and both worlds export `module`.
            text = text.replace("__export_wasmill_", "__export_application_wasmill_");
        }
        std::fs::write(out, text).with_context(|| format!("failed to write `{out}`"))?;
        written += 1;
    }
    if written != 1 {
        bail!("the generator wrote {written} files instead of one");
    }
    Ok(())
}

/// Every interface that the world imports, with its module below `there`.
fn imports(resolve: &Resolve, world: WorldId, there: &str) -> Vec<(String, WithOption)> {
    let imports = resolve.worlds[world].imports.iter();
    let interfaces = imports.filter(|(_, item)| matches!(item, WorldItem::Interface { .. }));
    interfaces
        .map(|(key, _)| {
            let name = resolve.name_world_key(key);
            let path = name.split('@').next().unwrap_or(&name);
            let path = path.replace([':', '/'], "::").replace('-', "_");
            (name.clone(), WithOption::Path(format!("{there}::{path}")))
        })
        .collect()
}
