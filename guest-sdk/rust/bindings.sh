#!/bin/bash
# Writes src/bindings.rs and src/application_bindings.rs from wit/. To be run after a change of the contract; the files
# are committed, so that building a guest needs no generator and no procedural macro.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bindgen() { cargo run --quiet --manifest-path "$here/../bindgen/Cargo.toml" -- "$here/../../wit" "$@"; }
bindgen granted-processor "$here/src/bindings.rs"
bindgen granted-application "$here/src/application_bindings.rs" crate::bindings
