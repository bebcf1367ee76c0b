#!/usr/bin/env python3
"""Makes samples/web01/ again: the disk image, the log folder and EXPECTED.md. Needs no root.

    samples/make_web01.py [FOLDER]      (default: samples/web01 beside this file)

Needs Python 3.11, cc, zstd, e2fsprogs, sfdisk (package fdisk) and systemd-journal-remote. The same versions of these
give the same bytes; samples/README.md names those that made the committed files.
"""

import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile

from web01_story import contents, everyday, ext4_image, incident, people
from web01_story.clock import SECOND, in_utc
from web01_story.host import Host

HERE = os.path.dirname(os.path.abspath(__file__))


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else f"{HERE}/web01"
    os.makedirs(out, exist_ok=True)
    host = Host()
    logins = people.Logins(host)
    people.months_before(host, logins)
    everyday.all_of(host, logins)
    story = incident.told(host, logins)
    tree, deleted = contents.of(host)
    with tempfile.TemporaryDirectory() as work:
        disk = ext4_image.build(list(tree.nodes.values()), deleted, work)
        logs = f"{work}/web01-logs.tar"
        log_folder(tree, logs, {path for path, _ in deleted})
        sums = {}
        for plain in (disk, logs):
            name = os.path.basename(plain)
            with open(plain, "rb") as file:
                sums[name] = (hashlib.file_digest(file, "sha256").hexdigest(), os.path.getsize(plain))
            subprocess.run(["zstd", "-q", "-f", "-19", "--long=24", "-T1", "-o", f"{out}/{name}.zst", plain], check=True)
    with open(f"{out}/EXPECTED.md", "w") as file:
        file.write(expected(tree, deleted, story, sums))
    if out == f"{HERE}/web01":
        list_sums()


def log_folder(tree, path, deleted):
    """/var/log and /etc as `web01/…` in a plain tar: times in whole seconds, as tar without extensions keeps them."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for node in sorted(tree.nodes.values(), key=lambda n: n.path):
            if not re.match(r"/(etc|var/log)(/|$)", node.path) or node.path in deleted:
                continue
            info = tarfile.TarInfo("web01" + node.path)
            info.type = {"file": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}[node.kind]
            info.mode, info.uid, info.gid, info.mtime = node.mode, node.uid, node.gid, node.mtime // SECOND
            if node.kind == "link":
                info.linkname = node.content.decode()
            info.size = len(node.content) if node.kind == "file" else 0
            tar.addfile(info, io.BytesIO(node.content))


def expected(tree, deleted, story, sums):
    rows = "".join(f"| `{path}` | {records} | {words} |\n" for path, records, words in tree.truth)
    steps = "".join(f"{n}. **{t}** {words}\n" for n, (t, words) in enumerate(story, 1))
    gone = "".join(f"| `{path}` | {len(tree.nodes[path].content)} | {in_utc(t):%Y-%m-%d %H:%M:%S} | "
                   f"`{hashlib.sha256(tree.nodes[path].content).hexdigest()}` |\n" for path, t in deleted)
    plain = "".join(f"- `{name}`: {size} bytes, SHA-256 `{digest}`\n" for name, (digest, size) in sums.items())
    kinds = [node.kind for node in tree.nodes.values() if node.path not in {p for p, _ in deleted}]
    return f"""# web01: what is truly in it

Written by `samples/make_web01.py` from the story itself, not by reading the files back.
Host `web01`, Debian 12, time zone Europe/Berlin (the story's times here are UTC; Berlin is one hour ahead).
`web01-logs.tar.zst` holds `/etc` and `/var/log` below `web01/`; the image holds all of it.

Plain files (`zstd -d`):
{plain}
## Story (UTC)
{steps}
## Records
Lines unless the last column says otherwise.

| file | records | |
|---|---|---|
{rows}
The image: GPT, one ext4 (4 KiB blocks, 256-byte inodes, metadata checksums) from sector 2048 on; {kinds.count('file')} files,
{kinds.count('dir')} folders (`/` and `lost+found` counted), {kinds.count('link')} symbolic link, all times in nanoseconds.
`system.journal` has holes where it is zero.

## Deleted
Removed with debugfs, which sets the deletion time and frees the blocks but leaves the inode's extents and the name in the
folder's slack: so the content can be had back here. A modern kernel clears the extents.

| path | bytes | deleted (UTC) | SHA-256 of its content |
|---|---|---|---|
{gone}
## Worth knowing
- `secure*` has no year and no zone; `secure.2.xz` begins in December 2025 and passes the new year, `secure.1` passes both
  changes of the clock. On 2026-10-25 anna logs in at 02:31:07 summer time (00:31:07 UTC) and at 02:12:44 winter time
  (01:12:44 UTC): her lines in `secure.1` go back in local time, and only the order tells which is which.
- `auth.log`, `secure` and the journal tell of the same logins; `cron.log` and `syslog` of the same jobs.
- `lastlog` is by uid: slot 0 is `sysupd`, whose uid is 0. `timur` (uid 1021) never logged in.
- The access log has a request line of escaped bytes (400) and an agent with escaped quotes, both on the way to look odd.
- The journal has one message that is not UTF-8, one of many lines, and fields stored compressed (zstd).
- A message of the container is longer than docker's 16 KiB: its first record has no line feed at the end.
"""


def list_sums():
    """Renews the table of hashes in samples/README.md: every committed file below samples/ but the scripts."""
    rows = []
    for folder, folders, names in os.walk(HERE):
        folders[:] = sorted(f for f in folders if f not in ("__pycache__", "web01_story"))
        for name in sorted(names):
            path = os.path.join(folder, name)
            where = os.path.relpath(path, HERE)
            if where != "README.md" and not where.endswith(".py"):
                with open(path, "rb") as file:
                    rows.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {where}\n")
    readme = f"{HERE}/README.md"
    with open(readme) as file:
        text = file.read()
    text = re.sub(r"(?s)(<!-- sums -->\n```\n).*?(```\n)", lambda m: m[1] + "".join(sorted(rows, key=lambda r: r[66:])) + m[2], text)
    with open(readme, "w") as file:
        file.write(text)


if __name__ == "__main__":
    if sys.argv[1:] == ["--sums"]:
        list_sums()
    else:
        main()
