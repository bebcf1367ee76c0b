"""Every file of web01: its bytes, owner, mode and times."""

import bz2
import gzip
import lzma
import os
import subprocess

from . import binary_logs, histories, journal, people, text_logs
from .clock import DAY, HOUR, MINUTE, SECOND, local, utc
from .everyday import CONTAINER, PAGES
from .ext4_image import INSTALLED, Node
from .host import BOOT, OFF
from .incident import AT, ATTACKER, BEAT, DROP, SHELL_PAGE
from .people import UID

ADM, APPEND_ONLY = 4, 0x20
_TIDY = {".gz": lambda b: gzip.compress(b, 9, mtime=0), ".xz": lambda b: lzma.compress(b, preset=6), ".bz2": lambda b: bz2.compress(b),
         ".zst": lambda b: subprocess.run(["zstd", "-q", "-19", "-c"], input=b, stdout=subprocess.PIPE, check=True).stdout}


class Tree:
    """Nodes by path; folders come by themselves. `truth` is [(path, records, words)]."""

    def __init__(self):
        self.nodes = {}
        self.truth = []
        self.add(Node("/", "dir", mode=0o755))
        self.add(Node("/lost+found", "dir", mode=0o700))

    def add(self, node):
        folder = os.path.dirname(node.path)
        if folder not in self.nodes and node.path != "/":
            self.add(Node(folder, "dir", mode=0o755))
        self.nodes[node.path] = node
        return node

    def file(self, path, content, mtime=INSTALLED, records=None, words="", **rest):
        content = content.encode() if isinstance(content, str) else content
        if records is not None:
            self.truth.append((path, records, words))
        return self.add(Node(path, "file", content, mtime=mtime, **rest))

    def folder(self, path, mtime=INSTALLED, mode=0o755, **rest):
        return self.add(Node(path, "dir", mtime=mtime, mode=mode, **rest))

    def link(self, path, target, mtime=INSTALLED):
        return self.add(Node(path, "link", target.encode(), mode=0o777, mtime=mtime))


def of(host):
    tree = Tree()
    _etc(tree)
    _logs(tree, host)
    _homes(tree)
    _site(tree)
    _container(tree, host)
    deleted = _intruder(tree)
    tree.truth.sort()
    # The audit log names auth.log by its inode, which follows from the order of paths.
    made = sorted(path for path in tree.nodes if path not in ("/", "/lost+found"))
    log = tree.nodes["/var/log/audit/audit.log"]
    log.content = log.content.replace(b"{AUTH_LOG_INODE}", b"%d" % (12 + made.index("/var/log/auth.log")))
    return tree, deleted


def _etc(tree):
    for name, text in {
        "hostname": "web01\n", "timezone": "Europe/Berlin\n", "machine-id": journal.MACHINE + "\n",
        "os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\n'
                      'VERSION="12 (bookworm)"\nVERSION_CODENAME=bookworm\nID=debian\n',
        "debian_version": "12.12\n", "hosts": "127.0.0.1\tlocalhost\n192.0.2.80\tweb01.example web01\n2001:db8::80\tweb01.example web01\n",
        "fstab": "UUID=5a0be1f4-3c52-4d7b-9b4e-77d1c1a3f0e2 / ext4 errors=remount-ro 0 1\n",
        "crontab": "SHELL=/bin/sh\n17 * * * * root cd / && run-parts --report /etc/cron.hourly\n",
        "ssh/sshd_config": "PasswordAuthentication yes\nPermitRootLogin yes\nUsePAM yes\n",
        "rsyslog.d/50-secure.conf": "# the old log server wants the traditional form\nif $programname != 'CRON' then {\n"
                                    "  auth,authpriv.* /var/log/secure;RSYSLOG_TraditionalFileFormat\n}\n",
        "logrotate.d/secure": "/var/log/secure {\n\tsize 30k\n\trotate 4\n\tcompress\n\tcompresscmd /usr/bin/xz\n\tcompressext .xz\n\tdelaycompress\n}\n",
        "logrotate.d/kern": "/var/log/kern.log {\n\tweekly\n\trotate 4\n\tcompress\n\tcompresscmd /usr/bin/bzip2\n\tcompressext .bz2\n\tdelaycompress\n}\n",
        "logrotate.d/dpkg": "/var/log/dpkg.log {\n\tyearly\n\tcompress\n\tcompresscmd /usr/bin/zstd\n\tcompressext .zst\n}\n",
    }.items():
        tree.file("/etc/" + name, text)
    created = AT["account"]
    tree.file("/etc/passwd", people.passwd(), created + 25_000)
    tree.file("/etc/group", people.group(), local("2026-06-02 10:11:12"))
    tree.link("/etc/localtime", "/usr/share/zoneinfo/Europe/Berlin")
    tree.file("/etc/cron.d/e2scrub_all", "30 3 * * 0 root test -e /run/systemd/system || /bin/true\n")
    tree.folder("/etc/cron.d", AT["beat stopped"])
    tree.folder("/etc", created + 25_000)


