#!/usr/bin/env bash
# All tests: format, lints, units, simulation, examples, and the same pipelines on a real Kafka broker.
#   bash tests/run.sh           everything
# WASMILL_KAFKA=host:port  uses that broker; else one is started from Maven jars; where neither is possible, its tests are
# skipped, loudly. Settings of setup.sh apply.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=../setup.sh
source setup.sh

section() { printf '\n== %s (%s s)\n' "$1" "$SECONDS" >&2; }

kafka_dir=
finish() { if [[ -n $kafka_dir ]]; then bash tests/kafka/kafka.sh stop "$kafka_dir" || true; rm -rf "$kafka_dir"; fi; }
trap finish EXIT

section "format"
if cargo fmt --version >/dev/null 2>&1; then cargo fmt --all --check; else say "SKIPPED: no rustfmt"; fi

section "build (the first time takes long: RocksDB and wasmtime)"
cargo build --workspace --all-targets
export WASMILL_BIN=$CARGO_TARGET_DIR/debug/wasmill

section "lints"
if cargo clippy --version >/dev/null 2>&1; then
  cargo clippy --workspace --all-targets -- -D warnings
else
  say "SKIPPED: no clippy"
fi

section "guests"
export WASMILL_GUESTS=$CARGO_TARGET_DIR/guest-components
mkdir -p "$WASMILL_GUESTS"
guests=(
  examples/word-count/tokenize
  examples/word-count/tokenize-2
  examples/dedup/dedup
  examples/filter/pass
  examples/enrich/enrich
  examples/fraud/detect
  examples/word-count-app/words
  tests/guests/misbehave
  tests/guests/talk
  tests/guests/reach
  tests/guests/application
)
for crate in "${guests[@]}"; do
  # Next versions have the names of those before, and so have the files that cargo writes.
  if [[ $crate == *-2 ]]; then built=guests-2; else built=guests; fi
  CARGO_TARGET_DIR=$CARGO_TARGET_DIR/$built "$WASMILL_BIN" build "$crate" -o "$WASMILL_GUESTS/$(basename "$crate").wasm"
done

bash tests/guests/stamps.sh

section "the engine's cases on Kafka Streams"
# Says so where Java or Maven are missing.
bash tests/oracle/run.sh --quiet tests/cases/engine

section "examples"
for example in word-count/tokenize dedup/dedup filter/pass enrich/enrich fraud/detect word-count-app/words; do
  folder=examples/${example%/*}
  cp "$WASMILL_GUESTS/${example#*/}.wasm" "$folder/"
  "$WASMILL_BIN" test "$folder"
  (cd "examples/$example" && CARGO_TARGET_DIR=$CARGO_TARGET_DIR/guests cargo test --quiet)
done
for example in sessions flights earthquakes enrichment; do
  "$WASMILL_BIN" test "examples/$example"
done

section "an application beside the host's own operators"
cp "$WASMILL_GUESTS/application.wasm" tests/guests/application/
"$WASMILL_BIN" test tests/guests/application

section "a broker"
if [[ -n ${WASMILL_KAFKA:-} ]]; then
  say "using $WASMILL_KAFKA"
elif command -v java >/dev/null && command -v mvn >/dev/null; then
  kafka_dir=$(mktemp -d)
  WASMILL_KAFKA=$(bash tests/kafka/kafka.sh start --port "${WASMILL_KAFKA_PORT:-29292}" "$kafka_dir")
  export WASMILL_KAFKA
  say "started Kafka at $WASMILL_KAFKA"
else
  say "SKIPPED: every test on a real Kafka broker. Set WASMILL_KAFKA=host:port, or install Java 17 and Maven."
fi

section "tests"
cargo test --workspace

if [[ -n ${WASMILL_KAFKA:-} ]]; then
  section "beside a Kafka Streams application"
  # Says so where Java or Maven are missing.
  bash tests/interop/run.sh

  section "the benchmark, in a form too small to mean anything"
  bash tests/bench/run.sh --tiny
fi

section "done"
