#!/usr/bin/env bash
# Wasmill, Kafka Streams and librdkafka's floor with the same work on one real broker, alternating; prints one table
# with ratios and bars and writes tests/bench/RESULTS.md.
#   bash tests/bench/run.sh                         the set of the bars: three rounds of 5 million records, 20 to 25
#                                                   minutes; `--parts curve`, `--threads 1,2` are measured when asked for
#   bash tests/bench/run.sh --quick                 one round of a million, 4 minutes: a look, not a figure
#   bash tests/bench/run.sh --tiny                  seconds: everything runs once, nothing is written (tests/run.sh)
#   bash tests/bench/run.sh --resume DIR            goes on where a set stopped; what DIR holds is not run again
#   bash tests/bench/run.sh --parts throughput --jobs window,stream-table,stream-stream
#                                                   windows and joins, exactly-once, with bars of their own
#   bash tests/bench/run.sh --jobs pass --guarantees exactly-once --systems wasmill,floor --rounds 1 --records 1000000
#                                                   a part; `--help` lists all options
# WASMILL_KAFKA=host:port names a broker (WASMILL_KAFKA_PID its process, for its CPU); else one is started from Maven
# jars. Without Java and Maven there is no Kafka Streams in the table. WASMILL_BIN: a node built elsewhere.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=../../setup.sh
source setup.sh

keep= report=tests/bench/RESULTS.md given=()
while (($#)); do
  case $1 in
    --quick) given+=(--rounds 1 --records 1000000); report=; shift ;;
    --tiny)
      given+=(--parts throughput,embedded --jobs pass,count,window,stream-table,stream-stream
        --guarantees exactly-once --rounds 1 --records 20000 --keys 1000)
      report=; shift ;;
    --resume) keep=$2; shift 2 ;;
    --report) report=$2; shift 2 ;;
    *) given+=("$1"); shift ;;
  esac
done

broker= folder=
finish() {
  # A program under measurement outlives a measurement that was ended; its folder is removed when a run is done.
  for pid in "$folder"/work/*/pid; do
    if [[ -s $pid ]]; then kill -9 "$(<"$pid")" 2>/dev/null || true; fi
  done
  if [[ -n $broker ]]; then bash tests/kafka/kafka.sh stop "$broker" || true; fi
  if [[ -n $folder ]]; then rm -rf "$folder"; fi
}
trap finish EXIT
folder=$(mktemp -d)
mkdir -p "${keep:-$folder}"
results=${keep:-$folder}/results.jsonl

cargo build --quiet --bin bench --example floor
wasmill=${WASMILL_BIN:-}
if [[ -z $wasmill ]]; then
  cargo build --quiet --bin wasmill
  wasmill=$CARGO_TARGET_DIR/debug/wasmill
fi
for guest in examples/filter/pass tests/bench/burn; do
  CARGO_TARGET_DIR=$CARGO_TARGET_DIR/guests "$wasmill" build "$guest" -o "$folder/${guest##*/}.wasm" 2>"$folder/build" ||
    { cat "$folder/build" >&2; exit 1; }
done

# Class path of Kafka Streams with its jobs, kept between runs.
streams=()
if command -v javac >/dev/null && command -v mvn >/dev/null; then
  classes=$CARGO_TARGET_DIR/streams-jobs/$(cat tests/bench/streams/* | sha256sum | cut -c1-16)
  if [[ ! -s $classes/classpath ]]; then
    mkdir -p "$classes"
    mvn -q -B -f tests/bench/streams/pom.xml dependency:build-classpath -Dmdep.outputFile="$classes/jars" >&2
    javac --release 17 -d "$classes" -cp "$(<"$classes/jars")" tests/bench/streams/Jobs.java
    printf '%s:%s' "$classes" "$(<"$classes/jars")" >"$classes/classpath"
  fi
  streams=(--streams-classpath "$(<"$classes/classpath")")
else
  say "SKIPPED: Kafka Streams; it takes a JDK 17 and Maven"
fi

if [[ -z ${WASMILL_KAFKA:-} ]]; then
  broker=$folder/kafka
  # A heap of 1 GiB, as Kafka's own scripts give it.
  WASMILL_KAFKA=$(KAFKA_HEAP=1g bash tests/kafka/kafka.sh start --port "${WASMILL_KAFKA_PORT:-29592}" "$broker")
  WASMILL_KAFKA_PID=$(<"$broker/pid")
fi
pid=()
if [[ -n ${WASMILL_KAFKA_PID:-} ]]; then pid=(--broker-pid "$WASMILL_KAFKA_PID"); fi
written=()
if [[ -n $report ]]; then written=(--report "$report"); fi
"$CARGO_TARGET_DIR/debug/bench" --brokers "$WASMILL_KAFKA" "${pid[@]}" --wasmill "$wasmill" \
  --floor "$CARGO_TARGET_DIR/debug/examples/floor" --module "$folder/pass.wasm" --burn "$folder/burn.wasm" "${streams[@]}" \
  --work "$folder/work" --results "$results" "${written[@]}" "${given[@]}"
