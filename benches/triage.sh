#!/usr/bin/env bash
# Time and peak memory of a full triage of a root tree of 100,000 files. Goals: at most 180 s and 150 MiB.
#
#   benches/triage.sh [FILES]
#
# Makes the tree below $TMPDIR: logs, configuration, homes and programs of 1 to 16 KiB, some larger, and reads it as a mounted
# root, so that what runs on this machine does not count. Then, if EXHIBIT_BENCH_LIVE=1, the running system as well.
# EXHIBIT names the program; otherwise it is built in release mode without the timeline.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x /usr/bin/time ] || { echo "skipped: /usr/bin/time is not installed"; exit 0; }
files=${1:-100000}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -z "${EXHIBIT:-}" ]; then
  cargo build -q --release -p exhibit-cli --no-default-features
  EXHIBIT=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/exhibit
fi
python3 - "$work/root" "$files" <<'PY'
import os, random, sys
root, count = sys.argv[1], int(sys.argv[2])
random.seed(1)
noise = random.randbytes(1 << 20)
places = ["etc/app", "var/log/app", "home/jane/project", "root", "usr/bin", "usr/lib/x", "var/lib/dpkg/info", "srv/www", "opt/app/lib", "tmp"]
for folder in ["etc", "var", "home/jane"]:
    os.makedirs(f"{root}/{folder}", exist_ok=True)
open(f"{root}/etc/passwd", "w").write("root:x:0:0::/root:/bin/sh\njane:x:1000:1000::/home/jane:/bin/sh\n")
open(f"{root}/etc/hostname", "w").write("web01\n")
for n in range(count):
    place = places[n % len(places)]
    folder = f"{root}/{place}/{n // 1000:03d}"
    if n % 1000 < len(places):
        os.makedirs(folder, exist_ok=True)
    size = 1 << 20 if n % 2000 == 7 else random.randrange(1024, 16384)
    at = random.randrange(len(noise) - size + 1)
    kind = ".list" if "dpkg" in place else ".log" if "log" in place else ""
    with open(f"{folder}/f{n:06d}{kind}", "wb") as file:
        file.write(noise[at:at + size // 2] + b"2026-11-21 line of a log\n" * (size // 50))
    if "bin" in place:
        os.chmod(f"{folder}/f{n:06d}", 0o755)
PY
export XDG_DATA_HOME=$work/keys
"$EXHIBIT" -q key new > /dev/null
"$EXHIBIT" -q init "$work/case" --name bench --examiner bench > /dev/null
run() { # WHAT ARGUMENTS...
  local what=$1
  shift
  /usr/bin/time -f '%e %M %U %S' -o "$work/time" "$EXHIBIT" -q acquire triage --case "$work/case" --name "$what" --profile full "$@" > /dev/null 2> "$work/errors" || [ $? = 1 ]
  awk -v what="$what" '!/Command/ { printf "%-12s %7.1f s (goal 180)  %6.1f MiB (goal 150)  %6.1f CPU seconds\n", what, $1, $2 / 1024, $3 + $4 }' "$work/time"
}
echo "$files files, $(du -sm "$work/root" | cut -f1) MiB, $(nproc) cores"
run tree --root "$work/root"
if [ "${EXHIBIT_BENCH_LIVE:-}" = 1 ]; then
  run live
fi
