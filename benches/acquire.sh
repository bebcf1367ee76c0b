#!/usr/bin/env bash
# Our acquisition against `openssl dgst -sha256` alone and `zstd -1 -T2` alone, on the same input, taken in turns.
#
#   benches/acquire.sh [FILE] [ROUNDS]
#
# Without FILE a tar of /usr/lib of 1 GiB is made. Prints the median wall time, the throughput and the peak memory of each,
# and our throughput as a ratio to theirs. Goal: at least 0.9 of the slower of the two, with at most 512 MiB.
# CPU seconds (user and system) say more than wall time where other programs run. All three are held to two cores. Output goes below $TMPDIR; ours is synced to the disk, theirs is not.
set -euo pipefail
cd "$(dirname "$0")/.."
for tool in openssl zstd taskset /usr/bin/time; do
  command -v "$tool" >/dev/null || { echo "skipped: $tool is not installed"; exit 0; }
done
rounds=${2:-5}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
input=${1:-}
if [ -z "$input" ]; then
  input=$work/input.tar
  { tar -C / -cf - usr/lib 2>/dev/null || true; } | head -c 1073741824 > "$input" || true
fi
cargo build -q --release -p exhibit-acquire --example acquire_disk
ours=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/examples/acquire_disk
size=$(stat -c %s "$input")
cat "$input" > /dev/null # into the page cache, for all alike

measure() { # NAME COMMAND...: appends "seconds KiB" to NAME's file
  local name=$1
  shift
  taskset -c 0,1 /usr/bin/time -v -o "$work/time" "$@" > /dev/null
  awk -F': ' '/Elapsed/ { n = split($NF, t, ":"); s = 0; for (i = 1; i <= n; i++) s = s * 60 + t[i] }
    /Maximum resident/ { m = $2 }
    /User time|System time/ { c += $2 } END { print s, m, c }' "$work/time" >> "$work/$name"
}

for _ in $(seq "$rounds"); do
  measure openssl openssl dgst -sha256 "$input"
  measure zstd zstd -1 -T2 -q -f "$input" -o "$work/out.zst"
  rm -rf "$work/bundle"
  measure ours "$ours" "$input" "$work/bundle"
done

median() { sort -n "$work/$1" | awk '{ t[NR] = $1; if ($2 > m) m = $2; c += $3 } END { print t[int((NR + 1) / 2)], m, c / NR }'; }
read -r openssl_s openssl_m openssl_c < <(median openssl)
read -r zstd_s zstd_m zstd_c < <(median zstd)
read -r ours_s ours_m ours_c < <(median ours)
row() { # NAME SECONDS KIB CPU
  awk -v size="$size" -v name="$1" -v s="$2" -v m="$3" -v c="$4" \
    'BEGIN { printf "%-28s %8.2f %8.2f %10.0f %10.1f\n", name, s, c, size / 1048576 / s, m / 1024 }'
}
printf '%-28s %8s %8s %10s %10s\n' "$((size / 1048576)) MiB" "wall s" "CPU s" "MiB/s" "peak MiB"
row "openssl dgst -sha256" "$openssl_s" "$openssl_m" "$openssl_c"
row "zstd -1 -T2" "$zstd_s" "$zstd_m" "$zstd_c"
row "exhibit, sealed and synced" "$ours_s" "$ours_m" "$ours_c"
awk -v a="$openssl_s" -v b="$zstd_s" -v c="$ours_s" 'BEGIN {
  printf "ratio to openssl %.2f, to zstd %.2f, to the slower of them %.2f\n", a / c, b / c, (a > b ? a : b) / c
}'
