#!/usr/bin/env bash
# The long form of the simulation (tests/sim): seeded worlds, half of them with a module that is counted behind and swapped,
# half of native operators with state.
#   bash tests/worlds.sh [COUNT]         10000 worlds unless said
# WASMILL_SIM_FIRST: the first seed, 0 unless set. Prints worlds a second, kills, rebalances, aborted commits, swaps; and for
# each world that fails its seed, with the command that runs it again. Exit code 1 when one failed.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=../setup.sh
source setup.sh

count=${1:-10000}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test --workspace --test worlds --no-run 2>&1 | tee "$log" >&2
worlds=$(grep -o '/[^ ]*/worlds-[0-9a-f]*' "$log" | head -1)

failed=0
for kind in every_world_gives_what_a_world_without_faults_gives operators_with_state_give_what_they_give_undisturbed; do
  say "$kind: $((count / 2)) seeds"
  (cd tests/sim && WASMILL_SIM_SEEDS=$((count / 2)) "$worlds" "$kind" --exact --nocapture) || failed=1
done
exit "$failed"
