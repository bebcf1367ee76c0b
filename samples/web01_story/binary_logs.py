"""utmp and lastlog records as glibc writes them on x86_64."""

import ipaddress
import struct

_UTMP = struct.Struct("<h2xi32s4s32s256shhiii16s20s")
_LASTLOG = struct.Struct("<i32s256s")


def utmp(records):
    """Records of (time, order, (type, pid, line, id, user, host, session)), in their order in time."""
    out = []
    for t, _, (kind, pid, line, ident, user, host, session) in sorted(records):
        out.append(_UTMP.pack(kind, pid, line.encode(), ident.encode(), user.encode(), host.encode(), 0, 0, session,
                              t // 1_000_000, t % 1_000_000, _address(host), b""))
    return b"".join(out)


def _address(host):
    try:
        return ipaddress.ip_address(host).packed
    except ValueError:
        return b""


def lastlog(logins):
    """One slot for each uid up to the largest; `logins` is (uid, name) -> (time, line, host), the latest of a uid counts."""
    slots = {}
    for (uid, _), login in logins.items():
        slots[uid] = max(slots.get(uid, login), login)
    out = bytearray(_LASTLOG.size * (max(slots) + 1))
    for uid, (t, line, host) in slots.items():
        _LASTLOG.pack_into(out, uid * _LASTLOG.size, t // 1_000_000, line.encode(), host.encode())
    return bytes(out)
