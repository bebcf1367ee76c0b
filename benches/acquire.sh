#!/usr/bin/env bash
# Our acquisition, sealed and synced, against its peers and against the bound of this machine; all on the same input, in turns.
#
#   benches/acquire.sh [FILE] [ROUNDS]
#
# Without FILE a tar of /usr of 1 GiB is made. Prints the median wall time, CPU seconds, throughput and peak memory of each:
#   ewfacquire -c fast -d sha256   the E01 imager (Debian's ewf-tools)
#   dd | tee >(sha256sum) | zstd   what a careful person does by hand: one hash, one compressed copy
#   openssl, zstd -1 -T2           one part of the work each
#   bound                          (whole hash + chunk hashes + compression, of one thread each) / cores, at least the whole hash
# and our throughput as a ratio to each. Goals: 4.0, 1.3, -, -, 0.85; on a mostly empty disk 0.9 of openssl.
# All are held to two cores, and write below $TMPDIR (name a folder in memory to leave the disk out of it). Ours is synced, theirs are not.
set -euo pipefail
cd "$(dirname "$0")/.."
for tool in openssl zstd taskset /usr/bin/time dd sha256sum; do
  command -v "$tool" >/dev/null || { echo "skipped: $tool is not installed"; exit 0; }
done
rounds=${2:-5}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
input=${1:-}
if [ -z "$input" ]; then
  input=$work/input.tar
  { tar -C / -cf - usr 2>/dev/null || true; } | head -c 1073741824 > "$input" || true
fi
cargo build -q --release -p exhibit-acquire --example acquire_disk --example single_thread_rates
target=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/examples
size=$(stat -c %s "$input")
cat "$input" > /dev/null # into the page cache, for all alike

measure() { # NAME COMMAND...: appends "seconds KiB CPU-seconds" to NAME's file
  local name=$1
  shift
  taskset -c 0,1 /usr/bin/time -v -o "$work/time" "$@" > /dev/null 2> "$work/errors" || { cat "$work/errors"; exit 1; }
  awk -F': ' '/Elapsed/ { n = split($NF, t, ":"); s = 0; for (i = 1; i <= n; i++) s = s * 60 + t[i] }
    /Maximum resident/ { m = $2 }
    /User time|System time/ { c += $2 } END { print s, m, c }' "$work/time" >> "$work/$name"
}

by_hand='dd if="$0" bs=1M status=none | tee >(sha256sum > "$1.sum") | zstd -1 -T2 -q -f -o "$1"; wait'
for _ in $(seq "$rounds"); do
  measure openssl openssl dgst -sha256 "$input"
  measure zstd zstd -1 -T2 -q -f "$input" -o "$work/out.zst"
  measure by_hand bash -c "$by_hand" "$input" "$work/out.zst"
  rm -f "$work"/out.zst*
  if command -v ewfacquire >/dev/null; then
    measure ewfacquire ewfacquire -u -q -c fast -f encase6 -S 8GiB -d sha256 -t "$work/out" "$input"
    rm -f "$work"/out.E*
  fi
  taskset -c 0,1 "$target/single_thread_rates" "$input" 2> /dev/null | awk '{ s = ($1 + $2 + $3) / 2; print (s > $1 ? s : $1), 0, $1 + $2 + $3 }' >> "$work/bound"
  rm -rf "$work/bundle"
  measure ours "$target/acquire_disk" "$input" "$work/bundle"
  rm -rf "$work/bundle"
done

median() { sort -n "$work/$1" | awk '{ t[NR] = $1; if ($2 > m) m = $2; c += $3 } END { print t[int((NR + 1) / 2)], m, c / NR }'; }
read -r ours _ _ < <(median ours)
printf '%-34s %8s %8s %8s %9s %10s\n' "$((size / 1048576)) MiB, medians of $rounds" "wall s" "CPU s" "MiB/s" "peak MiB" "ours is"
row() { # NAME FILE
  [ -f "$work/$2" ] || { printf '%-34s not installed\n' "$1"; return; }
  read -r s m c < <(median "$2")
  awk -v size="$size" -v name="$1" -v s="$s" -v m="$m" -v c="$c" -v ours="$ours" \
    'BEGIN { printf "%-34s %8.2f %8.2f %8.0f %9.1f %9.2fx\n", name, s, c, size / 1048576 / s, m / 1024, s / ours }'
}
row "exhibit, sealed and synced" ours
row "ewfacquire -c fast -d sha256" ewfacquire
row "dd | tee >(sha256sum) | zstd -1 -T2" by_hand
row "openssl dgst -sha256" openssl
row "zstd -1 -T2" zstd
row "bound of this machine" bound
