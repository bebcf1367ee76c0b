#!/bin/sh
# Measures plaso and exhibit on the same image, one after the other, and prints both and their ratios.
#
#     benches/timeline_vs_plaso.sh IMAGE PLASO_VENV [FOLDER]
#
# IMAGE        a raw disk image
# PLASO_VENV   a Python environment with plaso in it (pip install plaso)
# FOLDER       where results are kept; else a temporary folder, removed at the end
#
# Environment: EXHIBIT is the binary (else it is built, in release mode); WORKERS is plaso's number of workers (2).
# Needs /usr/bin/time (GNU). The image is read once beforehand, so that both find it in memory.
# Memory is the largest resident set of one process: plaso runs several, so its sum is larger than shown.
set -eu

if [ $# -lt 2 ] || [ $# -gt 3 ]; then
    sed -n '4,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
image=$1
venv=$2
workers=${WORKERS:-2}
for needed in "$image" "$venv/bin/log2timeline" "$venv/bin/psort" /usr/bin/time; do
    [ -e "$needed" ] || { echo "error: $needed is not there" >&2; exit 2; }
done

if [ -z "${EXHIBIT:-}" ]; then
    project=$(cd "$(dirname "$0")/.." && pwd)
    cargo build --release --quiet --manifest-path "$project/Cargo.toml" -p exhibit-cli
    EXHIBIT=${CARGO_TARGET_DIR:-$project/target}/release/exhibit
fi

if [ $# -eq 3 ]; then
    work=$3
    mkdir -p "$work"
    [ -z "$(ls -A "$work")" ] || { echo "error: $work is not empty: name a new folder" >&2; exit 2; }
else
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
fi
work=$(cd "$work" && pwd)
image=$(cd "$(dirname "$image")" && pwd)/$(basename "$image")
# A case needs a signing key: one for this run, so that the user's own keys are left alone.
XDG_DATA_HOME=$work/keys
export XDG_DATA_HOME

# measure NAME MOST COMMAND…: runs it in $work; an exit code above MOST stops the script.
measure() {
    name=$1 most=$2
    shift 2
    code=0
    (cd "$work" && exec /usr/bin/time -v -o "$work/$name.time" "$@") >"$work/$name.out" 2>"$work/$name.err" || code=$?
    if [ "$code" -gt "$most" ]; then
        echo "error: $name ended with $code:" >&2
        tail -n 20 "$work/$name.err" >&2
        exit 4
    fi
}

# Seconds of wall clock: the line says h:mm:ss or m:ss.
wall() {
    awk '/Elapsed \(wall clock\)/ { n = split($NF, p, ":"); s = 0; for (i = 1; i <= n; i++) s = s * 60 + p[i]; printf "%.2f", s }' "$work/$1.time"
}
processor() {
    awk -F': ' '/(User|System) time/ { s += $2 } END { printf "%.2f", s }' "$work/$1.time"
}
memory() {
    awk -F': ' '/Maximum resident set size/ { printf "%.0f", $2 / 1024 }' "$work/$1.time"
}
row() {
    printf '%-24s %10s %10s %10s %12s\n' "$1" "$(wall "$2")" "$(processor "$2")" "$(memory "$2")" "$3"
}

cat "$image" >/dev/null

# The working folder is $work: plaso writes its log files where it is started.
measure log2timeline 0 "$venv/bin/log2timeline" -u -q --status_view none -z UTC --partitions all --volumes all \
    --workers "$workers" --storage_file "$work/plaso.plaso" "$image"
measure psort 0 "$venv/bin/psort" -u -q --status_view none -a -o json_line -w "$work/plaso.jsonl" "$work/plaso.plaso"

# Exhibit ends with 1 when it is done and has issues to list.
measure init 0 "$EXHIBIT" init "$work/case" --name benchmark --examiner benchmark
measure acquire 1 "$EXHIBIT" acquire disk "$image" --case "$work/case" --no-progress
measure timeline 1 "$EXHIBIT" timeline "$work/case" --no-progress
measure count 0 "$EXHIBIT" sql "$work/case" 'SELECT COUNT(*) AS n FROM events' --json

plaso_events=$(wc -l <"$work/plaso.jsonl")
exhibit_events=$(tr -dc 0-9 <"$work/count.out")

echo "image    $(basename "$image"), $(wc -c <"$image") bytes"
echo "machine  $(nproc) cores, $(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo)"
echo "plaso    $("$venv/bin/log2timeline" --version 2>&1 | tail -n 1), $workers workers"
echo "exhibit  $("$EXHIBIT" --version)"
echo
printf '%-24s %10s %10s %10s %12s\n' '' 'wall s' 'CPU s' 'peak MiB' events
row 'plaso log2timeline' log2timeline -
row 'plaso psort' psort "$plaso_events"
row 'exhibit acquire disk' acquire -
row 'exhibit timeline' timeline "$exhibit_events"
echo
awk -v l="$(wall log2timeline)" -v p="$(wall psort)" -v a="$(wall acquire)" -v t="$(wall timeline)" \
    -v lm="$(memory log2timeline)" -v pm="$(memory psort)" -v tm="$(memory timeline)" \
    -v pe="$plaso_events" -v ee="$exhibit_events" '
function ratio(x, y) { return y > 0 ? sprintf("%.1f", x / y) : "-" }
BEGIN {
    plaso = l + p
    print "plaso (log2timeline + psort) / exhibit timeline, wall:           " ratio(plaso, t)
    print "plaso (log2timeline + psort) / exhibit acquire + timeline, wall: " ratio(plaso, a + t)
    print "events a second: plaso " ratio(pe, plaso) ", exhibit timeline " ratio(ee, t)
    print "exhibit timeline / plaso, peak memory of one process:            " ratio(tm, lm > pm ? lm : pm)
}'
