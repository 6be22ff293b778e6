#!/usr/bin/env bash
# A cluster of three nodes on a real broker while nodes are killed, stopped beyond their session, bounced, added and
# taken away; a reader checks that every key is counted 1, 2, …, n. Exit code 1 when anything is missing or there twice.
#   bash tests/chaos.sh SEED [EVENTS] [exactly-once|at-least-once]       10 events, exactly-once, unless said otherwise
# WASMILL_KAFKA=host:port uses that broker, else one is started. CHAOS_RATE: records a second, 10000 unless set.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=../setup.sh
source setup.sh

[[ ${1:-} =~ ^[0-9]+$ ]] || { sed -n '2,5p' tests/chaos.sh >&2; exit 2; }
cargo build --quiet --bin wasmill --bin chaos
export WASMILL_BIN=$CARGO_TARGET_DIR/debug/wasmill

if [[ -z ${WASMILL_KAFKA:-} ]]; then
  kafka_dir=$(mktemp -d)
  trap 'bash tests/kafka/kafka.sh stop "$kafka_dir" || true; rm -rf "$kafka_dir"' EXIT
  WASMILL_KAFKA=$(bash tests/kafka/kafka.sh start --port "${WASMILL_KAFKA_PORT:-29292}" "$kafka_dir")
  export WASMILL_KAFKA
fi
"$CARGO_TARGET_DIR/debug/chaos" "$@"
