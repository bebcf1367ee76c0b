#!/usr/bin/env python3
"""Acquires the memory of real virtual machines with the static binary, and reads what was captured.

    tests/vm/memory.py [--keep FOLDER] [--binary EXHIBIT] [RUN…]

Boots Debian kernels (taken with `apt-get download`, nothing is installed) in qemu, with KVM if it is there, and runs
`exhibit acquire memory` in them. Each run prints one line: PASS with what was measured, FAIL, or "skipped" and why.
Exit code 1 if a run failed. Needs qemu-system-x86_64, a static busybox, cpio, mkfs.ext4, debugfs, zstd, and Rust for
the x86_64-unknown-linux-gnu target, whose static glibc makes the binary.
"""

import argparse, json, os, pathlib, re, secrets, shutil, socket, struct, subprocess, sys, tempfile, threading, time

ROOT = pathlib.Path(__file__).resolve().parents[2]
RAM_MIB = 384
BOOT_SECONDS = 600
KVM_SECONDS = 60  # until the guest begins to acquire: seconds are usual
TARGET = "x86_64-unknown-linux-gnu"
MODULES = ["virtio_pci", "virtio_blk", "virtio_balloon"]

# What the guest does. The marker is put together from halves at run time: whole, it is in a process's memory alone.
INIT = r"""#!/bin/sh
/bin/busybox mkdir -p /proc /sys /dev /mnt /tmp
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs devtmpfs /dev
mount -t securityfs securityfs /sys/kernel/security
for module in @MODULES@; do insmod /$module.ko; done
i=0; while [ ! -b /dev/vda ] && [ $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done
mount -t ext4 /dev/vda /mnt || { echo "GUEST: no disk"; poweroff -f; }
export PATH=/bin HOME=/mnt/home XDG_DATA_HOME=/mnt/home
cd /mnt
half=@HALF1@; (cd /; MARKER="${half}@HALF2@"; export MARKER; exec sleep 100000) &
sleep 1
@BEFORE@
cat /proc/iomem > iomem.txt
echo "GUEST: acquiring"
./exhibit init case --name vm --examiner "J. Doe" > init.out 2>&1; echo $? > init.code
@ACQUIRE@
cat /proc/meminfo > meminfo.txt; dmesg > dmesg.txt
echo "GUEST: done"
cd /; umount /mnt; sync; poweroff -f
"""
ACQUIRE = "./exhibit -v acquire memory --case case --name vm-memory > acquire.out 2> acquire.err; echo $? > acquire.code"
DRY = """mkdir -p /etc; echo 'root:x:0:0::/:/bin/sh' > /etc/passwd; echo 'nobody:x:65534:65534::/:/bin/sh' >> /etc/passwd
echo 'nobody:x:65534:' > /etc/group
su -s /bin/sh nobody -c './exhibit acquire memory --case case --dry-run; echo $?' > nobody.out 2> nobody.err
./exhibit acquire memory --case case --dry-run > dry.out 2> dry.err; echo $? > dry.code
"""
# Two pages are poisoned (where the kernel has CONFIG_MEMORY_FAILURE), a block of memory is taken offline, and the host inflates a balloon.
WITHHELD = """[ -e /sys/devices/system/memory/hard_offline_page ] && for address in 0x6000000 0x6002000; do echo $address > /sys/devices/system/memory/hard_offline_page; done
for block in /sys/devices/system/memory/memory[0-9]*; do
  [ -s offlined.txt ] && continue
  [ "$(cat $block/valid_zones)" = Movable ] && echo offline > $block/state && cat $block/state $block/phys_index > offlined.txt
done
echo "GUEST: inflate"
i=0; while [ $i -lt 100 ]; do
  pages=$(awk '/^balloon_inflate/ {print $2}' /proc/vmstat); [ "${pages:-0}" -ge 8192 ] && break; sleep 0.1; i=$((i+1))
done
sleep 1; grep balloon /proc/vmstat > balloon.txt
"""
RUNS = {
    "plain": dict(before=DRY, cmdline=""),
    "withheld": dict(before=WITHHELD, cmdline="kernelcore=192M", ram=512),
    "integrity": dict(before=DRY + "echo 2 > /proc/sys/kernel/kptr_restrict\n", cmdline="lockdown=integrity"),
    "confidentiality": dict(before="", cmdline="lockdown=confidentiality"),
}


