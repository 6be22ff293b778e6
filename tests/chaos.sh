#!/usr/bin/env bash
# A cluster of three nodes on three real brokers while nodes are killed, stopped beyond their session, bounced, added and
# taken away, and brokers are bounced; a reader checks that every key is counted 1, 2, …, n. Exit code 1 when anything is
# missing or there twice. Odd seeds keep a standby of every task.
#   bash tests/chaos.sh SEED [EVENTS] [exactly-once|at-least-once]       10 events, exactly-once, unless said otherwise
# WASMILL_KAFKA=host:port uses that broker, which is never bounced. WASMILL_KAFKA_BROKERS: how many are started, 3 unless
# set. CHAOS_RATE: records a second, 10000 unless set.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=../setup.sh
source setup.sh

[[ ${1:-} =~ ^[0-9]+$ ]] || { sed -n '2,7p' tests/chaos.sh >&2; exit 2; }
cargo build --quiet --bin wasmill --bin chaos
export WASMILL_BIN=$CARGO_TARGET_DIR/debug/wasmill

WASMILL_KAFKA_BROKERS=${WASMILL_KAFKA_BROKERS:-3}
# shellcheck source=kafka/use.sh
source tests/kafka/use.sh
"$CARGO_TARGET_DIR/debug/chaos" "$@"
