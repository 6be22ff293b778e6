#!/usr/bin/env bash
# Two nodes race for one control topic on a real Kafka broker: of two changes that exclude each other one wins, the other is
# told, and a fresh reader sees no state that is half of each.
#   bash tests/races.sh [COUNT]          1000 races unless said
# WASMILL_KAFKA=host:port uses that broker, else one is started. RACES_SEED: which races. Prints wins of each node, refusals
# by kind, and time. Exit code 1 when anything is not as it must be.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=../setup.sh
source setup.sh

cargo build --quiet --workspace --bin wasmill --bin races
export WASMILL_BIN=$CARGO_TARGET_DIR/debug/wasmill
export WASMILL_GUESTS=${WASMILL_GUESTS:-$CARGO_TARGET_DIR/guest-components}

# shellcheck source=kafka/use.sh
source tests/kafka/use.sh
"$CARGO_TARGET_DIR/debug/races" "$@"
