"""The systemd journal, written by systemd's own `systemd-journal-remote` from an export stream of ours.

The journal holds random ids; a small preloaded library answers getrandom(2) with a fixed sequence, so that the same
systemd and zstd versions give the same bytes.
"""

import os
import struct
import subprocess
import tempfile

from .clock import SECOND, local
from .host import AUTH, BOOT, CRON, KERN

MACHINE = "4c1d7b02e9a84f6c9d3e5a7b1f0c2d48"
_BOOT_ID = "b7e0c19a52d94f3ea6c8d1f20b3a4e57"
_TOOL = "/lib/systemd/systemd-journal-remote"
_FIXED_RANDOM = r"""
#include <stddef.h>
#include <sys/types.h>
ssize_t getrandom(void *to, size_t n, unsigned flags) {
    static unsigned long long s = 0x9E3779B97F4A7C15ull;
    unsigned char *p = to; (void)flags;
    for (size_t i = 0; i < n; i++) { s ^= s << 13; s ^= s >> 7; s ^= s << 17; p[i] = (unsigned char)(s >> 24); }
    return (ssize_t)n;
}
"""
_FACILITY = {AUTH: 10, CRON: 9, KERN: 0, 3: 3, 1: 1}


def entries(host):
    """What journald kept: all since 1 November, each as (time, fields)."""
    out = []
    for t, _, facility, severity, program, pid, message in host.sorted_said():
        if t < local("2026-11-01 00:00:00"):
            continue
        fields = {"PRIORITY": severity, "SYSLOG_FACILITY": _FACILITY[facility], "SYSLOG_IDENTIFIER": program, "MESSAGE": message,
                  "_HOSTNAME": "web01", "_MACHINE_ID": MACHINE, "_TRANSPORT": "syslog"}
        if facility == KERN:
            fields |= {"_TRANSPORT": "kernel", "MESSAGE": message.split("] ", 1)[1]}
        else:
            fields |= {"SYSLOG_PID": pid, "_PID": pid, "_COMM": program.lower(), "_UID": 0}
        if program in ("sshd", "cron"):
            fields["_SYSTEMD_UNIT"] = {"sshd": "ssh.service", "cron": "cron.service"}[program]
        out.append((t, fields))
    # A crash with a long backtrace (stored compressed), a message of many lines, and one that is not UTF-8.
    trace = "\n".join(f"#{n:<3} 0x{0x7f3a10 + n * 4096:016x} frame_{n} (php-fpm8.2 + 0x{n * 64:x})" for n in range(120))
    out.append((local("2026-11-03 01:31:12.204511"), {
        "PRIORITY": 2, "SYSLOG_IDENTIFIER": "systemd-coredump", "MESSAGE_ID": "fc2e22bc6ee647b6b90729ab34a250b1", "_PID": 90211,
        "MESSAGE": f"Process 90207 (php-fpm8.2) of user 33 dumped core.\n\n{trace}", "COREDUMP_UID": 33, "COREDUMP_COMM": "php-fpm8.2",
        "COREDUMP_STACKTRACE": trace, "_HOSTNAME": "web01", "_MACHINE_ID": MACHINE, "_TRANSPORT": "journal"}))
    out.append((local("2026-11-03 01:32:40.000007"), {
        "PRIORITY": 4, "SYSLOG_IDENTIFIER": "upload-check", "MESSAGE": b"name of an upload is not UTF-8: caf\xe9 \xff.jpg",
        "_PID": 812, "_UID": 33, "_HOSTNAME": "web01", "_MACHINE_ID": MACHINE, "_TRANSPORT": "stdout"}))
    out.sort(key=lambda entry: entry[0])
    return out


def _export(entries):
    for t, fields in entries:
        head = f"__REALTIME_TIMESTAMP={t}\n__MONOTONIC_TIMESTAMP={t - BOOT + 2 * SECOND}\n_BOOT_ID={_BOOT_ID}\n"
        yield head.encode()
        for name, value in fields.items():
            value = value if isinstance(value, bytes) else str(value).encode()
            if b"\n" in value or any(byte < 32 or byte > 126 for byte in value):
                yield name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
            else:
                yield name.encode() + b"=" + value + b"\n"
        yield b"\n"


def journal(host):
    """The bytes of `system.journal`."""
    with tempfile.TemporaryDirectory() as work:
        source, library, made = f"{work}/random.c", f"{work}/random.so", f"{work}/system.journal"
        with open(source, "w") as file:
            file.write(_FIXED_RANDOM)
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
        subprocess.run([_TOOL, "-o", made, "-"], input=b"".join(_export(entries(host))), check=True, stderr=subprocess.DEVNULL,
                       env=os.environ | {"LD_PRELOAD": library})
        with open(made, "rb") as file:
            data = bytearray(file.read())
    # The header names the machine that ran the tool; here it is the machine of the story.
    data[40:56] = bytes.fromhex(MACHINE)
    return bytes(data)
