#!/usr/bin/env bash
# A day of operation in small, on a real Kafka broker: every minute a swap, a node that joins and leaves, queries, a pause,
# under a steady load. Prints pauses, latency of queries, and memory, threads and open files of the nodes that stay.
#   bash tests/day.sh [MINUTES]          20 minutes unless said
# WASMILL_KAFKA=host:port uses that broker, else one is started. DAY_RATE: records a second, 5000 unless set. Exit code 1
# when a count is missing or there twice, a swap fails, or something has grown.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=../setup.sh
source setup.sh

cargo build --quiet --workspace --bin wasmill --bin day
export WASMILL_BIN=$CARGO_TARGET_DIR/debug/wasmill
export WASMILL_GUESTS=${WASMILL_GUESTS:-$CARGO_TARGET_DIR/guest-components}
bash tests/guests/stamps.sh

# shellcheck source=kafka/use.sh
source tests/kafka/use.sh
"$CARGO_TARGET_DIR/debug/day" "$@"
