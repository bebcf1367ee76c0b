#!/bin/sh
# Makes case_v1/ and case_v1_kept/ anew, with the exhibit program that is named: samples/make_case_v1.sh PATH/TO/exhibit [FOLDER]
# Names, times and keys differ each time. The committed case is never made again: later versions must verify the old one.
# The committed one was made where host name and machine id were invented:
#   unshare -um sh -c 'hostname web01; mount --bind MACHINE-ID /etc/machine-id; samples/make_case_v1.sh PATH/TO/exhibit'
set -eu
exhibit=$(realpath "$1")
into=$(realpath "${2:-$(dirname "$0")}")
desk=/tmp/exhibit-case-v1
mkdir "$desk"
trap 'rm -rf "$desk"' EXIT
export XDG_DATA_HOME="$desk/data" XDG_CONFIG_HOME="$desk/config"
cd "$desk"

# A disk of 400,000 bytes that compresses well, and two small logs.
for n in 1 2 3 4 5 6 7 8; do seq -w 1 7500; done | head -c 300000 > disk.raw
head -c 100000 /dev/zero >> disk.raw
mkdir -p logs/var/log
for n in 1 2 3 4 5 6 7 8 9; do
  echo "Nov 21 01:3$n:00 web01 sshd[81$n]: Accepted publickey for deploy from 192.0.2.$n port 4022$n ssh2"
done > logs/var/log/auth.log
printf '203.0.113.7 - - [21/Nov/2026:01:30:00 +0000] "GET / HTTP/1.1" 200 612\n' > logs/var/log/access.log

"$exhibit" init case_v1 --name ir-2026-017 --examiner "J. Doe" --org "Example Lab" --authority "Warrant 17/2026"
"$exhibit" acquire disk disk.raw --case case_v1 --name web01-disk
"$exhibit" acquire logs logs --case case_v1 --name web01-logs
"$exhibit" custody note case_v1 "seal 0042 intact"
"$exhibit" key new --key store.pem
"$exhibit" key show --key store.pem --json > store.json
"$exhibit" custody transfer case_v1:E001 --to "Property store" --to-key "$(jq -r .fingerprint store.json)" --means "by hand"
"$exhibit" custody receive case_v1:E001 --key store.pem --condition "seal 0042 intact"
"$exhibit" custody note case_v1:E001 "stored in locker 7"
"$exhibit" verify case_v1 > /dev/null
"$exhibit" custody note case_v1 "copies counted: two"
mkdir -p case_v1_kept/anchors
cp case_v1/checkpoint case_v1_kept/anchors/receipt
"$exhibit" key show --json | jq -r .fingerprint > case_v1_kept/trusted
rm -rf "$into/case_v1" "$into/case_v1_kept"
cp -r case_v1 case_v1_kept "$into"
echo "now record in case_v1_kept/EXPECTED.tsv what the test frozen_case prints" >&2
