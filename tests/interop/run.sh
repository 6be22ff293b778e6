#!/usr/bin/env bash
# Wasmill and Kafka Streams on one broker, with the same work, reading and taking over from each other:
#   1. both work a first round off; outputs, changelogs and a repartition topic are compared byte for byte
#   2. an application of Kafka Streams goes on as the pipeline: from its offsets, with its stores out of its changelogs
#   3. the pipeline goes on from there
#   4. a pipeline reads Kafka Streams' windows, sessions and tables
#   bash tests/interop/run.sh
# WASMILL_KAFKA=host:port names a broker; else one is started. WASMILL_BIN: a node built elsewhere. KEEP=1 keeps logs.
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v javac >/dev/null && command -v mvn >/dev/null || {
  echo "SKIPPED: Wasmill beside a Kafka Streams application, which needs Java 17 and Maven" >&2
  exit 0
}
# shellcheck source=../../setup.sh
source setup.sh
wasmill=${WASMILL_BIN:-}
if [[ -z $wasmill ]]; then
  cargo build --quiet --bin wasmill
  wasmill=$CARGO_TARGET_DIR/debug/wasmill
fi

classes=$CARGO_TARGET_DIR/interop/$(cat tests/bench/streams/pom.xml tests/interop/*.java | sha256sum | cut -c1-16)
if [[ ! -s $classes/classpath ]]; then
  mkdir -p "$classes"
  # What the benchmark's jobs need of Kafka Streams is what these need.
  mvn -q -B -f tests/bench/streams/pom.xml dependency:build-classpath -Dmdep.outputFile="$classes/jars" >&2
  javac --release 17 -d "$classes" -cp "$(<"$classes/jars")" tests/interop/*.java
  printf '%s:%s' "$classes" "$(<"$classes/jars")" >"$classes/classpath"
fi

work=$(mktemp -d) broker= node=
finish() {
  if [[ -n $node ]] && kill -0 "$node" 2>/dev/null; then kill "$node"; wait "$node" || true; fi
  if [[ -n $broker ]]; then bash tests/kafka/kafka.sh stop "$broker" || true; fi
  if [[ -z ${KEEP:-} ]]; then rm -rf "$work"; else say "kept $work"; fi
}
trap finish EXIT
if [[ -z ${WASMILL_KAFKA:-} ]]; then
  broker=$work/kafka
  WASMILL_KAFKA=$(bash tests/kafka/kafka.sh start --port "${WASMILL_KAFKA_PORT:-29692}" "$broker")
fi

prefix=interop-$$-$RANDOM
base=$((($(date +%s) / 60 - 30) * 60000))
java() { command java -XX:TieredStopAtLevel=1 -Dlog4j2.level=ERROR -cp "$(<"$classes/classpath")" Interop "$WASMILL_KAFKA" "$prefix" "$@"; }

# pipeline NAME INPUT…: runs it until it is through with its inputs.
pipeline() {
  local name=$1
  shift
  sed "s/PREFIX/$prefix/" "tests/interop/$name.toml" >"$work/$name.toml"
  "$wasmill" run --log warn --brokers "$WASMILL_KAFKA" --listen 127.0.0.1:0 --cluster "$prefix" --node-name "$name" \
    --data-dir "$work/$name" --threads 1 "$work/$name.toml" >>"$work/$name.log" 2>&1 &
  node=$!
  java wait "$prefix-$name" "${@/#/$prefix-}" || { cat "$work/$name.log" >&2; return 1; }
  kill "$node"
  wait "$node" || { cat "$work/$name.log" >&2; return 1; }
  node=
  java free "$prefix-$name"
}

java topics
say "1. the same work on both sides"
java produce "$base" 0
java streams "$prefix-java" "$work/java"
pipeline ours in people
java compare
say "2. Kafka Streams goes on as the pipeline"
java produce "$base" 1
java streams "$prefix-java" "$work/java"
java streams "$prefix-ours" "$work/taken-over"
java compare
say "3. the pipeline goes on from there"
java produce "$base" 2
java streams "$prefix-java" "$work/java"
pipeline ours in people
java compare
say "4. a pipeline reads what Kafka Streams wrote"
pipeline back java-windows ours-windows java-counts ours-counts java-sessions
java back
