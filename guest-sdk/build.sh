#!/bin/bash
# build.sh CRATE_DIR OUT_DIR: compiles a Rust guest to a core WebAssembly module and prints the module's path.
# `wasmill componentize` makes a component of it.
#
# WASMILL_GUEST_TOOLCHAIN chooses the standard library for wasm32-unknown-unknown:
#   rustup  the one of the rustup toolchain, added when it is not there
#   debian  Debian's rustc-web and rust-web-src: the standard library is compiled from source, once per target directory
#   auto    (default) an installed rustup target, else `rustup target add`, else Debian's
# CARGO_TARGET_DIR should be the same for all guests, so that the standard library and the SDK are compiled once.
set -euo pipefail
[ $# = 2 ] || { echo "usage: build.sh CRATE_DIR OUT_DIR" >&2; exit 2; }
crate=$(cd "$1" && pwd)
mkdir -p "$2"; out=$(cd "$2" && pwd)
target=wasm32-unknown-unknown
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/wasmill/guests}
cd "$crate"

have_rustup_target() {
  command -v rustup >/dev/null && rustup target list --installed 2>/dev/null | grep -qx "$target"
}
add_rustup_target() {
  command -v rustup >/dev/null && rustup target add "$target" >&2
}
have_debian() {
  [ -x /usr/bin/rustc ] && [ -f /usr/lib/rustlib/src/rust/library/Cargo.lock ]
}
install_debian() {
  echo "the Debian packages rustc-web and rust-web-src are missing" >&2
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get install -y --no-install-recommends rustc-web rust-web-src >&2
  else
    echo "hint: sudo apt-get install rustc-web rust-web-src" >&2
    return 1
  fi
}

toolchain=${WASMILL_GUEST_TOOLCHAIN:-auto}
case $toolchain in
  auto)
    if have_rustup_target; then toolchain=rustup
    elif have_debian && ! command -v rustup >/dev/null; then toolchain=debian
    elif add_rustup_target; then toolchain=rustup
    else toolchain=debian; fi ;;
  rustup | debian) ;;
  *) echo "WASMILL_GUEST_TOOLCHAIN is \`$toolchain\`; it must be rustup, debian or auto" >&2; exit 2 ;;
esac

locked=(); [ -f Cargo.lock ] && locked=(--locked)
if [ "$toolchain" = rustup ]; then
  have_rustup_target || add_rustup_target || { echo "hint: install rustup, or set WASMILL_GUEST_TOOLCHAIN=debian" >&2; exit 1; }
  cargo build --quiet --release "${locked[@]}" --target "$target" >&2
else
  have_debian || install_debian
  # The linker: the toolchain's own where cargo comes from rustup, else the one of the package lld.
  linker_dir=$(dirname "$(find "$(rustc --print sysroot)/lib/rustlib" -name rust-lld -type f 2>/dev/null | head -n 1)" 2>/dev/null || true)
  if [ -n "$linker_dir" ] && [ -x "$linker_dir/rust-lld" ]; then
    PATH=$linker_dir:$PATH
  else
    wasm_ld=$(compgen -c wasm-ld | sort -V | tail -n 1)
    [ -n "$wasm_ld" ] || { echo "no linker for WebAssembly. hint: sudo apt-get install lld" >&2; exit 1; }
    export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$wasm_ld
  fi
  # Building the standard library is unstable in cargo; RUSTC_BOOTSTRAP allows it with a stable compiler.
  RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 \
    cargo build --quiet --release "${locked[@]}" -Z build-std=std,panic_abort --target "$target" >&2
fi

name=$(cargo metadata --format-version 1 --no-deps --offline |
  grep -o '"kind":\["cdylib"[^}]*"name":"[^"]*"' | head -n 1 | sed 's/.*"name":"//; s/"$//; s/-/_/g')
cp "$CARGO_TARGET_DIR/$target/release/$name.wasm" "$out/$name.wasm"
echo "$out/$name.wasm"
