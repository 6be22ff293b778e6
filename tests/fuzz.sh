#!/usr/bin/env bash
# The long form of the fuzz targets (tests/fuzz): libFuzzer with coverage of the crates in this workspace.
#   bash tests/fuzz.sh SECONDS [TARGET ...]      that long each; all targets where none is named
# What is found is written to $CARGO_TARGET_DIR/fuzz/TARGET; new inputs that reach something new stay in
# $CARGO_TARGET_DIR/fuzz/corpus. Mend it, then keep the input in tests/fuzz/corpus/TARGET: `cargo test --test corpus` plays it.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=../setup.sh
source setup.sh

seconds=${1:?usage: bash tests/fuzz.sh SECONDS [TARGET ...]}
shift
targets=("$@")
if [[ ${#targets[@]} -eq 0 ]]; then
  for folder in tests/fuzz/corpus/*/; do targets+=("$(basename "$folder")"); done
fi

# Coverage by the compiler's own pass, which needs no nightly toolchain; only crates of this workspace are compiled with
# it, so that RocksDB and wasmtime are those of every other build.
work=$CARGO_TARGET_DIR/fuzz
mkdir -p "$work"
cat > "$work/rustc" <<'WRAPPER'
#!/bin/sh
exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares
WRAPPER
chmod +x "$work/rustc"
RUSTC_WORKSPACE_WRAPPER=$work/rustc cargo build --bin fuzz --features fuzz/libfuzzer
cp "$CARGO_TARGET_DIR/debug/fuzz" "$work/fuzz"

failed=()
for target in "${targets[@]}"; do
  kept=tests/fuzz/corpus/$target
  [[ -d $kept ]] || { say "there is no target $target: $(ls tests/fuzz/corpus | tr '\n' ' ')"; exit 2; }
  mkdir -p "$work/corpus/$target" "$work/$target"
  say "$target for $seconds s"
  WASMILL_FUZZ_TARGET=$target "$work/fuzz" -max_total_time="$seconds" -max_len=16384 -timeout=20 -rss_limit_mb=4096 \
    -print_final_stats=1 -artifact_prefix="$work/$target/" "$work/corpus/$target" "$kept" \
    > "$work/$target.log" 2>&1 || failed+=("$target")
  grep -E 'stat::number_of_executed_units|stat::average_exec|^#[0-9]+.*DONE|ERROR|panicked|Test unit written' \
    "$work/$target.log" >&2 || true
done
if [[ ${#failed[@]} -gt 0 ]]; then
  say "findings: ${failed[*]} (see $work/TARGET.log)"
  exit 1
fi
say "no findings"
