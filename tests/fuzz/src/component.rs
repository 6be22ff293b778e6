//! The bytes of a component: a whole one whose description, or anything else of it, is the fuzzer's.
//!
//! The first bytes say where to write; the rest is written over a good component there. It is then loaded, which
//! compiles it and calls `describe`; a module that passes is checked like one that is registered, and must open.

use std::sync::LazyLock;

use sandbox::{InstanceOptions, Sandbox, SandboxOptions};
use task::processor::Context;

use crate::guest::Guest;

/// The puppet's own words, where its description lies.
const NAME: &[u8] = b"tiny1.0.0a test";
/// The record of the description stands before its words.
const RECORD_BYTES: usize = 72;

static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    Guest {
        stores: &["seen"],
        ..Guest::default()
    }
    .build()
});
static SANDBOX: LazyLock<Sandbox> = LazyLock::new(|| Sandbox::new(SandboxOptions::default()).unwrap());

pub fn run(bytes: &[u8]) {
    let Some(([mode, low, high], written)) = bytes.split_first_chunk::<3>() else {
        return;
    };
    let place = usize::from(u16::from_le_bytes([*low, *high]));
    let mut component = GOOD.clone();
    let at = match mode % 4 {
        // Its header and sections.
        0 => place % component.len(),
        _ => {
            let name = component.windows(NAME.len()).position(|window| window == NAME).unwrap();
            name - RECORD_BYTES + place % (4 * RECORD_BYTES)
        }
    };
    let end = (at + written.len()).min(component.len());
    component[at..end].copy_from_slice(&written[..end - at]);
    match SANDBOX.load(&component) {
        Ok(module) => {
            let _ = pipeline::check_description(module.description());
            // It may want what nobody has granted.
            match module.instance(InstanceOptions::default()) {
                Ok(mut processor) => drop(processor.open(&mut Context::default())),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
