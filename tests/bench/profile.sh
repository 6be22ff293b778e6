#!/usr/bin/env bash
# Where the time of one record goes, by layer: samples of a node while it works a full topic off.
#   bash tests/bench/profile.sh JOB [GUARANTEE [RECORDS [PROGRAM [KEYS]]]]
#                                      pass, count, count-on-commit, window, stream-table or stream-stream;
#                                      exactly-once; 2,000,000; wasmill, streams or floor;
#                                      100,000
# Sampled are all threads of the process from its first committed output to its last one, by the CPU clock (it works
# in virtual machines). A sample counts for the layer of the function that runs, so memory functions of libc have a line
# of their own. Prints nanoseconds a record by layer, by thread, and the dearest functions. PERF_DATA=FILE keeps the
# samples for `perf report`; PERF_CALLS=dwarf records call stacks with it (large, and it slows the program down).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
job=${1:?pass, count, count-on-commit, window, stream-table or stream-stream} guarantee=${2:-exactly-once} records=${3:-2000000} program=${4:-wasmill} keys=${5:-100000}
command -v perf >/dev/null || { echo "profile.sh: no perf; install linux-perf" >&2; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
bash "$here/run.sh" --resume "$folder" --report "" --parts throughput --systems "$program" --rounds 1 --jobs "$job" \
  --guarantees "$guarantee" --records "$records" --keys "$keys" --perf "$folder/perf.data" >/dev/null
ns=$(sed -E 's/.*"cpu-s-per-million":([0-9.]+).*/\1/' <<<"$(sed 's/"warm-cpu[^,}]*//; s/"whole-cpu[^,}]*//; s/"[a-z-]*broker-cpu[^,}]*//g' "$folder/results.jsonl")")
ns=$(awk -v s="$ns" 'BEGIN { print s * 1000 }')
if [[ -n ${PERF_DATA:-} ]]; then cp "$folder/perf.data" "$PERF_DATA"; fi
perf report -i "$folder/perf.data" --stdio --no-children --call-graph none --percent-limit 0 --fields overhead,comm,dso,sym \
  --field-separator '|' 2>/dev/null | grep -v '^#' | grep '|' >"$folder/flat"

awk -F'|' -v ns="$ns" -v job="$job" -v guarantee="$guarantee" '
function layer(dso, sym) {
  if (dso ~ /kernel|kallsyms|vmlinux/ || sym ~ /^\[k\]/) return "kernel (network, files, scheduling)"
  if (sym ~ /mi_|malloc|_int_free|free$|cfree|realloc|calloc|unlink_chunk|sysmalloc|tcache/) return "allocator"
  if (sym ~ /mem(cpy|move|set|cmp)|str(cmp|len)/) return "copying and comparing bytes (libc)"
  if (sym ~ /pthread|lll_lock|futex|clock_gettime|sem_|__vdso/) return "locks and clocks (libc)"
  if (dso ~ /JIT|anon|memfd|\.cwasm/ || sym ~ /wasm\[/) return "guest code"
  if (sym ~ /cranelift|regalloc2/) return "compiling the module"
  if (sym ~ /rd_kafka|rd_crc32|rd_buf|rd_slice|rd_tmpabuf|rd_list|rd_ut|rd_avg|rd_interval|mtracker|crc32c|murmur|\] rd_|cnd_timed|mtx_|thrd_/) return sym ~ /record::|partition_of/ ? "partitioning (murmur2)" : "kafka client (librdkafka)"
  if (sym ~ /rdkafka|[< ]kafka::/) return "kafka (our side of it)"
  if (sym ~ /rocksdb|lz4|LZ4|leveldb/) return "RocksDB"
  if (sym ~ /[< ]rocks::/) return "rocks (our side of RocksDB)"
  if (sym ~ /[< ]local::/) return "local (the embedded log)"
  if (sym ~ /wasmtime|[< ]sandbox::/) return "sandbox call"
  if (sym ~ /[< ]state::/) return "overlay, cache, stores"
  if (sym ~ /[< ]operators::/) return "operators"
  if (sym ~ /[< ]task::/) return "task walk"
  if (sym ~ /[< ](record|arrow_[a-z]+)::/) return "record building (columns)"
  if (sym ~ /[< ]worker::/) return "worker"
  if (sym ~ /[< ](driver|server|axum|hyper|tokio)::/) return "node (driver, server)"
  if (sym ~ /hashbrown|foldhash|indexmap/) return "hash tables"
  if (sym ~ /[< ](core|alloc|std)::/) return "Rust standard library"
  return "other"
}
{ share = $1; sub(/%/, "", share); comm = $2; gsub(/^ +| +$/, "", comm); dso = $3; sym = $4
  layers[layer(dso, sym)] += share; threads[comm] += share
  name = sym; gsub(/^ *\[[.k]\] */, "", name); gsub(/ +$/, "", name); key = layer(dso, sym) "|" name; functions[key] += share }
END {
  printf "%s, %s: %.0f ns of CPU a record, all threads of the process\n\n", job, guarantee, ns
  for (l in layers) printf "1|%8.1f|%5.1f %%|%s\n", layers[l] * ns / 100, layers[l], l
  for (t in threads) printf "2|%8.1f|%5.1f %%|thread %s\n", threads[t] * ns / 100, threads[t], t
  for (f in functions) printf "3|%8.1f|%5.1f %%|%s\n", functions[f] * ns / 100, functions[f], f
}' "$folder/flat" >"$folder/lines"
head -2 "$folder/lines"
for part in 1 2 3; do
  printf '%8s %7s  %s\n' 'ns' 'share' "$(case $part in 1) echo layer ;; 2) echo thread ;; *) echo 'function (its layer first)' ;; esac)"
  grep "^$part|" "$folder/lines" | sort -t'|' -k2 -rn | head -40 | awk -F'|' '$2 >= 1 { printf "%s %s  %s%s\n", $2, $3, $4, $5 == "" ? "" : ": " substr($5, 1, 90) }'
  echo
done
