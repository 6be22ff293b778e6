#!/usr/bin/env bash
# The parts of the engine one by one: instructions and nanoseconds of CPU for one record.
#   bash tests/bench/micro.sh [PART...]      all, or those named; `murmur2`, `guest-call-1000`, `rocks-commit`, ...
# Instructions in user space, counted by the processor: the same on a busy machine as on an idle one. Every part runs
# with N and with 3 N records; the difference is the part without its set-up. Nanoseconds are of the thread's CPU clock.
# MICRO_RECORDS: N, 200,000 unless set.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=../../setup.sh
source setup.sh
cargo build --quiet --bin micro
micro=$CARGO_TARGET_DIR/debug/micro
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
wasmill=${WASMILL_BIN:-$CARGO_TARGET_DIR/debug/wasmill}
if [[ -z ${WASMILL_BIN:-} ]]; then cargo build --quiet --bin wasmill; fi
CARGO_TARGET_DIR=$CARGO_TARGET_DIR/guests "$wasmill" build examples/filter/pass -o "$folder/pass.wasm" 2>/dev/null
records=${MICRO_RECORDS:-200000}

counted=yes
if ! perf stat -x, -e instructions:u true 2>&1 | grep -q '^[0-9]'; then
  counted=
  say "NO INSTRUCTION COUNTS: perf or the processor's counter is not there. What follows is CPU time, which other work on the machine changes."
fi

# run PART RECORDS: "instructions nanoseconds records"
run() {
  if [[ -n $counted ]]; then
    perf stat -x, -e instructions:u -o "$folder/count" -- "$micro" "$1" "$2" "$folder/pass.wasm" >"$folder/out"
    printf '%s %s\n' "$(awk -F, '/instructions/ { print $1 }' "$folder/count")" "$(<"$folder/out")"
  else
    printf '0 %s\n' "$("$micro" "$1" "$2" "$folder/pass.wasm")"
  fi
}

printf '%-20s %14s %10s\n' part 'instructions' 'ns'
for part in "${@:-$("$micro" list)}"; do
  for name in $part; do
    read -r i1 n1 r1 <<<"$(run "$name" "$records")"
    read -r i3 n3 r3 <<<"$(run "$name" $((records * 3)))"
    awk -v name="$name" -v i=$((i3 - i1)) -v n=$((n3 - n1)) -v r=$((r3 - r1)) -v counted="$counted" \
      'BEGIN { printf "%-20s %14s %10.1f\n", name, counted == "" ? "-" : sprintf("%.0f", i / r), n / r }'
  done
done
