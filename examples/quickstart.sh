#!/usr/bin/env bash
# The main job in a minute or two (after the first build): a Wasm module splits a novel into words, the host counts them.
# Builds Wasmill and the module, starts a node on the embedded log, feeds it, shows the 20 most frequent words, stops.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=../setup.sh
source setup.sh

began=$(date +%s%N)
step() { # step TEXT: what comes next; prints how long the last one took
  local now; now=$(date +%s%N)
  if [[ -n ${doing:-} ]]; then printf '   %s: %s ms\n' "$doing" $(((now - at) / 1000000)) >&2; fi
  doing=$1 at=$now
  if [[ -n $1 ]]; then printf '== %s\n' "$1" >&2; fi
}

work=$(mktemp -d)
node=
finish() {
  if [[ -n $node ]] && kill -0 "$node" 2>/dev/null; then kill "$node"; wait "$node" || true; fi
  rm -rf "$work"
}
trap finish EXIT

step "build wasmill (the first time: 15 to 40 minutes, RocksDB and wasmtime are compiled)"
cargo build --quiet --bin wasmill
wasmill=$CARGO_TARGET_DIR/debug/wasmill

step "build the tokenizer to a Wasm component"
CARGO_TARGET_DIR=$CARGO_TARGET_DIR/guests "$wasmill" build examples/word-count/tokenize -o "$work/tokenize.wasm"

step "start a node on the embedded log"
port=$((20000 + RANDOM % 20000))
export WASMILL_NODE=http://127.0.0.1:$port
"$wasmill" serve --listen "127.0.0.1:$port" --data-dir "$work/data" --threads 2 --log warn 2>"$work/node.log" &
node=$!
for _ in $(seq 200); do
  if "$wasmill" status >/dev/null 2>&1; then break; fi
  kill -0 "$node" 2>/dev/null || { cat "$work/node.log" >&2; exit 1; }
  sleep 0.05
done

step "register the module and apply the pipeline"
"$wasmill" module add "$work/tokenize.wasm"
"$wasmill" apply --yes examples/word-count/pipeline.toml

step "feed it Moby-Dick"
"$wasmill" produce lines examples/word-count/moby-dick.txt

step "count every word"
lines=$(wc -l <examples/word-count/moby-dick.txt)
while :; do
  # The pipeline's own lag comes after those of its tasks.
  lag=$("$wasmill" --format json pipeline list | grep '"lag"' | tail -1 | tr -dc '0-9')
  if [[ $lag == 0 ]]; then break; fi
  kill -0 "$node" 2>/dev/null || { cat "$work/node.log" >&2; exit 1; }
  sleep 0.05
done
took=$((($(date +%s%N) - at) / 1000000))
step ""
printf '   %s lines, %s lines/s from the end of the feed to the last commit\n' "$lines" $((lines * 1000 / (took + 1))) >&2

printf '\n' >&2
"$wasmill" query word-count counts --top 20
printf '\n' >&2
step "stop"
kill "$node"; wait "$node"
node=
step ""
printf 'done in %s s\n' $((($(date +%s%N) - began) / 1000000000)) >&2