class Skip(Exception):
    pass


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr.strip()[-500:]}")
    return done.stdout


def expect(truth, what):
    if not truth:
        raise AssertionError(what)


def kernels(cache):
    """The newest kernel of each series that apt can give, unpacked: release, image, folder of modules."""
    found = {}
    for package in ["linux-image-cloud-amd64", "linux-image-6.12-cloud-amd64"]:
        try:
            depends = run("apt-cache", "depends", package)
        except (RuntimeError, FileNotFoundError):
            continue
        match = re.search(r"Depends: (linux-image-\S+)", depends)
        if not match:
            continue
        folder = cache / match[1]
        if not (folder / "boot").is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            try:
                run("apt-get", "download", match[1], cwd=folder)
                run("dpkg-deb", "-x", next(folder.glob("*.deb")), folder)
            except (RuntimeError, StopIteration) as error:
                print(f"skipped: {match[1]}: {error}")
                continue
        release = match[1].removeprefix("linux-image-")
        found[release] = folder
    if not found:
        raise Skip("apt-get gives no Debian cloud kernel")
    return found


def binary(given):
    if given:
        return pathlib.Path(given)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "static"
    environment = dict(os.environ, RUSTFLAGS="-C target-feature=+crt-static", CARGO_TARGET_DIR=str(target))
    run("cargo", "build", "--release", "-p", "exhibit-cli", "--no-default-features", "--target", TARGET, cwd=ROOT,
        env=environment)
    return target / TARGET / "release" / "exhibit"


def modules(release, kernel):
    """Modules with what they depend on before them: name and content. What the kernel has built in is left out."""
    files = {path.name.split(".")[0]: path for path in (kernel / "lib" / "modules" / release).rglob("*.ko*")}
    ordered = {}

    def add(name):
        if name in ordered or name not in files:
            return
        path = files[name]
        content = subprocess.run(["xz", "-dc", path], capture_output=True, check=True).stdout if path.suffix == ".xz" \
            else path.read_bytes()
        depends = re.search(rb"\0depends=([^\0]*)\0", content)
        for other in depends[1].decode().split(",") if depends else []:
            add(other)
        ordered[name] = content

    for name in MODULES:
        add(name)
    return ordered


def initramfs(folder, release, kernel, script):
    root = folder / "root"
    (root / "bin").mkdir(parents=True)
    shutil.copy(shutil.which("busybox"), root / "bin" / "busybox")
    (root / "bin" / "sh").symlink_to("busybox")
    found = modules(release, kernel)
    for name, content in found.items():
        (root / f"{name}.ko").write_bytes(content)
    script = script.replace("@MODULES@", " ".join(found))
    (root / "init").write_text(script)
    (root / "init").chmod(0o755)
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    image = folder / "initramfs"
    with image.open("wb") as out:
        subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], input=names.encode(), stdout=out, cwd=root, check=True)
    return image


def accelerators(no_kvm):
    """How machines can be run here, best first. KVM inside another machine is not always whole, so it has to prove itself."""
    kvm = ["-enable-kvm"]
    has_kvm = not no_kvm and os.access("/dev/kvm", os.R_OK | os.W_OK)
    return [kvm] * has_kvm + [["-accel", "tcg", "-cpu", "max"]]


