#!/usr/bin/env bash
# What a hostile guest costs a second pipeline on its node: records a second of a plain count beside harmless guests that
# are as busy, and beside hostile ones. On the embedded log, two stream threads of one node, one after another.
#   bash tests/neighbour.sh [RECORDS [ROUNDS]]       20,000,000 and 3 unless given
# Two harmless guests, for there are two ways of being busy: `busy` computes and touches hardly any memory, `passes` sends
# on every record as fast as it can, so that memory, the log and the system's calls are shared with it. A hostile guest
# is as busy as one of the two or as a mixture. Every measurement begins with the same prefilled log; figures are medians
# of alternating rounds. Prints a table; nothing is asserted, for machines differ.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=../setup.sh
source setup.sh

records=${1:-20000000} rounds=${2:-3} port=${NEIGHBOUR_PORT:-7793}
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
  for _ in {1..10000}; do
    seen=$(taken "$1" || true)
    if ((${seen:-0} >= $2)); then return; fi
    sleep 0.03
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
# One record in a hundred makes the guest misbehave, or compute for some milliseconds; none of those in `fines` does.
other() {
  local mode=$1 topic=booms
  if [[ $mode == passes ]]; then mode=panic topic=fines; fi
  cat <<T
wasmill = 1
name = "other"
[defaults]
on-error = "dead-letter"
dead-letters = { topic = "dead", create = { partitions = 1 } }
[sources.in]
topic = "$topic"
[steps.guest]
module = "$guest"
from = "in"
params = { mode = "$mode" }
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
"$wasmill" topics create fines --partitions 1 >/dev/null
# As many as a guest does not come to the end of meanwhile.
seq 12000000 | awk '{ print $1 % 100 ? "fine" : "boom" }' | "$wasmill" produce booms --format text >/dev/null
seq "$records" | awk '{ print "fine" }' | "$wasmill" produce fines --format text >/dev/null
stop

modes=(alone busy passes loop hog panic bad-output flood)
# Appends to $folder/MODE the seconds that the count took, and how many records the other processed meanwhile.
measure() {
  local mode=$1 began ended others=0
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
  if [[ $mode != alone ]]; then others=$(taken other); fi
  stop
  awk -v a="$began" -v b="$ended" -v o="$others" 'BEGIN { printf "%.3f %d\n", b - a, o }' >>"$folder/$mode"
}
for ((round = 0; round < rounds; round++)); do
  for mode in "${modes[@]}"; do measure "$mode"; done
done

median() { sort -n "$folder/$1" | sed -n "$(((rounds + 1) / 2))p"; }
read -r busy _ < <(median busy)
read -r passes _ < <(median passes)
printf '%-12s %8s %12s %8s %10s  %s\n' beside seconds records/s 'to busy' 'to passes' 'records of the other'
for mode in "${modes[@]}"; do
  read -r seconds others < <(median "$mode")
  awk -v m="$mode" -v s="$seconds" -v n="$records" -v b="$busy" -v p="$passes" -v o="$others" \
    'BEGIN { printf "%-12s %8.2f %12.0f %8.2f %10.2f  %d\n", m, s, n / s, b / s, p / s, o }'
done
