#!/usr/bin/env python3
"""Makes the journals in samples/systemd_journal/: run it in samples/.

`plain` and `compact_zstd` come from systemd's own `systemd-journal-remote` (and are compressed, for they are 8 MiB of
mostly zeros); `lz4`, `xz` and the damaged one from the writer below, which follows systemd's "Journal File Format".
Everything in them is made up; addresses and names are those that RFC 5737 and RFC 2606 set aside.
"""
import lzma
import os
import struct
import subprocess
import tempfile

START = 1_794_182_400_000_000  # 2026-11-09T00:00:00Z
BOOT = "0d5c1f7be2a94f8ca1b2c3d4e5f60718"
MACHINE = "3f1c9a0d5be24b7f8a6d2c41e07b9a55"
TRACE = "Traceback (most recent call last):\n" + "".join(
    f'  File "/srv/shop/app/step_{i}.py", line {i}, in step_{i}\n    return step_{i + 1}(order)\n' for i in range(14)
) + "ValueError: order 4711 has no items"


def entries():
    """Fields of each entry, in the order in which they were sent, and how late journald wrote it."""
    def entry(ident, pid, uid, message, unit=None, priority=6, **more):
        fields = [("PRIORITY", str(priority)), ("_BOOT_ID", BOOT), ("_MACHINE_ID", MACHINE), ("_HOSTNAME", "shop01")]
        fields += [("SYSLOG_IDENTIFIER", ident)]
        if pid:
            fields += [("_PID", str(pid)), ("_UID", str(uid)), ("_GID", str(uid)), ("_COMM", ident[:15])]
        if unit:
            fields += [("_SYSTEMD_UNIT", unit), ("_SYSTEMD_CGROUP", "/system.slice/" + unit)]
        if message is not None:
            fields.append(("MESSAGE", message))
        return fields + [(key.rstrip("_"), value) for key, values in more.items()
                         for value in (values if isinstance(values, list) else [values])]

    ssh = "ssh.service"
    yield entry("kernel", 0, 0, "Linux version 6.1.0-39-amd64 (debian-kernel@lists.example.org)", priority=5,
                _TRANSPORT="kernel", SYSLOG_FACILITY="0", _SOURCE_MONOTONIC_TIMESTAMP="0")
    yield entry("systemd", 1, 0, "Started ssh.service - OpenBSD Secure Shell server.", "init.scope", UNIT=ssh,
                MESSAGE_ID="39f53479d3a045ac8e11786248231fbf", JOB_TYPE="start", JOB_RESULT="done")
    for i in range(6):
        yield entry("sshd", 700 + i, 0, f"Failed password for root from 203.0.113.{10 + i} port {40000 + i} ssh2", ssh,
                    SYSLOG_FACILITY="10", _CMDLINE="sshd: root [priv]")
    yield entry("sshd", 710, 0, "Accepted publickey for jane from 198.51.100.23 port 50122 ssh2: ED25519 "
                "SHA256:AAAAB3NzaC1yc2EAAAADAQABAAABgQC7examplekey", ssh, SYSLOG_FACILITY="10",
                _CMDLINE="sshd: jane [priv]", _EXE="/usr/sbin/sshd")
    yield entry("sudo", 720, 1000, "    jane : TTY=pts/0 ; PWD=/home/jane ; USER=root ; COMMAND=/usr/bin/cat /etc/shadow",
                "session-3.scope", priority=5, SYSLOG_FACILITY="10", _CMDLINE="sudo cat /etc/shadow")
    yield entry("CRON", 730, 0, "(root) CMD (/usr/local/bin/backup --quiet)", "cron.service", SYSLOG_FACILITY="9")
    yield entry("shop", 740, 33, TRACE, "shop.service", priority=3, CODE_FILE="/srv/shop/app/step_13.py", CODE_LINE="13")
    yield entry("shop", 740, 33, "binary field follows", "shop.service", PAYLOAD=b"\x00\x01\xfe\xff=\n\x80", PAYLOAD_SIZE="7")
    yield entry("shop", 740, 33, b"caf\xe9 closed", "shop.service", priority=4)
    yield entry("shop", 740, 33, None, "shop.service", ORDER="4711")
    yield entry("shop", 740, 33, "two values for one key", "shop.service", TAG=["red", "green"])
    yield entry("nginx", 0, 0, '192.0.2.40 - - "GET / HTTP/1.1" 200', "docker.service",
                CONTAINER_NAME="web", CONTAINER_ID="9c1f4c0e6f9b", CONTAINER_ID_FULL="9c1f4c0e6f9b" + "0" * 52)
    for i in range(6):
        yield entry("shop", 740, 33, f"order {4711 + i} paid\nby invoice", "shop.service", N_ITEMS=str(i))
    yield entry("systemd-logind", 512, 0, "New session 3 of user jane.", "systemd-logind.service", priority=6,
                SESSION_ID="3", USER_ID="jane", LEADER="710", MESSAGE_ID="8d45620c1a4348dbb17410da57c60c66")
    yield entry("systemd", 1, 0, "Stopped shop.service - The shop.", "init.scope", UNIT="shop.service")


