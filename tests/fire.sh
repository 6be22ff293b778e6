#!/usr/bin/env bash
# Exactly-once under fire: a node that counts is killed ten times, and a reader checks that nothing is missing or twice.
#   bash tests/fire.sh SEED [RECORDS] [embedded|kafka] [exactly-once|at-least-once]
# A million records on the embedded log unless said otherwise; kafka uses WASMILL_KAFKA=host:port, else starts a broker.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=../setup.sh
source setup.sh

[[ ${1:-} =~ ^[0-9]+$ ]] || { sed -n '2,4p' tests/fire.sh >&2; exit 2; }
cargo build --quiet --bin wasmill --bin fire
export WASMILL_BIN=$CARGO_TARGET_DIR/debug/wasmill

# shellcheck source=kafka/use.sh
if [[ ${3:-} == kafka ]]; then source tests/kafka/use.sh; fi
"$CARGO_TARGET_DIR/debug/fire" "$@"