def boot(folder, kernel, release, image, disk, plan, accelerator):
    """Runs the machine until it powers off; inflates its balloon when it asks for that. False if KVM fails in it."""
    monitor, ram = folder / "monitor", plan.get("ram", RAM_MIB)
    monitor.unlink(missing_ok=True)
    command = ["qemu-system-x86_64", *accelerator, "-m", str(ram), "-smp", "1", "-nographic", "-no-reboot",
               "-nodefaults", "-serial", "stdio", "-monitor", f"unix:{monitor},server,nowait",
               "-kernel", str(kernel / "boot" / f"vmlinuz-{release}"), "-initrd", str(image),
               "-append", f"console=ttyS0 quiet panic=-1 no_timer_check {plan['cmdline']}",
               "-drive", f"file={disk},format=raw,if=virtio,cache=unsafe", "-device", "virtio-balloon-pci"]
    machine = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    lines = []

    def prove():
        if not any("GUEST: acquiring" in line for line in lines):
            machine.kill()

    watches = [threading.Timer(BOOT_SECONDS, machine.kill)]
    if "-enable-kvm" in accelerator:
        watches.append(threading.Timer(KVM_SECONDS, prove))
    for watch in watches:
        watch.start()
    for line in machine.stdout:
        line = line.decode(errors="replace").rstrip()
        lines.append(line)
        if "KVM internal error" in line:
            machine.kill()
        if "GUEST: inflate" in line:
            with socket.socket(socket.AF_UNIX) as talk:
                talk.connect(str(monitor))
                talk.recv(4096)
                talk.sendall(f"balloon {ram - 64}\n".encode())
                time.sleep(0.2)
    machine.wait()
    for watch in watches:
        watch.cancel()
    console = "\n".join(lines)
    (folder / "console.txt").write_text(console)
    if "-enable-kvm" in accelerator and "GUEST: acquiring" not in console:
        return False
    expect("GUEST: done" in console, "the machine did not come to its end: " + " | ".join(lines[-8:]))
    return True


def lime_records(stream):
    """Walks the LiME headers: first address, last address, offset of the bytes."""
    records, at = [], 0
    while at < len(stream):
        magic, version, start, last, reserved = struct.unpack_from("<IIQQQ", stream, at)
        expect((magic, version, reserved) == (0x4C694D45, 1, 0), f"no LiME header at {at}")
        records.append((start, last, at + 32))
        at += 32 + last - start + 1
    expect(at == len(stream), "the last range is cut")
    return records


def read_physical(stream, records, address, length):
    for start, last, at in records:
        if start <= address and address + length - 1 <= last:
            return stream[at + address - start:at + address - start + length]
    raise AssertionError(f"address {address:#x} is not in the capture")


def check_capture(out, exhibit, marker, release):
    """Verifies the bundle, and reads the memory by an independent reader. Gives the stream, its records and the manifest."""
    code = int((out / "acquire.code").read_text())
    errors = (out / "acquire.err").read_text()
    expect(code in (0, 1), f"acquire ended with {code}: {errors}")
    bundle = next((out / "case" / "exhibits").iterdir())
    verified = subprocess.run([exhibit, "verify", out / "case"], capture_output=True, text=True)
    expect(verified.returncode == 0 and "CONSISTENT" in verified.stdout + verified.stderr,
           f"verify: {verified.stdout} {verified.stderr}")
    manifest = json.loads((bundle / "manifest.json").read_text())
    segments = sorted((bundle / "data" / "memory").glob("*.zst"))
    stream = subprocess.run(["zstd", "-dcq", *segments], capture_output=True, check=True).stdout
    records = lime_records(stream)
    # Every range against what the guest's kernel said.
    ram = [tuple(int(part, 16) for part in re.match(r"(\w+)-(\w+) : System RAM$", line).groups())
           for line in (out / "iomem.txt").read_text().splitlines() if re.match(r"\w+-\w+ : System RAM$", line)]
    for start, last, _ in records:
        expect(any(first <= start and last <= end for first, end in ram), f"{start:#x}-{last:#x} is no System RAM")
    rows = [line.split("\t") for line in (bundle / "data" / "memory.ranges.tsv").read_text().splitlines()[1:]]
    kept = sorted((int(r[0], 16), int(r[1], 16), int(r[2])) for r in rows if r[2] != "-")
    expect(kept == sorted(records), "the table of ranges is not what the LiME headers say")
    gaps = [(int(r[0], 16), int(r[1], 16), r[4]) for r in rows if r[2] == "-"]
    covered = sum(last - start + 1 for start, last, *_ in records) + sum(last - start + 1 for start, last, _ in gaps)
    expect(covered == sum(last - first + 1 for first, last in ram), "ranges and gaps are not all of System RAM")
    expect(marker.encode() in stream, "the marker of the guest's process is not in the capture")
    # The kernel's banner lies where its own symbols say: every address is right.
    files = subprocess.run(["zstd", "-dcq", *sorted((bundle / "data" / "symbols").glob("*.zst"))], capture_output=True,
                           check=True).stdout
    (out / "symbols.tar").write_bytes(files)
    names = run("tar", "tf", out / "symbols.tar").split()
    for name in ["proc/kallsyms", "sys/kernel/btf/vmlinux", "proc/kcore.vmcoreinfo", "proc/iomem", "proc/version",
                 "sys/kernel/notes"]:
        expect(name in names, f"the symbols pack lacks {name}: {names}")
    text = lambda name: run("tar", "xOf", out / "symbols.tar", name)
    vmcoreinfo, kallsyms = text("proc/kcore.vmcoreinfo"), text("proc/kallsyms")
    hidden = all(line.split()[0].strip("0") == "" for line in kallsyms.splitlines())
    if not hidden:
        banner = int(re.search(r"^(\w+) \w linux_banner$", kallsyms, re.M)[1], 16)
        phys_base = int(re.search(r"^NUMBER\(phys_base\)=(-?\d+)$", vmcoreinfo, re.M)[1])
        expected = f"Linux version {release}".encode()
        found = read_physical(stream, records, banner - 0xFFFFFFFF80000000 + phys_base, len(expected))
        expect(found == expected, f"at the address of linux_banner is {found}")
    return stream, records, gaps, bundle, manifest, hidden


