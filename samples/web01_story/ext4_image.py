"""A GPT disk image with one ext4, made without root by mke2fs, debugfs and sfdisk, with every inode field as told."""

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass

from .clock import SECOND, in_utc, utc

SIZE = 64 << 20
START = 1 << 20
FS_BLOCKS = (SIZE - 2 * START) // 4096
UUID = "5a0be1f4-3c52-4d7b-9b4e-77d1c1a3f0e2"
HASH_SEED = "0d1c2b3a-4958-4768-8796-a5b4c3d2e1f0"
INSTALLED = utc("2025-12-19 13:50:00")
_FEATURES = ("none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,"
             "dir_nlink,extra_isize,metadata_csum")


@dataclass
class Node:
    """A file, folder or symbolic link; times are UTC microseconds."""
    path: str
    kind: str               # file, dir, link
    content: bytes = b""    # of a link: its target
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = INSTALLED
    ctime: int = 0          # 0: as mtime
    atime: int = 0
    crtime: int = 0
    flags: int = 0          # ext4 inode flags besides EXTENTS

    def times(self):
        """(field, UTC microseconds); what is not told is the modification time."""
        return [("atime", self.atime or self.mtime), ("ctime", self.ctime or self.mtime), ("mtime", self.mtime),
                ("crtime", self.crtime or min(self.mtime, self.ctime or self.mtime))]


def build(nodes, deleted, work):
    """Writes `work/web01-disk.raw`; `deleted` is [(path, time)], removed last and in order."""
    fs, disk = f"{work}/root.ext4", f"{work}/web01-disk.raw"
    _mkfs(fs)
    ordered = sorted(nodes, key=lambda n: n.path)
    with tempfile.TemporaryDirectory() as parts:
        _debugfs(fs, _fill(ordered, parts))
    _debugfs(fs, [line for node in ordered for line in _inode(node)])
    removal = []
    for path, t in deleted:
        removal += [f"set_current_time {in_utc(t):%Y%m%d%H%M%S}", f"rm {_quoted(path)}"]
    _debugfs(fs, removal)
    _wrap(fs, disk)
    os.remove(fs)
    return disk


def _mkfs(path):
    with open(path, "wb") as file:
        file.truncate(FS_BLOCKS * 4096)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0", "-L", "root", "-M", "/", "-U", UUID,
                    "-O", _FEATURES, "-E", f"hash_seed={HASH_SEED},root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,nodiscard",
                    path], check=True, env=os.environ | {"E2FSPROGS_FAKE_TIME": str(INSTALLED // SECOND)})


def _fill(ordered, parts):
    """Commands in the order of paths, so that inode numbers do not depend on the machine's file system."""
    for n, node in enumerate(ordered):
        folder, name = node.path.rsplit("/", 1)
        if node.path in ("/", "/lost+found"):
            continue
        yield f"cd {_quoted(folder or '/')}"
        if node.kind == "dir":
            yield f"mkdir {_quoted(name)}"
        elif node.kind == "link":
            yield f"symlink {_quoted(name)} {node.content.decode()}"
        else:
            part = f"{parts}/{n}"
            with open(part, "wb") as file:
                file.write(node.content)
            yield f"write {part} {_quoted(name)}"


def _inode(node):
    path = _quoted(node.path)
    kind = {"file": 0o100000, "dir": 0o040000, "link": 0o120000}[node.kind]
    yield f"sif {path} mode 0{kind | node.mode:o}"
    yield f"sif {path} uid {node.uid}"
    yield f"sif {path} gid {node.gid}"
    if node.flags:
        yield f"sif {path} flags 0x{0x80000 | node.flags:x}"
    for field, t in node.times():
        # Below the microsecond: made up from the path, so that all nine digits are in use.
        ns = t % SECOND * 1000 + sum(node.path.encode()) % 1000
        yield f"sif {path} {field} @{t // SECOND}"
        yield f"sif {path} {field}_extra 0x{ns << 2:x}"


def _quoted(path):
    return f'"{path}"' if re.search(r"[^\w./+-]", path) else path


def _debugfs(fs, commands):
    script = f"{fs}.commands"
    with open(script, "w") as file:
        file.write(f"set_current_time {in_utc(INSTALLED):%Y%m%d%H%M%S}\n")
        file.writelines(f"{line}\n" for line in commands)
    done = subprocess.run(["debugfs", "-w", "-f", script, fs], capture_output=True, text=True, env=os.environ | {"TZ": "UTC"})
    os.remove(script)
    said = [line for line in done.stderr.splitlines() if not line.startswith("debugfs 1.")]
    if done.returncode or said:
        raise RuntimeError("debugfs: " + "; ".join(said[:5]))


def _wrap(fs, disk):
    """Puts the file system behind a GPT with fixed ids."""
    with open(disk, "wb") as out, open(fs, "rb") as part:
        out.truncate(SIZE)
        out.seek(START)
        while block := part.read(1 << 20):
            out.write(block)
    table = (f"label: gpt\nlabel-id: 6E2C7A10-94B5-4D0E-8C53-1F7A9B2D4E60\nfirst-lba: 2048\n"
             f"start={START // 512}, size={FS_BLOCKS * 8}, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, "
             "uuid=A41D8B7E-5C09-4E62-9F13-2B6C7D8E9F01, name=\"root\"\n")
    subprocess.run(["sfdisk", "-q", "--no-reread", "--no-tell-kernel", disk], input=table, text=True, check=True)
