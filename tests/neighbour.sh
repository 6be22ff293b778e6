#!/usr/bin/env bash
# What a hostile guest costs a second pipeline on its node: records a second of a plain count beside a guest that is as
# busy but harmless, and beside hostile ones. On the embedded log, two stream threads of one node, one after another.
#   bash tests/neighbour.sh [RECORDS]       2,000,000 unless given
# Every measurement begins with the same prefilled log. Prints a table; nothing is asserted, for machines differ.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=../setup.sh
source setup.sh

records=${1:-2000000} port=${NEIGHBOUR_PORT:-7793}
cargo build --quiet --bin wasmill
wasmill=$CARGO_TARGET_DIR/debug/wasmill
folder=$(mktemp -d) node=
finish() {
  if [[ -n $node ]]; then kill "$node" 2>/dev/null && wait "$node" || true; fi
  rm -rf "$folder"
}
trap finish EXIT
guest=${WASMILL_GUESTS:-$CARGO_TARGET_DIR/guest-components}/misbehave.wasm
if [[ ! -s $guest ]]; then
  guest=$folder/misbehave.wasm
  CARGO_TARGET_DIR=$CARGO_TARGET_DIR/guests "$wasmill" build tests/guests/misbehave -o "$guest" >&2
fi
export WASMILL_NODE=http://127.0.0.1:$port

start() {
  "$wasmill" serve --data-dir "$1" --listen "127.0.0.1:$port" >"$folder/log" 2>&1 & node=$!
  for _ in {1..200}; do
    if "$wasmill" status >/dev/null 2>&1; then return; fi
    sleep 0.05
  done
  cat "$folder/log" >&2
  die "the node does not answer"
}
stop() { kill "$node"; wait "$node" || true; node=; }

# The number of records that pipeline $1 has processed; 0 while it is not there.
taken() {
  local answer
  answer=$("$wasmill" status --format json | tr -d ' \n' | grep -o "\"name\":\"$1\",\"state\".*" | grep -o '"records-processed":[0-9]*' | head -1)
  printf '%s' "${answer##*:}"
}
wait_for() {
  local seen
  for _ in {1..1500}; do
    seen=$(taken "$1" || true)
    if ((${seen:-0} >= $2)); then return; fi
    sleep 0.2
  done
  die "$1 has not processed $2 records in five minutes"
}

cat >"$folder/steady.toml" <<'T'
wasmill = 1
name = "steady"
[sources.in]
topic = "work"
[steps.n]
op = "count"
from = "in"
T
# One record in a hundred makes the guest misbehave, or compute for some milliseconds.
other() {
  cat <<T
wasmill = 1
name = "other"
[defaults]
on-error = "dead-letter"
dead-letters = { topic = "dead", create = { partitions = 1 } }
[sources.in]
topic = "booms"
[steps.guest]
module = "$guest"
from = "in"
params = { mode = "$1" }
limits = { call = "100ms", memory = "64MiB" }
[sinks.out]
from = "guest"
topic = "out"
create = { partitions = 1 }
T
}

start "$folder/full"
"$wasmill" topics create work --partitions 4 >/dev/null
"$wasmill" topics create booms --partitions 1 >/dev/null
seq "$records" | awk '{ print "k" $1 % 10000 "\t" $1 }' | "$wasmill" produce work --format text --separator $'\t' >/dev/null
# As many as a harmless guest does not come to the end of meanwhile.
seq 6000000 | awk '{ print $1 % 100 ? "fine" : "boom" }' | "$wasmill" produce booms --format text >/dev/null
stop

printf '%-14s %10s %12s %8s  %s\n' beside seconds records/s ratio 'records of the other'
harmless=
for mode in alone busy loop hog panic bad-output flood; do
  rm -rf "$folder/run"; cp -a "$folder/full" "$folder/run"
  start "$folder/run"
  if [[ $mode != alone ]]; then
    other "$mode" >"$folder/other.toml"
    "$wasmill" apply "$folder/other.toml" --yes >/dev/null 2>&1
    wait_for other 1
  fi
  began=$(date +%s.%N)
  "$wasmill" apply "$folder/steady.toml" --yes >/dev/null 2>&1
  wait_for steady "$records"
  ended=$(date +%s.%N)
  others=0
  if [[ $mode != alone ]]; then others=$(taken other); fi
  stop
  seconds=$(awk -v a="$began" -v b="$ended" 'BEGIN { print b - a }')
  if [[ $mode == busy ]]; then harmless=$seconds; fi
  awk -v m="$mode" -v s="$seconds" -v n="$records" -v h="${harmless:-0}" -v o="$others" \
    'BEGIN { printf "%-14s %10.2f %12.0f %8s  %d\n", m, s, n / s, h ? sprintf("%.2f", h / s) : "", o }'
done
