#!/usr/bin/env bash
# Hot swaps under load on a real Kafka broker: pauses, versions that fail, migrations, kills, canary and shadow.
#   bash tests/swap.sh [load|back|migrate|kill|try ...]      all of them unless some are named
# WASMILL_KAFKA=host:port uses that broker, else one is started. SWAP_RATE: records a second, 24000 unless set.
# SWAP_SEED: when the kills come. Exit code 1 when anything is not as it must be; figures are printed either way.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=../setup.sh
source setup.sh

cargo build --quiet --bin wasmill --bin swaps
export WASMILL_BIN=$CARGO_TARGET_DIR/debug/wasmill
export WASMILL_GUESTS=${WASMILL_GUESTS:-$CARGO_TARGET_DIR/guest-components}
bash tests/guests/stamps.sh

# shellcheck source=kafka/use.sh
source tests/kafka/use.sh
"$CARGO_TARGET_DIR/debug/swaps" "$@"
