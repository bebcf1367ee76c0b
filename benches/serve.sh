#!/usr/bin/env bash
# How many alerts `exhibit serve` takes, each durable before its 202, and how long that takes. Needs hey, or ab (Debian: hey, apache2-utils).
# Usage: benches/serve.sh [EXHIBIT] [RATE] [SECONDS]    (default: target/release/exhibit, 500 a second, 30 seconds)
set -euo pipefail
exhibit="${1:-target/release/exhibit}" rate="${2:-500}" seconds="${3:-30}"
folder="$(mktemp -d "${TMPDIR:-/var/tmp}/exhibit-serve.XXXXXX")"
trap 'kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; rm -rf "$folder"' EXIT
pid=""

printf 'a secret that only the sender has' >"$folder/secret"
printf 'version = 1\n' >"$folder/rules.toml"
cat >"$folder/serve.toml" <<TOML
state = "state"
cases = "cases"
examiner = "Bench"
rules = "rules.toml"
[server]
listen = "127.0.0.1:0"
min_free_mib = 1
[[source]]
name = "guardduty"
kind = "guardduty"
[[source.authenticate]]
scheme = "bearer"
secret_files = ["secret"]
TOML
# A GuardDuty finding as EventBridge sends it, padded to 4 KiB, which is what real ones have.
python3 - "$folder/alert.json" <<'PY'
import json, sys
finding = {"version": "0", "id": "c8c4daa7-a20c-2f03-0070-b7393dd542ad", "detail-type": "GuardDuty Finding",
  "source": "aws.guardduty", "account": "111122223333", "time": "2026-11-21T11:58:00Z", "region": "eu-west-1", "resources": [],
  "detail": {"schemaVersion": "2.0", "accountId": "111122223333", "region": "eu-west-1", "partition": "aws",
    "id": "16afba5c5c43e07c9e3e5e2e544e95df", "arn": "arn:aws:guardduty:eu-west-1:111122223333:detector/d/finding/1",
    "type": "Backdoor:EC2/C&CActivity.B!DNS", "severity": 8, "title": "A domain of a command and control server",
    "createdAt": "2026-11-21T11:50:00Z", "updatedAt": "2026-11-21T11:57:00Z",
    "resource": {"resourceType": "Instance", "instanceDetails": {"instanceId": "i-0123456789abcdef0"}},
    "service": {"serviceName": "guardduty", "detectorId": "d", "count": 1, "eventFirstSeen": "2026-11-21T11:50:00Z",
      "eventLastSeen": "2026-11-21T11:57:00Z",
      "action": {"actionType": "DNS_REQUEST", "dnsRequestAction": {"domain": "c2.example"}}}}}
finding["detail"]["description"] = "d" * (4096 - len(json.dumps(finding)) - 20)
open(sys.argv[1], "w").write(json.dumps(finding))
PY
"$exhibit" serve --config "$folder/serve.toml" 2>"$folder/log" &
pid=$!
for _ in $(seq 100); do
  address="$(sed -n 's/.*"address":"\([^"]*\)".*/\1/p' "$folder/log" | head -1)"
  [ -n "$address" ] && break
  sleep 0.1
done
url="http://$address/alerts/guardduty"
auth="Authorization: Bearer a secret that only the sender has"

echo "== $(nproc) cores, state on $(stat -f -c %T "$folder"), body $(stat -c %s "$folder/alert.json") bytes"
if command -v hey >/dev/null; then
  # hey's rate is of each connection.
  connections=50
  echo "== at $rate a second, $connections connections, $seconds s"
  hey -z "${seconds}s" -c "$connections" -q "$((rate / connections))" -m POST -H "$auth" -T application/json \
    -D "$folder/alert.json" "$url" | grep -E "Requests/sec|Slowest|Average|% in|\[[0-9]+\]"
  echo "== as fast as it goes, 64 connections, $seconds s"
  hey -z "${seconds}s" -c 64 -m POST -H "$auth" -T application/json \
    -D "$folder/alert.json" "$url" | grep -E "Requests/sec|Slowest|Average|% in|\[[0-9]+\]"
else
  echo "== as fast as it goes, 64 connections, $seconds s (ab; hey is not there, so no fixed rate)"
  ab -q -k -t "$seconds" -n 10000000 -c 64 -H "$auth" -T application/json -p "$folder/alert.json" "$url" |
    grep -E "Requests per second|Failed|Non-2xx|50%|99%|100%|Complete requests"
fi
echo "== the service: $(grep -E 'VmHWM' "/proc/$pid/status" | tr -s '[:space:]' ' ')"
kill -TERM "$pid"
wait "$pid" || true
pid=""
echo "== stored: $(python3 -c "import sqlite3,sys; print(sqlite3.connect(sys.argv[1]).execute('select count(*) from deliveries').fetchone()[0])" "$folder/state/state.sqlite")"