def check(name, out, exhibit, marker, release, kernel):
    err = (out / "acquire.err").read_text()
    if name == "confidentiality":
        code = int((out / "acquire.code").read_text())
        expect(code == 4, f"ended with {code}")
        expect("kernel lockdown is in confidentiality mode" in " ".join(err.split()), err)
        expect(not list((out / "case" / "exhibits").glob("*")), "an exhibit was made")
        expect(all(len(line) <= 80 for line in err.splitlines()), "the table does not fit 80 columns")
        return "refused with the reason:\n" + err
    stream, records, gaps, bundle, manifest, hidden = check_capture(out, exhibit, marker, release)
    after = {key: manifest["source"].get(key) for key in ["pages", "smear", "bytes_not_reached", "symbols_missing"]}
    told = f"{len(records)} LiME ranges, {len(stream)} bytes, gaps {[(hex(a), hex(b), why) for a, b, why in gaps]}\n{err.strip()}"
    expect(after["smear"]["sampled"] >= after["pages"]["read"] // 100, f"too few pages were read again: {after}")
    expect(after["smear"]["failed"] == 0, str(after))
    if name == "integrity":
        expect("[integrity]" in manifest["source"]["lockdown"], manifest["source"]["lockdown"])
        expect(hidden and "kptr_restrict is 2" in err, "hidden symbols were not named: " + err)
        dry = " ".join((out / "dry.out").read_text().split())
        expect("/dev/mem no kernel lockdown is in integrity mode" in dry, dry)
        told += "\n" + (out / "dry.out").read_text().rstrip()
    if name == "plain":
        expect(not hidden, "the symbols are hidden")
        nobody = " ".join((out / "nobody.err").read_text().split())
        expect((out / "nobody.out").read_text().strip() == "4" and "run as root" in nobody, nobody)
        told += "\n" + (out / "dry.out").read_text().rstrip()
    if name == "withheld":
        pages = after["pages"]
        can_poison = "CONFIG_MEMORY_FAILURE=y\n" in (kernel / "boot" / f"config-{release}").read_text()
        expect(pages["poisoned"] == 2 * can_poison, f"2 pages were poisoned, but {pages}")
        inflated = int(re.search(r"balloon_inflate (\d+)", (out / "balloon.txt").read_text())[1])
        expect(inflated >= 8192 and pages["offline"] == inflated, f"the balloon has {inflated} pages, but {pages}")
        state, index = (out / "offlined.txt").read_text().split()
        size = manifest["source"]["memory_block_bytes"]
        first = int(index, 16) * size
        expect(state == "offline" and manifest["source"]["offline_block_bytes"] == size, f"{state} {manifest['source']}")
        # A block that is offline is a gap, or its pages are absent.
        in_gaps = sum(min(b, first + size - 1) - max(a, first) + 1 for a, b, _ in gaps if a < first + size and b >= first)
        expect(in_gaps + pages["no_page"] * 4096 > 0, "the block that is offline is nowhere named")
        extents = [line.split("\t") for line in (bundle / "data" / "memory.extents.tsv").read_text().splitlines()[1:]]
        offset = next(at + 0x6000000 - start for start, last, at in records if start <= 0x6000000 <= last)
        poisoned = [(int(e[0]) - offset, int(e[1])) for e in extents if e[3] == "hwpoison"]
        expect(poisoned == [(0, 4096), (0x2000, 4096)] * can_poison, f"poisoned pages are listed at {poisoned}")
        told += f"\nballoon {inflated} pages, block at {first:#x} offline ({in_gaps} bytes of it in gaps)"
        told += ", 2 pages poisoned" if can_poison else "; this kernel cannot poison pages"
    return told


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--keep", type=pathlib.Path, help="keep kernels and captures here")
    arguments.add_argument("--binary", help="a static exhibit, instead of building one")
    arguments.add_argument("--no-kvm", action="store_true", help="emulate, though there is KVM")
    arguments.add_argument("runs", nargs="*", choices=[*RUNS, []], metavar="RUN", help=", ".join(RUNS))
    chosen = arguments.parse_args()
    for tool in ["qemu-system-x86_64", "busybox", "cpio", "mkfs.ext4", "debugfs", "zstd", "xz", "apt-get", "dpkg-deb"]:
        if not (shutil.which(tool) or shutil.which(tool, path="/sbin:/usr/sbin")):
            print(f"skipped: there is no {tool}")
            return 0
    os.environ["PATH"] += ":/sbin:/usr/sbin"
    failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        work = chosen.keep or pathlib.Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        try:
            found = kernels(work / "kernels")
        except Skip as why:
            print(f"skipped: {why}")
            return 0
        exhibit = binary(chosen.binary)
        ways = accelerators(chosen.no_kvm)
        print(f"{exhibit.name}: {exhibit.stat().st_size} bytes; machines of {RAM_MIB} MiB", flush=True)
        for release, kernel in found.items():
            for name in chosen.runs or RUNS:
                folder = work / f"{release}-{name}"
                shutil.rmtree(folder, ignore_errors=True)
                (folder / "disk").mkdir(parents=True)
                shutil.copy(exhibit, folder / "disk" / "exhibit")
                one, two = secrets.token_hex(12), secrets.token_hex(12)
                script = INIT
                for word, value in [("@BEFORE@", RUNS[name]["before"]),
                                    ("@ACQUIRE@", ACQUIRE), ("@HALF1@", one), ("@HALF2@", two)]:
                    script = script.replace(word, value)
                disk = folder / "disk.img"
                run("mkfs.ext4", "-q", "-O", "^metadata_csum", "-d", folder / "disk", disk, "1500M")
                try:
                    image = initramfs(folder, release, kernel, script)
                    while not boot(folder, kernel, release, image, disk, RUNS[name], ways[0]):
                        print("KVM fails on this machine: going on with emulation, which is slower", flush=True)
                        ways.pop(0)
                    out = folder / "out"
                    out.mkdir()
                    run("debugfs", "-R", f"rdump / {out}", disk)
                    print(f"PASS {release} {name}: {check(name, out, exhibit, one + two, release, kernel)}\n", flush=True)
                except (AssertionError, RuntimeError, OSError, StopIteration) as why:
                    failed += 1
                    print(f"FAIL {release} {name}: {why}\n", flush=True)
                if not chosen.keep:
                    shutil.rmtree(folder, ignore_errors=True)
    return 1 if failed else 0


sys.exit(main())
