"""What web01 logs when nothing happens: boots, timers, cron, packages, people at work, visitors of the site."""

from .clock import DAY, HOUR, MINUTE, SECOND, in_berlin, local
from .host import AUTH, BOOT, CRON, DAEMON, KERN, OFF, USER
from .people import FINGERPRINT, UID, USERS

START = local("2026-10-18 00:00:00")
CI = "192.0.2.20"
CONTAINER = "3b1f7e90c2d44a58b6f0a9d1e2c37485f6a1b09c8d7e6f5a4b3c2d1e0f9a8b7c"
_DMESG = """Linux version 6.1.0-40-amd64 (debian-kernel@lists.debian.org) (gcc-12 (Debian 12.2.0-14) 12.2.0) #1 SMP
Command line: BOOT_IMAGE=/boot/vmlinuz-6.1.0-40-amd64 root=UUID=5a0be1f4-3c52-4d7b-9b4e-77d1c1a3f0e2 ro quiet
BIOS-provided physical RAM map:
DMI: QEMU Standard PC (Q35 + ICH9, 2009), BIOS 1.16.2-debian-1.16.2-1 04/01/2014
tsc: Detected 2394.374 MHz processor
Memory: 2002312K/2096628K available
audit: initializing netlink subsys (disabled)
virtio_blk virtio2: [vda] 67108864 512-byte logical blocks (34.4 GB/32.0 GiB)
 vda: vda1
EXT4-fs (vda1): mounted filesystem with ordered data mode. Quota mode: none.
EXT4-fs (vda1): re-mounted. Quota mode: none.
systemd[1]: Inserted module 'autofs4'
virtio_net virtio0 enp1s0: renamed from eth0
bridge: filtering via arp/ip/ip6tables is no longer available by default. Update your scripts to load br_netfilter if you need this.
docker0: port 1(veth41c9) entered blocking state
docker0: port 1(veth41c9) entered forwarding state"""


def all_of(host, logins):
    _boot(host, BOOT)
    _timers(host)
    _people(host, logins)
    _firewall(host)
    _packages(host)
    _site(host)
    _container(host)


def _boot(h, t):
    h.wtmp.append((t, h.order(), (2, 0, "~", "~~", "reboot", "6.1.0-40-amd64", 0)))
    h.wtmp.append((t + 9 * SECOND, h.order(), (1, 53, "~", "~~", "runlevel", "6.1.0-40-amd64", 0)))
    h.wtmp.append((t + 9 * SECOND + 4, h.order(), (6, 702, "tty1", "tty1", "LOGIN", "", 702)))
    for n, line in enumerate(_DMESG.splitlines()):
        h.say(t + n * 37_000, KERN, "kernel", 0, f"[{n * 0.037:12.6f}] {line}")
    for n, unit in enumerate(["systemd-journald.service - Journal Service", "ssh.service - OpenBSD Secure Shell server",
                              "cron.service - Regular background program processing daemon", "nginx.service - A high "
                              "performance web server and a reverse proxy server", "docker.service - Docker Application "
                              "Container Engine", "auditd.service - Security Auditing Service"]):
        h.say(t + 4 * SECOND + n * 210_000, DAEMON, "systemd", 1, f"Started {unit}.")
    h.say(t + 5 * SECOND, AUTH, "sshd", 688, "Server listening on 0.0.0.0 port 22.")
    h.say(t + 5 * SECOND + 300, AUTH, "sshd", 688, "Server listening on :: port 22.")


