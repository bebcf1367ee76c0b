#!/usr/bin/env python3
"""Makes the login records in samples/utmp/ and samples/lastlog/: run it in samples/.

Everything in them is made up; addresses and names are those that RFC 5737, RFC 3849 and RFC 2606 set aside.
"""
import os
import socket
import struct

START = 1_794_182_400  # 2026-11-09T00:00:00Z
RUN_LVL, BOOT, NEW_TIME, OLD_TIME, INIT, LOGIN, USER, DEAD = range(1, 9)


def address(host):
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, host).ljust(16, b"\0")
        except OSError:
            pass
    return bytes(16)


def record(order, wide, kind, pid, line, ident, user, host, seconds, micros=0, exit=(0, 0)):
    head = struct.pack(order + "h2xi", kind, pid)
    head += line.encode().ljust(32, b"\0") + ident.encode().ljust(4, b"\0")
    head += user.encode().ljust(32, b"\0") + host.encode().ljust(256, b"\0")
    head += struct.pack(order + "hh", *exit)
    head += struct.pack(order + ("qqq" if wide else "iIi"), 0, seconds, micros)
    return (head + address(host)).ljust(400 if wide else 384, b"\0")


def history(order, wide):
    """Two boots, a clock change, and people who come and go."""
    made = []

    def add(minutes, kind, pid, line, ident, user, host="", micros=0, exit=(0, 0)):
        made.append(record(order, wide, kind, pid, line, ident, user, host, START + minutes * 60, micros, exit))

    kernel = "6.1.0-39-amd64"
    add(1, BOOT, 0, "~", "~~", "reboot", kernel, 500_000)
    add(2, RUN_LVL, ord("5"), "~", "~~", "runlevel", kernel, 250_000)
    add(2, INIT, 610, "tty1", "1", "", "")
    add(2, LOGIN, 610, "tty1", "1", "LOGIN", "")
    add(3, OLD_TIME, 0, "|", "~~", "date")
    add(4, NEW_TIME, 0, "{", "~~", "date")
    people = [("jane", "198.51.100.23"), ("deploy", "192.0.2.40"), ("ops", "2001:db8::17"), ("root", "")]
    for i in range(9):
        user, host = people[i % 4]
        line = f"pts/{i % 3}" if host else "tty1"
        add(10 + 97 * i, USER, 900 + i, line, line[-4:], user, host, 1_000 * i + 7)
        add(60 + 97 * i, DEAD, 900 + i, line, line[-4:], "", "", 31 * i, (15, 0) if i == 4 else (0, 0))
    add(1000, RUN_LVL, ord("0") + 256 * ord("5"), "~", "~~", "shutdown", kernel)
    add(1003, BOOT, 0, "~", "~~", "reboot", kernel)
    add(1004, RUN_LVL, ord("5"), "~", "~~", "runlevel", kernel)
    return made


def failed():
    names = ["root", "admin", "postgres", "oracle", "ubuntu", "jane", "test\xe9", ""]
    for i in range(26):
        host = f"203.0.113.{10 + i % 5}" if i % 9 else "2001:db8:bad::1"
        yield record("<", False, LOGIN, 4000 + i, "ssh:notty", "", names[i % 8], host, START + 7 * i, 1000 * i)


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


def main():
    write("utmp/wtmp", b"".join(history("<", False)))
    write("utmp/wtmp_s390x", b"".join(history(">", True)))
    write("utmp/wtmp_aarch64", b"".join(history("<", True)))
    write("utmp/btmp", b"".join(failed()))

    # A log that was tampered with: a wiped login, a type that is none, a time with impossible microseconds, a name
    # that was overwritten by a shorter one, and a last record that is cut.
    records = history("<", False)
    records[8] = bytes(384)
    records[12] = struct.pack("<h", 99) + records[12][2:]
    records[14] = records[14][:344] + struct.pack("<i", 5_000_000) + records[14][348:]
    records[16] = records[16][:44] + b"ann\0" + b"eliese".ljust(28, b"\0") + records[16][76:]
    write("utmp/wtmp_damaged", b"".join(records) + b"\x07" * 50)

    def lastlog(pack, uids):
        size = len(struct.pack(pack, 0)) + 288
        data = bytearray((max(uids) + 1) * size)
        for i, uid in enumerate(uids):
            host = ["", "192.0.2.40", "2001:db8::17", "gate.example.org"][i % 4]
            line = "tty1" if not host else f"pts/{i % 5}"
            entry = struct.pack(pack, START + 5000 * i) + line.encode().ljust(32, b"\0")
            data[uid * size:(uid + 1) * size] = (entry + host.encode()).ljust(size, b"\0")
        return bytes(data)

    uids = [0, 1, 33] + list(range(40, 64)) + [110]
    write("lastlog/lastlog", lastlog("<I", uids))
    write("lastlog/lastlog.1", lastlog(">Q", uids) + b"\0\0\0\0\x6a\xfc")


main()