def timed():
    for i, fields in enumerate(entries()):
        sent = START + 61_000_000 * i
        late = [0, 117, 3_400][i % 3]
        if i % 4 != 3:  # Some senders give no time of their own.
            fields.append(("_SOURCE_REALTIME_TIMESTAMP", str(sent)))
        yield sent + late, 5_000_000 + 61_000_000 * i, [(k, v if isinstance(v, bytes) else v.encode()) for k, v in fields]


def jenkins(data):
    """lookup3's hashlittle2 from 0 and 0."""
    mask = 0xFFFFFFFF

    def rot(x, k):
        return (x << k | x >> (32 - k)) & mask

    a = b = c = (0xDEADBEEF + len(data)) & mask
    while len(data) > 12:
        x, y, z = struct.unpack("<3I", data[:12])
        a, b, c = a + x & mask, b + y & mask, c + z & mask
        for k in (4, 6, 8, 16, 19, 4):
            a = a - c & mask ^ rot(c, k)
            c = c + b & mask
            a, b, c = b, c, a
        data = data[12:]
    if data:
        x, y, z = struct.unpack("<3I", data.ljust(12, b"\0"))
        a, b, c = a + x & mask, b + y & mask, c + z & mask
        for k in (14, 11, 25, 16, 4, 14, 24):
            c = (c ^ b) - rot(b, k) & mask
            a, b, c = b, c, a
        # After seven turns the three have moved by one.
        a, b, c = c, a, b
    return c << 32 | b


