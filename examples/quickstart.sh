#!/usr/bin/env bash
# The main job in a minute or two (after the first build): a Wasm module splits a novel into words, the host counts them.
# Builds Wasmill and the module, starts a node on the embedded log, feeds it, shows the 20 most frequent words; then the
# novel flows a second time, and while it does the module is exchanged for one that leaves out stop words.
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
flow=
finish() {
  if [[ -n $flow ]] && kill -0 "$flow" 2>/dev/null; then kill "$flow"; wait "$flow" || true; fi
  if [[ -n $node ]] && kill -0 "$node" 2>/dev/null; then kill "$node"; wait "$node" || true; fi
  rm -rf "$work"
}
trap finish EXIT

step "build wasmill (the first time: 15 to 40 minutes, RocksDB and wasmtime are compiled)"
cargo build --quiet --bin wasmill
wasmill=$CARGO_TARGET_DIR/debug/wasmill

step "build the tokenizer to a Wasm component, and the next version of it"
# Both are the package `tokenize`, whose component has one place in the target directory: each is built anew.
for crate in tokenize tokenize-2; do
  touch "examples/word-count/$crate/src/lib.rs"
  CARGO_TARGET_DIR=$CARGO_TARGET_DIR/guests "$wasmill" build "examples/word-count/$crate" -o "$work/$crate.wasm"
done

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

caught_up() { # waits until nothing is left to process
  local lag
  while :; do
    # The pipeline's own lag comes after those of its tasks.
    lag=$("$wasmill" --format json pipeline list | grep '"lag"' | tail -1 | tr -dc '0-9')
    if [[ $lag == 0 ]]; then break; fi
    kill -0 "$node" 2>/dev/null || { cat "$work/node.log" >&2; exit 1; }
    sleep 0.05
  done
}
count() { "$wasmill" query word-count counts --key "$1" --format json | grep '"value"' | tr -dc '0-9'; }

step "count every word"
lines=$(wc -l <examples/word-count/moby-dick.txt)
caught_up
took=$((($(date +%s%N) - at) / 1000000))
step ""
printf '   %s lines, %s lines/s from the end of the feed to the last commit\n' "$lines" $((lines * 1000 / (took + 1))) >&2

printf '\n' >&2
"$wasmill" query word-count counts --top 20
printf '\n' >&2
step "the novel flows again, and meanwhile tokenize@2.0.0 takes over: it leaves out words such as \`the\`"
"$wasmill" versions word-count
the=$(count the) whale=$(count whale)
split -n l/20 examples/word-count/moby-dick.txt "$work/part-"
(for part in "$work"/part-*; do "$wasmill" produce lines "$part" 2>/dev/null; done) &
flow=$!
"$wasmill" swap word-count words="$work/tokenize-2.wasm" --watch 1s
wait "$flow"
flow=
caught_up
printf '\n' >&2
"$wasmill" versions word-count
printf '\n' >&2
printf '   the same process: pid %s, started once\n' "$node" >&2
printf '   `whale`: %s before, %s now: counts were kept, and the second novel is counted whole\n' \
  "$whale" "$(count whale)" >&2
printf '   `the`:   %s before, %s now: counted on until the swap, left out since\n' "$the" "$(count the)" >&2
if [[ $(count whale) != $((whale * 2)) || $(count the) -ge $((the * 2)) ]]; then
  printf 'error: the counts are not what the swap should leave\n' >&2
  exit 1
fi
step "stop"
kill "$node"; wait "$node"
node=
step ""
printf 'done in %s s\n' $((($(date +%s%N) - began) / 1000000000)) >&2
