#!/usr/bin/env bash
# A first figure: records per second and CPU seconds per million records of a node on a real Kafka broker, exactly-once.
#   bash tests/bench/first.sh [RECORDS]        default 1,000,000 records of 100 bytes, 100,000 keys, 8 partitions
# Jobs: `pass` (a Wasm module looks at every value and drops half) and `count` (every update, per key, RocksDB).
# The topic is filled first; the clock runs from the apply to the commit of the last record. WASMILL_KAFKA=host:port
# names the broker; else one is started from Maven jars. Machines differ and this one may be busy: compare ratios only.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=../../setup.sh
source setup.sh
records=${1:-1000000}
cargo build --quiet --bin wasmill
wasmill=$CARGO_TARGET_DIR/debug/wasmill
work=$(mktemp -d)
node= broker=
finish() {
  if [[ -n $node ]]; then kill "$node" 2>/dev/null || true; wait "$node" 2>/dev/null || true; fi
  if [[ -n $broker ]]; then bash tests/kafka/kafka.sh stop "$broker" || true; fi
  rm -rf "$work"
}
trap finish EXIT
if [[ -z ${WASMILL_KAFKA:-} ]]; then
  broker=$work/kafka
  WASMILL_KAFKA=$(bash tests/kafka/kafka.sh start --port 29492 "$broker")
fi

CARGO_TARGET_DIR=$CARGO_TARGET_DIR/guests "$wasmill" build examples/filter/pass -o "$work/pass.wasm" 2>/dev/null
id=bench-$RANDOM
cat >"$work/pass.toml" <<T
wasmill = 1
name = "$id-pass"
[sources.in]
topic = "$id-in"
key = "string"
[steps.pass]
from = "in"
module = "./pass.wasm"
[sinks.out]
from = "pass"
topic = "$id-passed"
create = { partitions = 8 }
T
cat >"$work/count.toml" <<T
wasmill = 1
name = "$id-count"
[sources.in]
topic = "$id-in"
key = "string"
[steps.counts]
op = "count"
from = "in"
group-by = "key"
emit = "every-update"
[sinks.out]
from = "counts"
topic = "$id-counted"
create = { partitions = 8 }
T

export WASMILL_NODE=http://127.0.0.1:$((20000 + RANDOM % 20000))
"$wasmill" serve --listen "${WASMILL_NODE#http://}" --data-dir "$work/data" --cluster "$id" --brokers "$WASMILL_KAFKA" \
  --log warn 2>"$work/node.log" &
node=$!
until "$wasmill" status >/dev/null 2>&1; do
  kill -0 "$node" 2>/dev/null || { cat "$work/node.log" >&2; exit 1; }
  sleep 0.1
done
"$wasmill" topics create "$id-in" --partitions 8 2>/dev/null
awk -v n="$records" 'BEGIN { srand(7); for (i = 0; i < n; i++) {
  k = int(rand() * 100000); v = sprintf("%d event of key %d ", k % 10, k); while (length(v) < 100) v = v "x"
  printf "key-%08d\t%s\n", k, v } }' |
  "$wasmill" produce "$id-in" --separator "$(printf '\t')"

ticks=$(getconf CLK_TCK)
cpu() { awk -v t="$ticks" '{ sub(/.*\) /, ""); print ($12 + $13) / t }' "/proc/$node/stat"; }
memory() { awk '/VmHWM/ { printf "%d", $2 / 1024 }' "/proc/$node/status"; }
printf '%-7s %12s %22s %12s\n' job records/s 'CPU s per million' 'peak MiB'
for job in pass count; do
  before=$(cpu) began=$(date +%s%N)
  "$wasmill" apply --yes "$work/$job.toml" >/dev/null 2>&1
  until [[ $("$wasmill" --format json pipeline describe "$id-$job" | grep '"lag"' | tail -1 | tr -dc '0-9') == 0 ]]; do
    kill -0 "$node" 2>/dev/null || { cat "$work/node.log" >&2; exit 1; }
    sleep 0.2
  done
  took=$(($(date +%s%N) - began)) after=$(cpu)
  awk -v j="$job" -v n="$records" -v ns="$took" -v c="$before" -v d="$after" -v m="$(memory)" \
    'BEGIN { printf "%-7s %12d %22.2f %12d\n", j, n / ns * 1e9, (d - c) / n * 1e6, m }'
  "$wasmill" pipeline pause "$id-$job" 2>/dev/null
done
printf 'load average %s; the node has one stream thread; CPU is the whole node, start of the pipeline included\n' \
  "$(cut -d' ' -f1-3 /proc/loadavg)"
