#!/usr/bin/env python3
"""Makes the tables of a live triage that the parsers live_processes, live_sockets and live_sessions are tested with.

A Debian web server with an intruder on it: a deleted executable, one in memory, a hidden process, a listener that the
kernel tells and /proc does not. All invented, in the strict JSON that the tables are written in.
"""

import json
from pathlib import Path

FOLDER = Path(__file__).parent
OBSERVED = "2026-11-21T01:30:00.{:09}Z"
BOOT = "2026-11-20T06:12:31.470000000Z"


def table(path, format, rows, **about):
    """Writes a table, and beside it one that is damaged: headless, cut, with lines of other things."""
    line = lambda row: json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    header = line({"format": format, "observed": OBSERVED.format(0), **about})
    lines = [line({"observed": OBSERVED.format(n * 1000), **row}) for n, row in enumerate(rows)]
    whole = FOLDER / path
    whole.parent.mkdir(parents=True, exist_ok=True)
    whole.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    damaged = FOLDER / path.replace("/V", "/damaged/V", 1)
    damaged.parent.mkdir(parents=True, exist_ok=True)
    broken = [header[7:], lines[0], lines[1][: len(lines[1]) // 2], "", "[1,2]", '{"a":1}', "\0\0\0", lines[2], lines[3][:-9]]
    damaged.write_text("\n".join(broken), encoding="utf-8")


def process(pid, ppid, name, start, command=None, exe=None, uid=0, **more):
    """A process that was started at a time of the day before or of that day."""
    row = {"pid": pid, "ppid": ppid, "name": name, "state": "S", "threads": 1, "uid": uid, "euid": uid, "gid": uid,
           "start": start, "start_basis": "wall clock less /proc/uptime", "cgroup": "/system.slice/" + name + ".service"}
    if exe:
        row |= {"exe": exe, "exe_sha256": f"{pid:064x}", "exe_size": 100000 + pid, "exe_inode": str(4000 + pid), "cwd": "/"}
    if command:
        row["cmdline"] = command
    return row | more


ID = "c0ffee" + "5a" * 29
boot = lambda seconds: f"2026-11-20T06:12:{31 + seconds:02}.470000000Z"
processes = [
    process(1, 0, "systemd", boot(0), "/sbin/init", "/usr/lib/systemd/systemd"),
    process(2, 0, "kthreadd", boot(0), kernel_thread=True),
    process(14, 2, "kworker/0:1", boot(1), kernel_thread=True),
    process(301, 1, "systemd-journal", boot(2), "/lib/systemd/systemd-journald", "/usr/lib/systemd/systemd-journald"),
    process(322, 1, "systemd-udevd", boot(2), "/lib/systemd/systemd-udevd", "/usr/lib/systemd/systemd-udevd"),
    process(610, 1, "cron", boot(5), "/usr/sbin/cron -f", "/usr/sbin/cron"),
    process(633, 1, "dbus-daemon", boot(5), "/usr/bin/dbus-daemon --system", "/usr/bin/dbus-daemon", uid=104),
    process(812, 1, "sshd", boot(6), "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups", "/usr/sbin/sshd"),
    process(840, 1, "nginx", boot(7), "nginx: master process /usr/sbin/nginx", "/usr/sbin/nginx"),
    process(841, 840, "nginx", boot(7), "nginx: worker process", "/usr/sbin/nginx", uid=33),
    process(842, 840, "nginx", boot(7), "nginx: worker process", "/usr/sbin/nginx", uid=33),
    process(911, 1, "mariadbd", boot(9), "/usr/sbin/mariadbd", "/usr/sbin/mariadbd", uid=110, threads=31,
            deleted_files=["/tmp/ibXXXX (deleted)"], copies=["/V2/proc/911/fd/9"]),
    process(990, 1, "containerd-shim", boot(12), "/usr/bin/containerd-shim-runc-v2 -namespace moby",
            "/usr/bin/containerd-shim-runc-v2"),
    process(1012, 990, "node", boot(13), "node /app/server.js", "/usr/local/bin/node", uid=1000, container=ID,
            container_by="docker", namespaces={"net": "4026532281", "pid": "4026532279"}),
    process(4217, 812, "sshd", "2026-11-21T00:58:14.120000000Z", "sshd: alice [priv]", "/usr/sbin/sshd"),
    process(4242, 4217, "sshd", "2026-11-21T00:58:15.310000000Z", "sshd: alice@pts/0", "/usr/sbin/sshd", uid=1000,
            loginuid="1000"),
    process(4243, 4242, "bash", "2026-11-21T00:58:15.330000000Z", "-bash", "/usr/bin/bash", uid=1000, tty="136:0"),
    process(4388, 1, "kworker/u8:9", "2026-11-21T01:04:41.900000000Z", "[kworker/u8:9]", "/dev/shm/.x", uid=0,
            exe_deleted=True, copies=["/V2/proc/4388/exe"], capabilities="000001ffffffffff"),
    process(4391, 4388, "implant", "2026-11-21T01:04:43.040000000Z", "[kworker/u8:10]", "/memfd:implant", uid=0,
            exe_deleted=True, exe_in_memory=True, copies=["/V2/proc/4391/exe"]),
    process(4402, 4391, "sh", "2026-11-21T01:05:00.000000000Z", "sh -c echo \\x1b[2J\\x0a", "/usr/bin/dash", uid=0),
    {"pid": 4666, "hidden": "not listed by /proc, known to kill(pid, 0)"},
    process(4700, 1, "gone", "2026-11-21T01:29:59.990000000Z", uid=65534, ended_meanwhile=True,
            errors=["exe: Permission denied (os error 13)"]),
]
table("live_processes/V2/processes.jsonl", "exhibit-live-processes/1", processes,
      boot=BOOT, boot_basis="wall clock less /proc/uptime", btime=1795155151, processes=len(processes), ticks_per_second=100)


def socket(protocol, local, remote, state, inode, pids, name, uid=0, netns="4026531840", **more):
    """A socket of an internet protocol."""
    sides = {}
    for side, (ip, port) in (("local", local), ("remote", remote)):
        sides |= {f"{side}_ip": ip, f"{side}_port": port}
    row = {"protocol": protocol, "state": state, "inode": str(inode), "uid": uid, "netns": netns,
           "receive_queue": 0, "send_queue": 0, **sides}
    return row | ({"pids": pids, "process": name} if pids else {}) | more


ANY, ANY6 = ("0.0.0.0", 0), ("::", 0)
OWN = "192.0.2.10"
sockets = [
    socket("tcp", ("0.0.0.0", 22), ANY, "LISTEN", 18001, [812], "sshd"),
    socket("tcp", ("0.0.0.0", 80), ANY, "LISTEN", 18002, [840, 841, 842], "nginx"),
    socket("tcp", ("0.0.0.0", 443), ANY, "LISTEN", 18003, [840, 841, 842], "nginx"),
    socket("tcp", ("127.0.0.1", 3306), ANY, "LISTEN", 18004, [911], "mariadbd", uid=110),
    socket("tcp", (OWN, 22), ("203.0.113.77", 51022), "ESTABLISHED", 40001, [4217, 4242], "sshd", inbound=True),
    socket("tcp", (OWN, 443), ("198.51.100.20", 40112), "ESTABLISHED", 40002, [841], "nginx", uid=33, inbound=True),
    socket("tcp", (OWN, 443), ("198.51.100.21", 40113), "ESTABLISHED", 40003, [842], "nginx", uid=33, inbound=True),
    socket("tcp", (OWN, 443), ("198.51.100.22", 40114), "TIME_WAIT", 0, [], None),
    socket("tcp", (OWN, 38122), ("203.0.113.66", 4444), "ESTABLISHED", 40010, [4391], "implant"),
    socket("tcp", ("0.0.0.0", 31337), ANY, "LISTEN", 40011, [4391], "implant",
           hidden="not listed by /proc/net, told by the socket monitor"),
    socket("tcp", ("127.0.0.1", 50001), ("127.0.0.1", 3306), "ESTABLISHED", 40012, [841], "nginx", uid=33),
    socket("tcp6", ("::", 22), ANY6, "LISTEN", 18011, [812], "sshd"),
    socket("tcp6", ("2001:db8::10", 22), ("2001:db8::bad", 50505), "CLOSE_WAIT", 40020, [4300], "sshd"),
    socket("tcp", ("0.0.0.0", 3000), ANY, "LISTEN", 22001, [1012], "node", uid=1000, netns="4026532281"),
    socket("udp", ("127.0.0.53", 53), ANY, "UNCONNECTED", 17001, [510], "systemd-resolve", uid=101),
    socket("udp", (OWN, 68), ANY, "UNCONNECTED", 17002, [499], "systemd-network", uid=100),
    socket("udp", (OWN, 47000), ("203.0.113.66", 53), "ESTABLISHED", 40030, [4391], "implant"),
    socket("udp6", ("fe80::1", 546), ANY6, "UNCONNECTED", 17003, [499], "systemd-network", uid=100),
    socket("raw", ("0.0.0.0", 1), ANY, "UNCONNECTED", 40040, [4391], "implant"),
    {"protocol": "packet", "inode": "40050", "uid": 0, "netns": "4026531840", "pids": [4391], "process": "implant",
     "name": "raw, protocol 0x0003, interface 2"},
    {"protocol": "unix", "state": "LISTEN", "inode": "15001", "netns": "4026531840", "pids": [911], "process": "mariadbd",
     "name": "/run/mysqld/mysqld.sock"},
    {"protocol": "unix", "state": "CONNECTED", "inode": "15002", "netns": "4026531840", "pids": [633],
     "process": "dbus-daemon"},
    {"protocol": "unix", "state": "LISTEN", "inode": "15003", "netns": "4026531840", "name": "@\\x0aabstract"},
]
table("live_sockets/V3/sockets.jsonl", "exhibit-live-sockets/1", sockets, namespaces=2)

login = lambda user, tty, pid, since, host="": {
    "kind": "login", "path": "/run/utmp", "user": user, "tty": tty, "pid": pid, "since": since,
    **({"remote_host": host} if host else {})}
made = lambda kind, path, uid, changed, **more: {"kind": kind, "path": path, "uid": uid, "changed": changed, **more}
DAY = "2026-11-20T{}.000000000Z"
NIGHT = "2026-11-21T{}.000000000Z"
sessions = [
    login("LOGIN", "tty1", 701, DAY.format("06:12:40")),
    login("root", "tty2", 702, DAY.format("06:20:11")),
    login("alice", "pts/0", 4242, NIGHT.format("00:58:15"), "203.0.113.77") | {"remote_ip": "203.0.113.77"},
    login("boris", "pts/1", 5001, NIGHT.format("01:10:00"), "jump.example.org"),
    {"kind": "session", "path": "/run/systemd/sessions/1", "id": "1", "uid": 0, "user": "root", "pid": 702, "tty": "tty2",
     "class": "user", "type": "tty", "state": "active", "service": "login", "since": DAY.format("06:20:11")},
    {"kind": "session", "path": "/run/systemd/sessions/7", "id": "7", "uid": 1000, "user": "alice", "pid": 4217,
     "remote_host": "203.0.113.77", "class": "user", "type": "tty", "state": "active", "service": "sshd",
     "since": "2026-11-21T00:58:15.241881000Z"},
    {"kind": "session", "path": "/run/systemd/sessions/8", "id": "8", "uid": 1001, "user": "boris", "pid": 4990,
     "remote_host": "2001:db8::77", "state": "closing", "service": "sshd", "since": "2026-11-21T01:10:00.000001000Z"},
    {"kind": "user", "path": "/run/systemd/users/0", "id": "0", "user": "root", "state": "active",
     "since": DAY.format("06:20:11")},
    {"kind": "user", "path": "/run/systemd/users/1000", "id": "1000", "user": "alice", "state": "active",
     "since": NIGHT.format("00:58:15")},
    made("runtime-folder", "/run/user/0", 0, DAY.format("06:20:11")),
    made("runtime-folder", "/run/user/1000", 1000, NIGHT.format("00:58:15")),
    {"kind": "terminal", "path": "/dev/pts/0", "tty": "pts/0", "uid": 1000,
     "last_input": "2026-11-21T01:29:01.118204551Z", "last_output": "2026-11-21T01:29:01.220417893Z"},
    {"kind": "terminal", "path": "/dev/pts/1", "tty": "pts/1", "uid": 1001,
     "last_input": "2026-11-21T01:12:44.000000001Z", "last_output": "2026-11-21T01:29:58.999999999Z"},
    made("tmux", "/tmp/tmux-1000/default", 1000, "2026-11-21T01:02:03.456789012Z"),
    made("screen", "/run/screen/S-root/2288.pts-0.web01", 0, NIGHT.format("01:06:00")),
    made("ssh-agent", "/tmp/ssh-XXXXxyz123/agent.4242", 1000, NIGHT.format("00:58:16")),
    made("user-socket", "/run/user/1000/gnupg/S.gpg-agent.ssh", 1000, NIGHT.format("00:58:15")),
    made("at-job", "/var/spool/cron/atjobs/a000010001c8b9e0", 33, NIGHT.format("01:07:30"), due="2026-11-29T02:40:00.000000000Z"),
    made("at-job", "/var/spool/cron/atjobs/odd", 0, NIGHT.format("01:07:31")),
    made("cron-table", "/var/spool/cron/crontabs/root", 0, NIGHT.format("01:08:00"), user="root"),
    made("cron-table", "/var/spool/cron/crontabs/bo\\x0aris", 1001, NIGHT.format("01:08:01"), user="bo\\x0aris"),
    {"kind": "x11-display", "path": "/tmp/.X11-unix/X0", "uid": 0, "since": "+0"},
]
table("live_sessions/V4/sessions.jsonl", "exhibit-live-sessions/1", sessions)