def lz4_block(data):
    """The last sequence is literals only; matches are found by their first four bytes."""
    out, at, kept, seen = bytearray(), 0, 0, {}

    def sequence(literals, offset=0, match=0):
        def more(n):
            return bytes([255] * (n // 255) + [n % 255])
        n, m = len(literals), match - 4
        out.append(min(n, 15) << 4 | (min(m, 15) if match else 0))
        out.extend(more(n - 15) if n >= 15 else b"")
        out.extend(literals)
        if match:
            out.extend(struct.pack("<H", offset) + (more(m - 15) if m >= 15 else b""))

    while at + 12 < len(data):
        before = seen.get(data[at:at + 4])
        seen[data[at:at + 4]] = at
        if before is None or at - before > 65535:
            at += 1
            continue
        match = 4
        while at + match < len(data) - 5 and data[before + match] == data[at + match]:
            match += 1
        sequence(data[kept:at], at - before, match)
        at += match
        kept = at
    sequence(data[kept:])
    return bytes(out)


class Journal:
    """Writes a journal: regular layout, Jenkins hashes, a small hash table."""

    def __init__(self, codec):
        flags = {"xz": 1, "lz4": 2}.get(codec, 0)
        self.codec, self.flag = codec, flags
        self.bytes = bytearray(240)
        self.ids = bytes.fromhex("5a5d3b7c9e0f4a1b8c2d3e4f50617283"), bytes.fromhex("c0ffee00112233445566778899aabbcc")
        self.tables = {}
        self.data, self.fields, self.entries = {}, {}, []
        self.data_table = self.add(4, bytes(16 * 61)) + 16
        self.field_table = self.add(5, bytes(16 * 31)) + 16
        self.counts = {1: 0, 2: 0, 3: 0, 6: 0}

    def add(self, kind, payload, flags=0):
        self.bytes.extend(bytes(-len(self.bytes) % 8))
        at = len(self.bytes)
        self.bytes += struct.pack("<BB6xQ", kind, flags, 16 + len(payload)) + payload
        self.tail = at
        return at

    def put(self, at, *numbers):
        struct.pack_into(f"<{len(numbers)}Q", self.bytes, at, *numbers)

    def get(self, at):
        return struct.unpack_from("<Q", self.bytes, at)[0]

    def link(self, table, buckets, at, value):
        """Hangs an object into its hash chain."""
        place = table + 16 * (value % buckets)
        if self.get(place):
            self.put(self.get(place + 8) + 24, at)
        else:
            self.put(place, at)
        self.put(place + 8, at)

    def datum(self, name, value):
        payload = name.encode() + b"=" + value
        if payload in self.data:
            return self.data[payload]
        stored, flags = payload, 0
        if self.codec and len(payload) >= 512:
            flags = self.flag
            if self.codec == "lz4":
                stored = struct.pack("<Q", len(payload)) + lz4_block(payload)
            else:
                stored = lzma.compress(payload, format=lzma.FORMAT_XZ, check=lzma.CHECK_NONE)
        value = jenkins(payload)
        at = self.add(1, struct.pack("<6Q", value, 0, 0, 0, 0, 0) + stored, flags)
        self.counts[1] += 1
        self.link(self.data_table, 61, at, value)
        if name not in self.fields:
            self.fields[name] = self.add(2, struct.pack("<3Q", jenkins(name.encode()), 0, 0) + name.encode())
            self.counts[2] += 1
            self.link(self.field_table, 31, self.fields[name], jenkins(name.encode()))
        field = self.fields[name]
        self.put(at + 32, self.get(field + 32))
        self.put(field + 32, at)
        self.data[payload] = at, value
        return at, value

    def entry(self, realtime, monotonic, fields):
        items = sorted({self.datum(name, value) for name, value in fields})
        xor = 0
        for _, value in items:
            xor ^= value
        number = len(self.entries) + 1
        head = struct.pack("<3Q", number, realtime, monotonic) + bytes.fromhex(BOOT) + struct.pack("<Q", xor)
        at = self.add(3, head + b"".join(struct.pack("<2Q", *item) for item in items))
        for data, _ in items:
            if not self.get(data + 40):
                self.put(data + 40, at)
            self.put(data + 56, self.get(data + 56) + 1)
        self.entries.append((at, realtime, monotonic))
        return at

    def finish(self, state, linked=None, room=0):
        """Arrays for the first `linked` entries, then the header."""
        linked = len(self.entries) if linked is None else linked
        first = before = 0
        done, length = 0, 4
        while done < linked:
            part = [at for at, _, _ in self.entries[done:min(linked, done + length)]]
            at = self.add(6, struct.pack(f"<{1 + length}Q", 0, *(part + [0] * (length - len(part)))))
            self.counts[6] += 1
            if before:
                self.put(before + 16, at)
            first, before = first or at, at
            done, length = done + length, length * 2
        self.bytes.extend(bytes(-len(self.bytes) % 8 + room))
        file_id, seqnum_id = self.ids
        last = self.entries[-1]
        header = b"LPKSHHRH" + struct.pack("<IIB7x", 0, self.flag, state) + file_id + bytes.fromhex(MACHINE)
        header += bytes.fromhex(BOOT) + seqnum_id
        header += struct.pack("<22Q", 240, len(self.bytes) - 240, self.data_table, 16 * 61, self.field_table, 16 * 31,
                              self.tail, 2 + sum(self.counts.values()) + len(self.entries), len(self.entries),
                              len(self.entries), 1, first, self.entries[0][1], last[1], last[2],
                              self.counts[1], self.counts[2], 0, self.counts[6], 0, 0, 0)[:240 - len(header)]
        self.bytes[:240] = header
        return first


def damaged():
    """An unclean file that was tampered with, `system.journal~`."""
    journal = Journal(None)
    all_entries = list(timed())
    for entry in all_entries[:12]:
        journal.entry(*entry)
    journal.bytes.extend(bytes(4096))  # A page that was never written.
    for entry in all_entries[12:]:
        journal.entry(*entry)
    first = journal.finish(1, linked=len(all_entries) - 2, room=1000)  # No array leads to the last two.
    data, entries = journal.bytes, [at for at, _, _ in journal.entries]

    def place(name, value):
        return journal.data[name + b"=" + value][0]

    # A message that was changed in place.
    at = place(b"MESSAGE", b"Failed password for root from 203.0.113.12 port 40002 ssh2")
    data[at + 64:][:0] = b""
    changed = bytes(data[at + 64:at + 100]).replace(b"root", b"mail")
    data[at + 64:at + 100] = changed
    # An entry that was led to the message of another.
    other = place(b"MESSAGE", b"Failed password for root from 203.0.113.14 port 40004 ssh2")
    mine = place(b"MESSAGE", b"Failed password for root from 203.0.113.13 port 40003 ssh2")
    for at in range(entries[5] + 64, entries[6] - 8, 16):
        if journal.get(at) == mine:
            journal.put(at, *[other, journal.get(other + 16)])
            break
    # A data object that was wiped, and an entry that was.
    at = place(b"CODE_LINE", b"13")
    data[at:at + 76] = bytes(76)
    data[entries[15]:entries[15] + 64] = bytes(64)
    # An array that leads to nowhere.
    second = journal.get(first + 16)
    journal.put(second + 24, len(data) + 4096)
    return bytes(data) + b"\xde\xad\xbe\xef" * 10


def export(path):
    with open(path, "wb") as file:
        for i, (realtime, monotonic, fields) in enumerate(timed()):
            file.write(f"__CURSOR=i={i + 1:x}\n__REALTIME_TIMESTAMP={realtime}\n".encode())
            file.write(f"__MONOTONIC_TIMESTAMP={monotonic}\n".encode())
            for name, value in fields:
                if b"\n" in value or not value.decode("utf-8", "replace").isprintable():
                    file.write(name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n")
                else:
                    file.write(name.encode() + b"=" + value + b"\n")
            file.write(b"\n")


def by_systemd(path, compact, compress):
    with tempfile.TemporaryDirectory() as folder:
        source, made = os.path.join(folder, "x.export"), os.path.join(folder, "x.journal")
        export(source)
        settings = dict(os.environ, SYSTEMD_JOURNAL_COMPACT=compact, SYSTEMD_JOURNAL_KEYED_HASH="1")
        subprocess.run(["/lib/systemd/systemd-journal-remote", f"--compress={compress}", "-o", made, source],
                       env=settings, check=True, capture_output=True)
        with open(made, "r+b") as file:  # The maker's own machine id does not belong into a sample.
            file.seek(40)
            file.write(bytes.fromhex(MACHINE))
        subprocess.run(["zstd", "-q", "-19", "-f", made, "-o", path], check=True)


def main():
    os.makedirs("systemd_journal", exist_ok=True)
    by_systemd("systemd_journal/plain.journal.zst", "0", "no")
    by_systemd("systemd_journal/compact_zstd.journal.zst", "1", "yes")
    for codec in ["lz4", "xz"]:
        journal = Journal(codec)
        for entry in timed():
            journal.entry(*entry)
        journal.finish(0)
        with open(f"systemd_journal/{codec}.journal", "wb") as file:
            file.write(journal.bytes)
    with open("systemd_journal/damaged.journal~", "wb") as file:
        file.write(damaged())


main()
