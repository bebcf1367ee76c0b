"""A Ceph object gateway with one monitor, one manager and one OSD in memory, on loopback and in a temporary folder.

Prints `PORT ACCESS SECRET` on its first line when it answers, or `unavailable: WHY`; ends when its standard input does.
"""

import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid

NEEDED = ["ceph-mon", "ceph-mgr", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "ceph-authtool", "monmaptool"]
folder = None
running = []


def end(code):
    for child in reversed(running):
        child.kill()
    for child in running:
        child.wait()
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.flush()
    os._exit(code)


def unavailable(why):
    print("unavailable:", " ".join(why.split())[:300], flush=True)
    end(0)


def until_input_ends():
    sys.stdin.buffer.read()
    end(0)


def free_ports(count):
    """Ports that nobody listens on just now, below those that the system gives to connections."""
    held = []
    while len(held) < count:
        one = socket.socket()
        try:
            one.bind(("127.0.0.1", 20000 + secrets.randbelow(10000)))
            held.append(one)
        except OSError:
            one.close()
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    if done.returncode != 0:
        unavailable(f"{command[0]} {command[1]} failed: {done.stderr[-300:]}")
    return done.stdout.strip()


def die_with_parent():
    # PR_SET_PDEATHSIG: no daemon outlives this process, however it ends.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def begin(*command):
    log = open(os.path.join(folder, command[0] + ".out"), "wb")
    running.append(
        subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, preexec_fn=die_with_parent)
    )


missing = [name for name in NEEDED if not shutil.which(name)]
if missing:
    unavailable("a Ceph gateway needs " + ", ".join(missing) + " (Debian: radosgw ceph-mon ceph-mgr ceph-osd ceph-common)")
folder = tempfile.mkdtemp(prefix="rgw-")
threading.Thread(target=until_input_ends, daemon=True).start()

mon_port, rgw_port = free_ports(2)
fsid, osd_uuid = str(uuid.uuid4()), str(uuid.uuid4())
access, secret = "T" + secrets.token_hex(9).upper(), secrets.token_hex(20)
conf = os.path.join(folder, "ceph.conf")
environment = dict(os.environ, CEPH_CONF=conf, PYTHONWARNINGS="ignore")
for name in ["mon", "mgr", "osd", "rgw", "run"]:
    os.mkdir(os.path.join(folder, name))
with open(conf, "w", encoding="utf-8") as out:
    out.write(f"""[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon_port}
public addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
run dir = {folder}/run
admin socket = {folder}/run/$name.asok
pid file =
log file =
log to stderr = false
crash dir = {folder}/run
keyring = {folder}/admin.keyring
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd class update on start = false
mon allow pool size one = true
mon cluster log file = {folder}/run/cluster.log
mon max pg per osd = 2000
mon data = {folder}/mon
mgr data = {folder}/mgr
mgr initial modules =
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
osd memory target = 939524096
[mgr.a]
keyring = {folder}/mgr/keyring
[osd.0]
keyring = {folder}/osd/keyring
[client.rgw.a]
keyring = {folder}/rgw/keyring
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{rgw_port}
rgw multipart min part size = 5242880
rgw relaxed s3 bucket names = false
""")
marks = [("start", time.monotonic())]
mark = lambda name: marks.append((name, time.monotonic()))


def keyring(name, path, *caps):
    pairs = [word for cap in caps for word in ("--cap", *cap)]
    run("ceph-authtool", "--create-keyring", path, "--gen-key", "-n", name, *pairs)


every = [("mon", "allow *"), ("osd", "allow *"), ("mgr", "allow *")]
keyring("mon.", f"{folder}/mon.keyring", ("mon", "allow *"))
keyring("client.admin", f"{folder}/admin.keyring", *every)
# The monitor takes the keys of all from its first keyring, which spares a command for each.
keyring("mgr.a", f"{folder}/mgr/keyring", ("mon", "allow profile mgr"), ("osd", "allow *"), ("mds", "allow *"))
keyring("osd.0", f"{folder}/osd/keyring", ("mon", "allow profile osd"), ("osd", "allow *"), ("mgr", "allow profile osd"))
keyring("client.rgw.a", f"{folder}/rgw/keyring", ("mon", "allow rw"), ("osd", "allow rwx"), ("mgr", "allow rw"))
for other in ["admin.keyring", "mgr/keyring", "osd/keyring", "rgw/keyring"]:
    run("ceph-authtool", f"{folder}/mon.keyring", "--import-keyring", f"{folder}/{other}")
run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon_port}]", f"{folder}/monmap")
run("ceph-mon", "--mkfs", "-i", "a", "--monmap", f"{folder}/monmap", "--keyring", f"{folder}/mon.keyring")
begin("ceph-mon", "-f", "-i", "a")
begin("ceph-mgr", "-f", "-i", "a")
mark("mon")
run("ceph", "--connect-timeout", "30", "osd", "create", osd_uuid, "0")
mark("osd create")
run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd_uuid)
begin("ceph-osd", "-f", "-i", "0")
mark("osd")
begin("radosgw", "-f", "-n", "client.rgw.a")
run("radosgw-admin", "-n", "client.rgw.a", "user", "create", "--uid", "test", "--display-name", "test",
    "--access-key", access, "--secret-key", secret)
mark("user")
deadline = time.monotonic() + 90
while True:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{rgw_port}/", timeout=5).read()
        break
    except urllib.error.HTTPError:
        break
    except OSError as error:
        if time.monotonic() > deadline or any(child.poll() is not None for child in running):
            unavailable(f"the gateway does not answer: {error}")
        time.sleep(0.1)
mark("gateway")
if "-v" in sys.argv:
    for (name, at), (_, before) in zip(marks[1:], marks):
        print(f"{name}: {at - before:.1f} s", file=sys.stderr)
print(rgw_port, access, secret, flush=True)
while True:
    time.sleep(3600)
