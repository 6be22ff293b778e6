#!/usr/bin/env bash
# Builds tests/guests/stamp once with $WASMILL_BIN, and writes the version of each of its variants into a copy in
# $WASMILL_GUESTS: the text has a fixed length, so nothing else moves.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p "$WASMILL_GUESTS"
built=$WASMILL_GUESTS/stamp.wasm
CARGO_TARGET_DIR=$CARGO_TARGET_DIR/guests "$WASMILL_BIN" build tests/guests/stamp -o "$built"
for version in 1 2 3-traps 3-closed 4-schema 5-migrates 6-slow 7-rejects 8-traps-late 9-differs; do
  text=$(printf 'STAMP-VERSION=%-18s' "$version")
  LC_ALL=C sed "s/STAMP-VERSION=1                 /$text/" "$built" >"$WASMILL_GUESTS/stamp-$version.wasm"
done