def _timers(h):
    t = START + 17 * MINUTE
    while t < OFF:
        pid = h.pid(t)
        h.say(t, AUTH, "CRON", pid, "pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)")
        h.say(t + 3_000, CRON, "CRON", pid + 1, "(root) CMD (cd / && run-parts --report /etc/cron.hourly)")
        h.say(t + 60_000, AUTH, "CRON", pid, "pam_unix(cron:session): session closed for user root")
        t += HOUR
    for turn in range((OFF - START) // DAY + 1):
        midnight = START + turn * DAY
        for after, unit in [(2 * MINUTE, "logrotate.service - Rotate log files"), (6 * HOUR + 11 * MINUTE,
                            "apt-daily.service - Daily apt download activities"), (6 * HOUR + 31 * MINUTE,
                            "apt-daily-upgrade.service - Daily apt upgrade and clean activities")]:
            t = midnight + after + h.jitter()
            if t < OFF:
                name = unit.split(" ")[0]
                h.say(t, DAEMON, "systemd", 1, f"Starting {unit}...")
                h.say(t + 900_000, DAEMON, "systemd", 1, f"{name}: Deactivated successfully.")
                h.say(t + 901_000, DAEMON, "systemd", 1, f"Finished {unit}.")
        if midnight + 3 * HOUR < OFF:
            h.say(midnight + 3 * HOUR + h.jitter(), USER, "backup-check", h.pid(midnight), "last backup of /srv/app is "
                  f"{h.chance.between(3, 20)} h old, {h.chance.between(300, 340)} MB, ok")


def _people(h, logins):
    day = START + 9 * HOUR
    while day < local("2026-11-03 12:00:00"):
        working = in_berlin(day).weekday() < 5
        if working:
            t = day + h.chance.between(0, 50) * MINUTE + h.some_second()
            logins.session(t, "jane", "192.0.2.15", h.chance.between(40000, 60000), "SHA256:" + FINGERPRINT["jane"],
                           h.chance.between(20, 200) * MINUTE)
            logins.sudo(t + 3 * MINUTE, "jane", "pts/0", "/home/jane", h.chance.pick([
                "/usr/bin/journalctl -u nginx", "/usr/bin/apt update", "/usr/bin/systemctl status docker", "/usr/sbin/nginx -t"]))
            for _ in range(2):
                t = day + h.chance.between(30, 500) * MINUTE + h.some_second()
                logins.session(t, "deploy", CI, h.chance.between(40000, 60000), "SHA256:" + FINGERPRINT["deploy"],
                               h.chance.between(20, 90) * SECOND, tty="pts/1")
        day += DAY
    for n, user in enumerate(USERS[2:]):
        t = local("2026-10-19 10:00:00") + n * 14 * HOUR + h.some_second()
        address = f"2001:db8:15::{n + 0x10:x}" if n % 4 == 0 else f"192.0.2.{40 + n}"
        if user == "timur":
            continue   # never logged in: an empty record below a used one
        logins.session(t, user, address, h.chance.between(40000, 60000), "SHA256:" + FINGERPRINT[user],
                       h.chance.between(5, 60) * MINUTE, tty="pts/2")
        if n % 5 == 0:
            logins.failure(t - 40 * SECOND, user, address, h.chance.between(40000, 60000), True)
    # In the night of 25 October the hour from 02:00 comes twice; one login in each pass.
    for fold, minute in [(0, "02:31:07"), (1, "02:12:44")]:
        logins.session(local(f"2026-10-25 {minute}", fold), "anna", "192.0.2.42", 50100 + fold, "SHA256:" + FINGERPRINT["anna"],
                       4 * MINUTE)


def _firewall(h):
    t = START
    while t < OFF:
        source = h.chance.pick(["203.0.113.9", "203.0.113.140", "198.51.100.201", "2001:db8:bad::7"])
        length = h.chance.pick([40, 44, 60])
        up = (t - BOOT if t >= BOOT else t - START + 11 * DAY) / SECOND
        h.say(t, KERN, "kernel", 0, f"[{up:12.6f}] [UFW BLOCK] IN=enp1s0 OUT= MAC=52:54:00:12:34:56:52:54:00:65:43:21:08:00 "
              f"SRC={source} DST={'2001:db8::80' if ':' in source else '192.0.2.80'} LEN={length} PROTO=TCP "
              f"SPT={h.chance.between(1024, 65000)} DPT={h.chance.pick([23, 445, 3306, 3389, 5432, 6379])} SYN", 4)
        t += h.chance.between(120, 840) * MINUTE + h.some_second()


_PACKAGES = [("nginx", "1.22.1-9+deb12u3"), ("openssl", "3.0.17-1~deb12u3"), ("libssl3", "3.0.17-1~deb12u3"),
             ("curl", "7.88.1-10+deb12u14"), ("libcurl4", "7.88.1-10+deb12u14"), ("sudo", "1.9.13p3-1+deb12u2"),
             ("tzdata", "2026c-0+deb12u1"), ("docker.io", "20.10.24+dfsg1-1+deb12u1"), ("auditd", "1:3.0.9-1"),
             ("openssh-server", "1:9.2p1-2+deb12u7"), ("rsyslog", "8.2302.0-1+deb12u1"), ("zsh", "5.9-4+b6")]


def _packages(h):
    """Fills `host.apt` with runs: (start, end, command line, by, action, [(package, version)])."""
    h.apt = [(local("2025-12-19 15:02:10"), local("2025-12-19 15:09:55"), "apt-get -y install " +
              " ".join(p for p, _ in _PACKAGES), "root (0)", "Install", _PACKAGES)]
    day = local("2026-01-12 00:00:00")
    while day < local("2026-11-02 00:00:00"):
        few = [h.chance.pick(_PACKAGES) for _ in range(h.chance.between(1, 3))]
        few = sorted(set(few))
        hand = h.chance.happens(0.3) and in_berlin(day).weekday() < 5
        t = day + (10 if hand else 6) * HOUR + 31 * MINUTE + h.chance.between(0, 25) * MINUTE + h.some_second()
        h.apt.append((t, t + h.chance.between(4, 70) * SECOND, "apt upgrade" if hand else "/usr/bin/unattended-upgrade",
                      "jane (1000)" if hand else "", "Upgrade", few))
        day += h.chance.between(5, 16) * DAY
    h.apt.append((local("2026-11-02 09:44:31"), local("2026-11-02 09:44:52"), "apt upgrade", "jane (1000)", "Upgrade",
                  [("openssl", "3.0.17-1~deb12u4"), ("libssl3", "3.0.17-1~deb12u4")]))


PAGES = [("/", 6112), ("/css/site.css", 2210), ("/about.html", 3381), ("/shop/", 8034), ("/shop/item?id=17", 5120),
         ("/shop/item?id=4", 5092), ("/uploads/img_2207.jpg", 48211), ("/uploads/img_2210.jpg", 51877), ("/api/cart", 212),
         ("/favicon.ico", 318)]
_AGENTS = ["Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
           "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/148.0.0.0 Safari/537.36",
           "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.1 Mobile",
           "Mozilla/5.0 (compatible; sample-bot/2.1; +https://bot.example/)"]


def _site(h):
    t = local("2026-11-01 00:03:00")
    while t < OFF:
        busy = 7 <= in_berlin(t).hour < 23
        path, size = h.chance.pick(PAGES)
        client = f"2001:db8:{h.chance.between(1, 60):x}::{h.chance.between(2, 900):x}" if h.chance.happens(0.2) else \
            f"192.0.2.{h.chance.between(100, 250)}"
        status = 304 if h.chance.happens(0.1) else 200
        method = "POST" if path == "/api/cart" else "GET"
        referer = "https://web01.example/" if h.chance.happens(0.6) else "-"
        if h.chance.happens(0.03):
            path, status, size = h.chance.pick(["/wp-login.php", "/.env", "/phpmyadmin/", "/old.html"]), 404, 153
            h.web_errors.append((t, h.order(), f"[error] 801#801: *{t // SECOND % 90000} open() \"/var/www/html{path}\" failed "
                                 f"(2: No such file or directory), client: {client}, server: web01.example, "
                                 f"request: \"GET {path} HTTP/1.1\", host: \"web01.example\""))
        request(h, t, client, method, path, status, 0 if status == 304 else size, h.chance.pick(_AGENTS), referer)
        t += h.chance.between(5, 260 if busy else 1500) * SECOND + h.jitter()
    # What scanners send: no request line that can be split, bytes that nginx escapes, a quote in an agent.
    request(h, local("2026-11-02 13:20:09"), "203.0.113.77", "", "\\x16\\x03\\x01\\x02\\x00\\x01", 400, 157, "-", "-")
    request(h, local("2026-11-03 04:51:40"), "203.0.113.77", "GET", "/?q=%22%3E%3Cscript%3E", 200, 6112, "a \\x22quoted\\x22 agent", "-")


def request(h, t, client, method, path, status, size, agent, referer="-"):
    line = f"{method} {path} HTTP/1.1" if method else path
    h.web.append((t, h.order(), client, f"\"{line}\" {status} {size} \"{referer}\" \"{agent}\""))


def _container(h):
    t = local("2026-11-01 00:00:30")
    while t < OFF:
        ns = (t + h.jitter()) * 1000 + h.chance.between(0, 999)
        if h.chance.happens(0.05):
            h.container.append((ns, "stderr", f"WARN pool: connection {h.chance.between(1, 20)} idle for 600 s, closed\n"))
        else:
            h.container.append((ns, "stdout", f"INFO shop: GET /internal/items?page={h.chance.between(1, 40)} 200 "
                                f"{h.chance.between(2, 90)} ms\n"))
        t += h.chance.between(4, 40) * MINUTE
