# Sourced by examples/quickstart.sh and tests/run.sh: system packages, compilers, cargo's target directory.
# It installs what is missing with apt where it may, and names it where it may not.
# Settings, all optional:
#   WASMILL_TARGET            cargo's target directory; default: a cache directory of the user's
#   WASMILL_GUEST_TOOLCHAIN   rustup | debian | auto: where the Wasm target of guests comes from

wasmill_root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export CARGO_TARGET_DIR=${WASMILL_TARGET:-${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/wasmill/target}}

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# install PACKAGE...: with apt, as root or through sudo without a question.
install() {
  local run=()
  if [[ $(id -u) != 0 ]]; then
    sudo -n true 2>/dev/null || die "missing packages; please run: sudo apt-get install $*"
    run=(sudo)
  fi
  command -v apt-get >/dev/null || die "missing packages; please install what your system calls: $*"
  say "installing: $*"
  if [[ -z ${wasmill_updated:-} ]]; then "${run[@]}" apt-get update -qq >&2; wasmill_updated=1; fi
  DEBIAN_FRONTEND=noninteractive "${run[@]}" apt-get install -y -qq --no-install-recommends "$@" >&2
}

command -v cargo >/dev/null || die "no Rust: see https://rustup.rs"

missing=()
command -v make >/dev/null && command -v cc >/dev/null && command -v c++ >/dev/null || missing+=(build-essential)
command -v pkg-config >/dev/null || missing+=(pkg-config)
[[ -e /usr/include/zlib.h ]] || missing+=(zlib1g-dev)
[[ -d /usr/include/openssl ]] || missing+=(libssl-dev)
# The newest clang from 16 on: RocksDB compiles twice as fast with it as with gcc. libclang reads C headers for Rust.
newest_clang() { ls -d /usr/lib/llvm-*/lib 2>/dev/null | sed 's/[^0-9]//g' | sort -n | awk '$1 >= 16' | tail -1; }
if [[ -z $(newest_clang) ]]; then missing+=(clang-19 libclang-19-dev); fi
if ((${#missing[@]})); then
  install "${missing[@]}" || {
    [[ " ${missing[*]} " == *" clang-19 "* ]] || die "could not install ${missing[*]}"
    install clang libclang-dev build-essential pkg-config zlib1g-dev libssl-dev || die "could not install clang"
  }
fi
# The Wasm target of guests, where `wasmill build` looks for it: rustup's, else Debian's sources of the standard library.
debian_std() { [[ -f /usr/lib/rustlib/src/rust/library/Cargo.lock && -x /usr/bin/rustc ]]; }
rustup_std() { rustup target list --installed 2>/dev/null | grep -qx wasm32-unknown-unknown; }
case ${WASMILL_GUEST_TOOLCHAIN:-auto} in
  rustup) rustup_std || rustup target add wasm32-unknown-unknown || die "rustup cannot add wasm32-unknown-unknown" ;;
  debian) debian_std || install rustc-web rust-web-src ;;
  auto) rustup_std || rustup target add wasm32-unknown-unknown 2>/dev/null || debian_std || install rustc-web rust-web-src ;;
  *) die "WASMILL_GUEST_TOOLCHAIN is \`$WASMILL_GUEST_TOOLCHAIN\`; it may be rustup, debian or auto" ;;
esac
clang=$(newest_clang)
if [[ -n $clang && -x /usr/bin/clang++-$clang ]]; then
  export CC=${CC:-clang-$clang} CXX=${CXX:-clang++-$clang} LIBCLANG_PATH=${LIBCLANG_PATH:-/usr/lib/llvm-$clang/lib}
fi
