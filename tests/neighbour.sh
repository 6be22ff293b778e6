#!/usr/bin/env bash
# What a hostile guest costs its neighbour: the throughput of a pipeline beside a guest that misbehaves without end, as a
# part of what it has beside a harmless guest that is as busy. One node, two pipelines, a stream thread each.
#   bash tests/neighbour.sh [RECORDS [ROUNDS]]       default 300,000 records in 3 rounds
# Prints a line for each behaviour; 1.00 is no difference. Rounds are mixed and the median counts, since machines are
# never idle.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=../setup.sh
source setup.sh
records=${1:-300000} rounds=${2:-3}
behaviours=(loop hog panic bad-output flood leak)

cargo build --quiet --bin wasmill
wasmill=$CARGO_TARGET_DIR/debug/wasmill
work=$(mktemp -d)
node=
finish() {
  if [[ -n $node ]]; then kill -9 "$node" 2>/dev/null || true; wait "$node" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap finish EXIT
CARGO_TARGET_DIR=$CARGO_TARGET_DIR/guests "$wasmill" build tests/guests/misbehave -o "$work/misbehave.wasm" 2>/dev/null

awk -v n="$records" 'BEGIN { for (i = 0; i < n; i++) printf "word-%d another-%d and one more\n", i % 5000, i % 77 }' \
  > "$work/lines.txt"
# Every other record sets the guest off, so that none of the bounds on failures in a row ends it.
awk 'BEGIN { for (i = 0; i < 200000; i++) print (i % 2 ? "boom" : "calm") }' > "$work/booms.txt"

beside() {
  cat > "$work/beside.toml" <<T
wasmill = 1
name = "beside"
defaults = { on-error = "skip" }
sources.booms = { topic = "booms", value = "string", create = { partitions = 1 } }
steps.odd = { from = "booms", module = "./misbehave.wasm", params = { mode = "$1" }, limits = { call = "20ms", memory = "16MiB", recycle = "8MiB" } }
sinks.out = { from = "odd", topic = "survivors", create = { partitions = 1 } }
T
}
cat > "$work/neighbour.toml" <<T
wasmill = 1
name = "neighbour"
sources.lines = { topic = "lines", value = "string", create = { partitions = 1 } }
steps.counts = { op = "count", from = "lines", group-by = "value" }
sinks.out = { from = "counts", topic = "counted", create = { partitions = 1 } }
T

# Records a second of `neighbour` beside the behaviour $1.
rate() {
  rm -rf "$work/data"
  local log=$work/$1.log
  "$wasmill" serve --listen 127.0.0.1:0 --data-dir "$work/data" --threads 1 --log warn,guest=error 2>"$log" &
  node=$!
  until address=$(sed -n 's/^wasmill node .* on \([^,]*\),.*/\1/p' "$log") && [[ -n $address ]]; do
    kill -0 "$node" || { cat "$log" >&2; exit 1; }
    sleep 0.05
  done
  export WASMILL_NODE=$address
  beside "$1"
  "$wasmill" topics create lines --partitions 1 >/dev/null 2>&1
  "$wasmill" topics create booms --partitions 1 >/dev/null 2>&1
  "$wasmill" produce lines "$work/lines.txt" 2>/dev/null
  "$wasmill" produce booms "$work/booms.txt" 2>/dev/null
  "$wasmill" apply --yes "$work/beside.toml" >/dev/null 2>&1
  until [[ $(state beside) == running* ]]; do sleep 0.05; done
  local began ended
  began=$(date +%s%N)
  "$wasmill" apply --yes "$work/neighbour.toml" >/dev/null 2>&1
  until [[ $(state neighbour) == "running 0" ]]; do sleep 0.02; done
  ended=$(date +%s%N)
  case $(state beside) in
    "running 0") say "\`$1\` was done before its neighbour"; exit 1 ;;
    running*) ;;
    *) say "\`$1\` did not last:"; "$wasmill" status >&2; exit 1 ;;
  esac
  kill -9 "$node"; wait "$node" 2>/dev/null || true
  node=
  echo $(( records * 1000000000 / (ended - began) ))
}
# State and lag.
state() { "$wasmill" pipeline list 2>/dev/null | awk -v name="$1" '$1 == name { print $2, $4 }'; }

for ((round = 1; round <= rounds; round++)); do
  for behaviour in busy "${behaviours[@]}"; do
    rate "$behaviour" >> "$work/$behaviour.rates"
  done
done
median() { sort -n "$work/$1.rates" | awk '{ a[NR] = $1 } END { print a[int((NR + 1) / 2)] }'; }
harmless=$(median busy)
printf '%-12s %12s %8s\n' beside records/s ratio
printf '%-12s %12s %8s\n' busy "$harmless" 1.00
for behaviour in "${behaviours[@]}"; do
  hostile=$(median "$behaviour")
  printf '%-12s %12s %8s\n' "$behaviour" "$hostile" "$(awk -v a="$hostile" -v b="$harmless" 'BEGIN { printf "%.2f", a / b }')"
done
