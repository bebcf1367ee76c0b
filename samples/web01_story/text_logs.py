"""audit.log, the web server's logs, the package logs and the container's log, from what the host did."""

import json

from .clock import SECOND, in_berlin, in_utc, local
from .everyday import CONTAINER


def audit(host):
    lines = []
    for serial, (t, _, records) in enumerate(sorted(host.audit, key=lambda r: r[:2]), 2101):
        stamp = f"{t // SECOND}.{t // 1000 % 1000:03d}:{serial}"
        for kind, body, enriched in records:
            tail = f"\x1d{enriched}" if enriched else ""
            lines.append(f"type={kind} msg=audit({stamp}): {body}{tail}\n")
    return "".join(lines)


def _daily(lines, name, text):
    """The lines of today, and of the days before as `.1`, `.2`, `.3`."""
    files = {}
    for t, *rest in sorted(lines):
        age = sum(t < local(f"2026-11-{day:02d} 00:00:00") for day in (2, 3, 4))
        files.setdefault(name + (f".{age}" if age else ""), []).append(text(t, rest))
    return {name: "".join(lines) for name, lines in files.items()}


def nginx_access(host):
    return _daily(host.web, "access.log", lambda t, r: f"{r[1]} - - [{in_berlin(t):%d/%b/%Y:%H:%M:%S %z}] {r[2]}\n")


def nginx_errors(host):
    return _daily(host.web_errors, "error.log", lambda t, r: f"{in_berlin(t):%Y/%m/%d %H:%M:%S} {r[1]}\n")


def apt_history(host):
    """Current year and the year before, as two files."""
    files = {}
    for start, end, line, by, action, packages in sorted(host.apt):
        name = "history.log.1" if start < local("2026-11-01 00:00:00") else "history.log"
        what = ", ".join(f"{p}:amd64 ({v})" if action == "Install" else f"{p}:amd64 ({_older(v)}, {v})" for p, v in packages)
        user = f"Requested-By: {by}\n" if by and action != "Install" else ""
        files.setdefault(name, []).append(
            f"\nStart-Date: {in_berlin(start):%Y-%m-%d  %H:%M:%S}\nCommandline: {line}\n{user}{action}: {what}\n"
            f"End-Date: {in_berlin(end):%Y-%m-%d  %H:%M:%S}\n")
    return {name: "".join(runs) for name, runs in files.items()}


def _older(version):
    return version[:-1] + str(int(version[-1]) - 1) if version[-1] in "3456789" else version + "~"


def dpkg(host):
    files = {}
    for start, end, _, _, action, packages in sorted(host.apt):
        name = "dpkg.log.1" if start < local("2026-11-01 00:00:00") else "dpkg.log"
        lines = [(start + SECOND, "startup archives unpack")]
        for n, (package, version) in enumerate(packages):
            t, p = start + (2 + n) * SECOND, f"{package}:amd64"
            old = "<none>" if action == "Install" else _older(version)
            lines += [(t, f"{action.lower()} {p} {old} {version}"), (t, f"status half-installed {p} {version}"),
                      (t, f"status unpacked {p} {version}"), (t + SECOND, f"configure {p} {version} <none>"),
                      (t + SECOND, f"status half-configured {p} {version}"), (t + SECOND, f"status installed {p} {version}")]
        text = [f"{in_berlin(t):%Y-%m-%d %H:%M:%S} {words}\n" for t, words in lines]
        files.setdefault(name, []).extend(text)
    return {name: "".join(lines) for name, lines in files.items()}


def container_log(host):
    out = []
    for ns, stream, text in sorted(host.container):
        when = f"{in_utc(ns // 1000):%Y-%m-%dT%H:%M:%S}.{ns % 10**9:09d}Z"
        out.append(json.dumps({"log": text, "stream": stream, "time": when}, separators=(",", ":")) + "\n")
    return "".join(out)


def container_config():
    return json.dumps({
        "ID": CONTAINER, "Name": "/shop", "Created": "2026-10-19T04:12:31.204518893Z", "Path": "/usr/bin/shop", "Args": ["serve"],
        "State": {"Running": True, "Pid": 1290, "StartedAt": "2026-10-19T04:12:32.011873455Z", "FinishedAt": "0001-01-01T00:00:00Z"},
        "Image": "sha256:" + "7d" * 32, "Config": {"Hostname": CONTAINER[:12], "Image": "registry.example/shop:4.2"},
        "LogPath": f"/var/lib/docker/containers/{CONTAINER}/{CONTAINER}-json.log"}, separators=(",", ":"))
