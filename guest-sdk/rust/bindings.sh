#!/bin/bash
# Writes src/bindings.rs from wit/. To be run after a change of the contract; the file is committed,
# so that building a guest needs no generator and no procedural macro.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cargo run --quiet --manifest-path "$here/../bindgen/Cargo.toml" -- "$here/../../wit" "$here/src/bindings.rs"