def _lines(data):
    return data.count(b"\n") if isinstance(data, bytes) else data.count("\n")


def _rotated(tree, folder, files, rename, last, **owner):
    """Adds text logs; `rename` gives the compressed sibling's name, its end says how. `last` is when a file was last written."""
    for name, text in files.items():
        stored = rename.get(name, name)
        data = text.encode()
        pack = _TIDY.get(os.path.splitext(stored)[1])
        written = last(name)
        tree.file(f"{folder}/{stored}", pack(data) if pack else data, written, _lines(data), mode=0o640,
                  ctime=written + 2 * MINUTE if pack else 0, crtime=written - 7 * DAY, **owner)


def _logs(tree, host):
    weekly = {"": OFF - SECOND, ".1": local("2026-10-31 23:59:58"), ".2": local("2026-10-24 23:59:57")}
    daily = {"": OFF - 9 * SECOND, ".1": local("2026-11-03 23:59:40"), ".2": local("2026-11-02 23:58:12"), ".3": local("2026-11-01 23:57:31")}

    def age(table):
        return lambda name: table["." + name[-1] if name[-1].isdigit() else ""]

    adm = {"gid": ADM}
    _rotated(tree, "/var/log", host.syslog_files(), {
        "syslog.2": "syslog.2.gz", "auth.log.2": "auth.log.2.gz", "cron.log.2": "cron.log.2.gz", "kern.log.2": "kern.log.2.bz2",
        "user.log.2": "user.log.2.gz"}, age(weekly), **adm)
    tree.nodes["/var/log/auth.log"].flags = APPEND_ONLY
    turns = {"": OFF - SECOND, ".1": local("2026-10-30 04:09:00"), ".2": local("2026-03-20 04:09:00")}
    _rotated(tree, "/var/log", host.secure_files(), {"secure.2": "secure.2.xz"}, age(turns), **adm)
    _rotated(tree, "/var/log/nginx", text_logs.nginx_access(host), {"access.log.2": "access.log.2.gz", "access.log.3": "access.log.3.gz"},
             age(daily), uid=33, gid=ADM)
    _rotated(tree, "/var/log/nginx", text_logs.nginx_errors(host), {"error.log.2": "error.log.2.gz", "error.log.3": "error.log.3.gz"},
             age(daily), uid=33, gid=ADM)
    old, new = local("2026-10-31 06:32:00"), local("2026-11-02 09:44:52")
    apt = text_logs.apt_history(host)
    for name, text in apt.items():
        stored, pack = ("history.log.1.gz", _TIDY[".gz"]) if name.endswith(".1") else (name, bytes)
        tree.file(f"/var/log/apt/{stored}", pack(text.encode()), old if name.endswith(".1") else new, text.count("Start-Date:"), "runs")
    _rotated(tree, "/var/log", text_logs.dpkg(host), {"dpkg.log.1": "dpkg.log.1.zst"}, age({"": new, ".1": old}))
    audit = text_logs.audit(host)
    tree.file("/var/log/audit/audit.log", audit, OFF - 2 * SECOND, _lines(audit), f"lines of {len(host.audit)} audit events", mode=0o640, gid=ADM)
    wtmp, btmp = binary_logs.utmp(host.wtmp), binary_logs.utmp(host.btmp)
    tree.file("/var/log/wtmp", wtmp, OFF, len(wtmp) // 384, "", mode=0o664, gid=43)
    tree.file("/var/log/btmp", btmp, AT["login"] - 12 * SECOND, len(btmp) // 384, "", mode=0o660, gid=43)
    users = len({uid for uid, _ in host.lastlog})
    tree.file("/var/log/lastlog", binary_logs.lastlog(host.lastlog), AT["noticed"], users, "users with a login", mode=0o664, gid=43)
    tree.file(f"/var/log/journal/{journal.MACHINE}/system.journal", journal.journal(host), OFF, len(journal.entries(host)), "entries",
              mode=0o640, gid=999, crtime=local("2026-11-01 00:00:03"))
    for name in ("", "/" + journal.MACHINE):
        tree.folder("/var/log/journal" + name, local("2026-11-01 00:00:03"), mode=0o2755, gid=999)
    tree.folder("/var/log/audit", mode=0o750, gid=ADM)
    tree.folder("/var/log/apt", local("2026-11-01 00:02:11"))
    tree.folder("/var/log/nginx", local("2026-11-04 00:02:09"), gid=ADM)
    tree.folder("/var/log", AT["tamper"] + 30_000, gid=ADM)


def _homes(tree):
    for user in people.USERS:
        tree.folder(f"/home/{user}", BOOT if user != "deploy" else AT["root"], mode=0o750, uid=UID[user], gid=UID[user])
    deploy, jane, boris = histories.deploy_bash(), histories.jane_zsh(), histories.boris_fish()
    root = histories.root_bash()
    tree.file("/home/deploy/.bash_history", deploy, AT["login"] + 62 * MINUTE, deploy.count("\n#") + 1, "commands, each with its time",
              mode=0o600, uid=1001, gid=1001)
    tree.file("/home/jane/.zsh_history", jane, AT["noticed"] + 49 * MINUTE, jane.count("\n: ") + 1, "commands, one of two lines",
              mode=0o600, uid=1000, gid=1000)
    tree.file("/home/boris/.local/share/fish/fish_history", boris, utc("2026-10-30 17:00:00"), boris.count("- cmd:"), "commands",
              mode=0o600, uid=UID["boris"], gid=UID["boris"])
    for folder in ("/home/boris/.local", "/home/boris/.local/share", "/home/boris/.local/share/fish"):
        tree.folder(folder, BOOT, mode=0o700, uid=UID["boris"], gid=UID["boris"])
    tree.folder("/root", AT["beat stopped"], mode=0o700)
    tree.file("/root/.bash_history", root, AT["login"] + 61 * MINUTE, _lines(root), "commands without a time", mode=0o600)
    tree.file("/root/php-session-gc.found", f"*/10 * * * * root {BEAT} >/dev/null 2>&1\n", AT["cron"] + 9_000, ctime=AT["beat stopped"],
              crtime=AT["cron"] + 8_000)


def _picture(n):
    """Bytes that begin like a JPEG and repeat a pattern: a stand-in, small once compressed."""
    return b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01" + bytes((i * n) & 0x7F for i in range(256)) * (20 + n % 9) + b"\xff\xd9"


def _site(tree):
    www = {"uid": 33, "gid": 33}
    t = local("2026-09-14 15:20:00")
    tree.file("/var/www/html/index.html", "<!doctype html>\n<title>web01</title>\n<link rel=stylesheet href=/css/site.css>\n" + "<p>A shop.\n" * 40, t, **www)
    tree.file("/var/www/html/about.html", "<!doctype html>\n<title>About</title>\n" + "<p>Invented for a sample.\n" * 60, t + HOUR, **www)
    tree.file("/var/www/html/css/site.css", "p { margin: 1em }\n" * 100, t + 9 * MINUTE, **www)
    for n in range(2201, 2212):
        tree.file(f"/var/www/html/uploads/img_{n}.jpg", _picture(n), t + (n - 2190) * 2 * DAY + n * 37_011, **www)
    tree.file("/var/www/html/uploads/Preise für März.txt", "Listenpreise\n", t + 20 * DAY, **www)
    # Inert: what it would do is said, not done.
    tree.file("/var/www/html" + SHELL_PAGE, "<?php /* Inert stand-in for a web shell: the real one would run what is POSTed to it. */\n",
              AT["web shell"] - 7 * SECOND, mode=0, ctime=AT["noticed"] + 9 * MINUTE, crtime=AT["web shell"] - 8 * SECOND,
              atime=AT["first post"], **www)
    tree.folder("/var/www/html/uploads", AT["web shell"] - 8 * SECOND, **www)
    tree.file("/srv/app/config.toml", 'listen = "127.0.0.1:8080"\ndatabase = "postgres://shop@db/shop"\n', t, uid=1001, gid=1001)
    tree.file("/srv/app/README", "shop 4.2\n" * 30, t, uid=1001, gid=1001)
    assert {p for p, _ in PAGES if p.startswith("/uploads/")} <= {n[len("/var/www/html"):] for n in tree.nodes}


def _container(tree, host):
    folder = f"/var/lib/docker/containers/{CONTAINER}"
    log = text_logs.container_log(host)
    tree.file(f"{folder}/{CONTAINER}-json.log", log, OFF - 60 * SECOND, _lines(log), "lines; one message of the container fills two", mode=0o640)
    tree.file(f"{folder}/config.v2.json", text_logs.container_config(), BOOT + 30 * SECOND, mode=0o600)
    tree.folder("/var/lib/docker", BOOT, mode=0o710)


def _intruder(tree):
    """What the intruder left and what was deleted: gives [(path, time of deletion)]."""
    tree.file(BEAT, f"#!/bin/sh\n# inert stand-in for a beacon\n: curl -s {DROP}beat\n", AT["cron"] - 19 * SECOND, mode=0o755, ctime=AT["cron"] - 9 * SECOND)
    tree.file("/usr/local/lib/.sysupd/sh", b"\x7fELF\x02\x01\x01" + bytes(9) + b"inert stand-in for a copy of bash\n" + bytes(3000),
              AT["account"] + 60 * SECOND, mode=0o4755)
    tree.folder("/usr/local/lib/.sysupd", AT["account"] + 60 * SECOND)
    t = AT["tamper"]
    tree.folder("/var/lib/sysupd", t + 61 * SECOND, mode=0o700, crtime=AT["account"])
    tree.folder("/var/tmp", AT["pack"] - 20 * SECOND, mode=0o1777)
    tree.folder("/var/tmp/.s", t + 22 * SECOND, crtime=AT["pack"] - 20 * SECOND)
    tree.folder("/tmp", t + 47 * SECOND, mode=0o1777)
    # An archive of 40 blocks: noise as of a compressed file, from a fixed sequence.
    state, noise = 0x1234567, bytearray()
    for _ in range(160 * 1024):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        noise.append(state >> 16 & 0x3F)
    tree.file("/var/tmp/.s/customers.zip", b"PK\x03\x04\x14\x00\x01\x00" + bytes(noise), AT["pack"] + 141 * SECOND, mode=0o644)
    tree.file("/var/tmp/.s/customers.csv", "id,name,mail\n" + "".join(f"{n},Person {n},p{n}@customer.example\n" for n in range(1, 900)),
              AT["pack"] + 96 * SECOND)
    tree.file("/tmp/enum.sh", "#!/bin/sh\n# inert stand-in for an enumeration script\n" + "echo step\n" * 300, AT["login"] + 110 * SECOND, uid=1001, gid=1001)
    tree.file("/var/lib/sysupd/.bash_history", histories.sysupd_bash(), t + 60 * SECOND, mode=0o600)
    return [("/var/tmp/.s/customers.zip", t + 22 * SECOND), ("/var/tmp/.s/customers.csv", t + 22 * SECOND),
            ("/tmp/enum.sh", t + 47 * SECOND), ("/var/lib/sysupd/.bash_history", t + 61 * SECOND)]
