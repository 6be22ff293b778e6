//! Is it a component, is it for this host, and does it ask only for what there is?

use topology::description::World;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::error::Error;

/// The contract that this host serves.
pub(crate) const VERSION: &str = "wasmill:streams@0.1.0";

const MODULE: &str = "wasmill:streams/module";
const PROCESSING: &str = "wasmill:streams/processing";
const TOPOLOGY: &str = "wasmill:streams/topology";
const FUNCTIONS: &str = "wasmill:streams/functions";
const SERVED: &str = "0.1.0";

/// Everything that a guest may import. The first three are only types; the last four are there for all and do nothing
/// without a grant, because Python and JavaScript guests import the whole of their world.
const OFFERED: [&str; 10] = [
    "wasmill:data/columns@0.1.0",
    "wasmill:streams/description@0.1.0",
    "wasmill:streams/answers@0.1.0",
    "wasmill:log/log@0.1.0",
    "wasmill:timers/timers@0.1.0",
    "wasmill:state/key-value@0.1.0",
    "wasmill:http/client@0.1.0",
    "wasmill:env/env@0.1.0",
    "wasmill:clock/clock@0.1.0",
    "wasmill:random/random@0.1.0",
];

const BUILD: &str = "build it with `wasmill build`, or make a component of a core module with `wasmill componentize`";

/// Told from the first eight bytes, before anything is compiled.
pub(crate) fn check_form(bytes: &[u8]) -> Result<(), Error> {
    let found = match (bytes.get(..4), bytes.get(4..8)) {
        (Some(b"\0asm"), Some([_, _, 1, 0])) => return Ok(()),
        (Some(b"\0asm"), Some([1, 0, 0, 0])) => "a core WebAssembly module",
        (Some(b"\0asm"), _) => "a WebAssembly file of an unknown kind",
        (Some(b"\x7fELF"), _) => "a native program or library (ELF)",
        (Some(b"PK\x03\x04"), _) => "a zip archive",
        _ if bytes.is_empty() => "an empty file",
        _ if bytes.trim_ascii_start().starts_with(b"(") => "WebAssembly text",
        _ => "no WebAssembly at all",
    };
    Err(Error::NotAComponent {
        found: found.into(),
        hint: BUILD,
    })
}

/// Versions stand only in the names of exported interfaces, and worlds are told apart by which they are.
pub(crate) fn world(engine: &Engine, component: &Component) -> Result<World, Error> {
    let ty = component.component_type();
    let names: Vec<&str> = ty.exports(engine).map(|(name, _)| name).collect();
    world_of(&names)
}

fn world_of(names: &[&str]) -> Result<World, Error> {
    let exports = |wanted: &str| names.iter().any(|name| name.split('@').next() == Some(wanted));
    let (world, wanted): (World, &[&str]) = match exports(TOPOLOGY) && !exports(PROCESSING) {
        true => (World::Application, &[MODULE, TOPOLOGY, FUNCTIONS]),
        false => (World::Processor, &[MODULE, PROCESSING]),
    };
    for wanted in wanted.iter().copied() {
        let versions: Vec<&str> = names
            .iter()
            .filter_map(|n| n.strip_prefix(wanted).and_then(|rest| rest.strip_prefix('@')))
            .collect();
        if versions.contains(&SERVED) {
            continue;
        }
        return Err(Error::Contract(match versions.first() {
            Some(version) => format!(
                "it was built for the contract wasmill:streams@{version}, and this host serves {VERSION}\n\
                 hint: build it again with this `wasmill`, or run a node that serves {version}"
            ),
            None if wanted == MODULE => format!(
                "a component that is no module of ours: it does not export `{MODULE}@{SERVED}`, but {}\nhint: {BUILD}",
                list(names)
            ),
            None => format!(
                "its world is not served here: it does not export `{wanted}@{SERVED}`, but {}",
                list(names)
            ),
        }));
    }
    Ok(world)
}

/// Default deny: what is not offered is refused by name before the module is instantiated.
pub(crate) fn check_imports(engine: &Engine, component: &Component) -> Result<(), Error> {
    let ty = component.component_type();
    let names: Vec<&str> = ty.imports(engine).map(|(name, _)| name).collect();
    check_import_names(&names)
}

fn check_import_names(names: &[&str]) -> Result<(), Error> {
    let strange: Vec<&str> = names.iter().copied().filter(|n| !OFFERED.contains(n)).collect();
    if strange.is_empty() {
        return Ok(());
    }
    let hint = if strange.iter().any(|n| n.starts_with("wasi:")) {
        "no module gets WASI: build it without (Rust: wasm32-unknown-unknown; Python: `--stub-wasi`; \
         JavaScript: all features disabled; C and Go: the stub adapter of `wasmill componentize`)"
    } else {
        "`wasmill bindgen` writes a world with what this host offers"
    };
    Err(Error::Import(format!(
        "it imports {}, which this host does not offer\nhint: {hint}",
        list(&strange)
    )))
}

fn list(names: &[&str]) -> String {
    const SHOWN: usize = 6;
    if names.is_empty() {
        return "nothing".into();
    }
    let mut text = names
        .iter()
        .take(SHOWN)
        .map(|n| format!("`{n}`"))
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn says_what_the_bytes_are() {
        let cases: [(&[u8], &str); 5] = [
            (b"\0asm\x01\0\0\0", "a core WebAssembly module"),
            (b"", "an empty file"),
            (b"(module)", "WebAssembly text"),
            (b"\x7fELF\x02\x01\x01\0", "a native program"),
            (b"hello, world", "no WebAssembly at all"),
        ];
        for (bytes, found) in cases {
            let message = check_form(bytes).unwrap_err().to_string();
            assert!(
                message.starts_with(found) && message.contains("wasmill build"),
                "{message}"
            );
        }
        assert!(check_form(b"\0asm\x0d\0\x01\0").is_ok());
    }

    #[test]
    fn names_both_versions() {
        let message = world_of(&["wasmill:streams/module@0.2.0"]).unwrap_err().to_string();
        assert!(
            message.contains("wasmill:streams@0.2.0") && message.contains("wasmill:streams@0.1.0"),
            "{message}"
        );
        let message = world_of(&["wasi:cli/run@0.2.0"]).unwrap_err().to_string();
        assert!(message.contains("`wasi:cli/run@0.2.0`"), "{message}");
    }

    #[test]
    fn tells_worlds_apart_by_their_exports() {
        let (module, functions) = ("wasmill:streams/module@0.1.0", "wasmill:streams/functions@0.1.0");
        let topology = "wasmill:streams/topology@0.1.0";
        let processor = [module, "wasmill:streams/processing@0.1.0"];
        assert_eq!(world_of(&processor).unwrap(), World::Processor);
        assert_eq!(world_of(&[module, topology, functions]).unwrap(), World::Application);
        let message = world_of(&[module, topology]).unwrap_err().to_string();
        assert!(
            message.contains("does not export `wasmill:streams/functions@0.1.0`"),
            "{message}"
        );
    }

    #[test]
    fn refuses_imports_by_name() {
        let message = check_import_names(&["wasmill:log/log@0.1.0", "wasi:clocks/wall-clock@0.2.0"])
            .unwrap_err()
            .to_string();
        assert!(message.contains("`wasi:clocks/wall-clock@0.2.0`") && message.contains("no module gets WASI"));
        assert!(!message.contains("wasmill:log"));
        assert!(check_import_names(&OFFERED).is_ok());
    }
}
