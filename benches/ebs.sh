#!/usr/bin/env bash
# Our acquisition of an EBS snapshot against the cap of AWS, against our own pipeline on a local file, and against coldsnap.
#
#   benches/ebs.sh [ROUNDS]
#
# The server is the one of the tests (acquire/examples/ebs_server.rs), on loopback, with 5 ms of latency; it takes its share of
# the same cores. All runs of a row are in turns, and medians are printed.
#   cap        blocks a second as a share of the server's 1,000, over which it refuses, with the whole run as the time:
#              start, list, sealing and syncing of the bundle too
#   pipeline   `acquire ebs` without a cap against `acquire disk` of the same bytes in a file
#   coldsnap   `coldsnap download` (skipped if it is not in PATH; `cargo install coldsnap`) against ours, which hashes,
#              compresses, signs and syncs as well
# Goals: 0.95 where processors allow; 0.9; 2.0. Name a folder in memory as $TMPDIR to leave the disk out of it.
set -euo pipefail
cd "$(dirname "$0")/.."
for tool in /usr/bin/time truncate; do
  command -v "$tool" >/dev/null || { echo "skipped: $tool is not installed"; exit 0; }
done
rounds=${1:-3}
work=$(mktemp -d)
server=
stop() { [ -z "$server" ] || { exec {hold}>&-; wait "$server" 2>/dev/null || true; server=; }; }
trap 'stop; rm -rf "$work"' EXIT

cargo build -q --release -p exhibit-acquire --example ebs_server
cargo build -q --release -p exhibit-cli --no-default-features --features cloud
target=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release
export AWS_ACCESS_KEY_ID=AKIASAMPLE AWS_SECRET_ACCESS_KEY=sample AWS_REGION=eu-central-1 AWS_EC2_METADATA_DISABLED=true
export XDG_DATA_HOME=$work/keys XDG_CONFIG_HOME=$work/config
unset AWS_PROFILE || true
id=snap-0123456789abcdef0

serve() { # CONTENT RATE: starts the server, and tells $endpoint once it answers
  mkfifo "$work/hold"
  "$target/examples/ebs_server" 0 "$1" "$2" 5 < "$work/hold" > "$work/server" &
  server=$!
  exec {hold}> "$work/hold"
  rm "$work/hold"
  until endpoint=$(grep -m1 http "$work/server"); do sleep 0.1; done
}

measure() { # NAME COMMAND...: appends "seconds KiB CPU-seconds" to NAME's file
  local name=$1
  shift
  /usr/bin/time -v -o "$work/time" "$@" > /dev/null 2> "$work/errors" || { cat "$work/errors"; exit 1; }
  awk -F': ' '/Elapsed/ { n = split($NF, t, ":"); s = 0; for (i = 1; i <= n; i++) s = s * 60 + t[i] }
    /Maximum resident/ { m = $2 }
    /User time|System time/ { c += $2 } END { print s, m, c }' "$work/time" >> "$work/$name"
}

coldsnap_into() { # NAME: a run that does not end with every block is one too, and is counted
  rm -f "$work"/out.img*
  /usr/bin/time -v -o "$work/time" coldsnap --endpoint "$endpoint" download --no-progress "$id" "$work/out.img" > /dev/null 2> "$work/errors" ||
    echo "  coldsnap did not get every block: $(grep -o 'Failed to get.*' "$work/errors" | head -c 100)"
  awk -F': ' '/Elapsed/ { n = split($NF, t, ":"); s = 0; for (i = 1; i <= n; i++) s = s * 60 + t[i] }
    /Maximum resident/ { m = $2 }
    /User time|System time/ { c += $2 } END { print s, m, c }' "$work/time" >> "$work/$1"
  rm -f "$work"/out.img*
}

exhibit() { # NAME ACQUIRE-ARGUMENTS...: into a case of its own
  local name=$1
  shift
  rm -rf "$work/case"
  "$target/exhibit" -q init "$work/case" --name bench --examiner nobody > /dev/null
  measure "$name" "$target/exhibit" -q acquire "$@" --case "$work/case"
  rm -rf "$work/case"
}

median() { sort -n "$work/$1" | awk '{ t[NR] = $1; if ($2 > m) m = $2; c += $3 } END { print t[int((NR + 1) / 2)], m, c / NR }'; }
row() { # LABEL NAME BYTES OTHER: time, rate, memory, and how many times as fast as OTHER
  read -r s m c < <(median "$2")
  read -r other _ < <(median "${4:-$2}")
  awk -v label="$1" -v s="$s" -v m="$m" -v c="$c" -v bytes="$3" -v other="$other" \
    'BEGIN { printf "%-44s %7.2f s %7.2f CPU s %6.0f MiB/s %6.1f MiB peak %6.2fx\n", label, s, c, bytes / 1048576 / s, m / 1024, other / s }'
}

echo "cap of 1,000 blocks a second"
for content in zeros:8 text:8; do
  serve "$content" 1000
  for _ in $(seq "$rounds"); do exhibit "cap-$content" ebs "$id" --endpoint-url "$endpoint"; done
  if command -v coldsnap >/dev/null && [ "$content" = zeros:8 ]; then coldsnap_into cap-coldsnap; fi
  stop
  read -r s m c < <(median "cap-$content")
  awk -v s="$s" -v m="$m" -v c="$c" -v content="$content" -v server="$(tail -1 "$work/server")" \
    'BEGIN { printf "%-10s %.3f of the cap, %.2f s, %.2f CPU s, %.1f MiB peak (%s)\n", content, 16384 / s / 1000, s, c, m / 1024, server }'
done

if [ -f "$work/cap-coldsnap" ]; then
  row "  coldsnap download, zeros:8" cap-coldsnap 8589934592
  row "  exhibit acquire ebs (x of coldsnap)" cap-zeros:8 8589934592 cap-coldsnap
fi

{ tar -C / -cf - usr 2>/dev/null || true; } | head -c 1073741824 > "$work/usr" || true
head -c 1073741824 /dev/urandom > "$work/noise"
truncate -s 1G "$work/zeros"
for content in zeros usr noise; do
  echo "$content, $(stat -c %s "$work/$content") bytes"
  cat "$work/$content" > /dev/null
  serve "$work/$content" 0
  for _ in $(seq "$rounds"); do
    exhibit "disk-$content" disk "$work/$content"
    exhibit "ebs-$content" ebs "$id" --endpoint-url "$endpoint" --max-req 100000
    if command -v coldsnap >/dev/null; then
      coldsnap_into "coldsnap-$content"
    fi
  done
  stop
  row "  exhibit acquire disk" "disk-$content" 1073741824
  row "  exhibit acquire ebs (x of acquire disk)" "ebs-$content" 1073741824 "disk-$content"
  if [ -f "$work/coldsnap-$content" ]; then
    row "  coldsnap download" "coldsnap-$content" 1073741824
    row "  exhibit acquire ebs (x of coldsnap)" "ebs-$content" 1073741824 "coldsnap-$content"
  fi
done
