"""Who works on web01, and what their logins leave: sshd, PAM, logind, wtmp, btmp, lastlog."""

from .clock import DAY, HOUR, MINUTE, SECOND, local
from .host import AUTH, BOOT, DAEMON

# uid 1000 upwards; invented first names.
USERS = ["jane", "deploy", "anna", "boris", "chloe", "daniel", "elif", "farid", "greta", "hugo", "ines", "jonas",
         "karin", "lars", "mina", "nils", "olga", "pavel", "quinn", "rosa", "selma", "timur"]
UID = {name: 1000 + n for n, name in enumerate(USERS)} | {"root": 0, "www-data": 33, "sysupd": 0}
SYSTEM_PASSWD = """root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
bin:x:2:2:bin:/bin:/usr/sbin/nologin
sys:x:3:3:sys:/dev:/usr/sbin/nologin
sync:x:4:65534:sync:/bin:/bin/sync
mail:x:8:8:mail:/var/mail:/usr/sbin/nologin
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
backup:x:34:34:backup:/var/backups:/usr/sbin/nologin
_apt:x:42:65534::/nonexistent:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
systemd-network:x:998:998:systemd Network Management:/:/usr/sbin/nologin
messagebus:x:100:107::/nonexistent:/usr/sbin/nologin
sshd:x:101:65534::/run/sshd:/usr/sbin/nologin
"""
SHELL = {"jane": "/bin/zsh", "boris": "/usr/bin/fish"}


def passwd():
    people = "".join(f"{u}:x:{UID[u]}:{UID[u]}:{u.capitalize()},,,:/home/{u}:{SHELL.get(u, '/bin/bash')}\n" for u in USERS)
    return SYSTEM_PASSWD + people + "sysupd:x:0:0::/var/lib/sysupd:/bin/bash\n"


def group():
    system = ("root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:jane\nmail:x:8:\nsudo:x:27:jane,deploy\nwww-data:x:33:\n"
              "backup:x:34:\nutmp:x:43:\nsystemd-journal:x:999:\ndocker:x:996:deploy\nnogroup:x:65534:\n")
    return system + "".join(f"{u}:x:{UID[u]}:\n" for u in USERS)


class Logins:
    """Sessions and failed attempts by ssh."""

    def __init__(self, host):
        self.host = host

    def session(self, t, user, address, port, key, length, tty="pts/0", whole=True):
        """One login by public key (`key` is its fingerprint) or password (`key` None), and its end.

        `whole` false keeps only what the login log shows (for the months before the other logs begin)."""
        h, uid, pid = self.host, UID[user], self.host.pid(t)
        how = f"publickey for {user} from {address} port {port} ssh2: ED25519 {key}" if key else \
            f"password for {user} from {address} port {port} ssh2"
        end = t + length
        h.say(t, AUTH, "sshd", pid, f"Accepted {how}")
        h.say(t + 8_000, AUTH, "sshd", pid, f"pam_unix(sshd:session): session opened for user {user}(uid={uid}) by (uid=0)")
        h.say(end, AUTH, "sshd", pid + 9, f"Received disconnect from {address} port {port}:11: disconnected by user")
        h.say(end + 5_000, AUTH, "sshd", pid + 9, f"Disconnected from user {user} {address} port {port}")
        h.say(end + 10_000, AUTH, "sshd", pid, f"pam_unix(sshd:session): session closed for user {user}")
        if not whole:
            return pid
        n = 3 + (t - BOOT) // (2 * MINUTE)   # rises with time, as logind counts
        h.say(t + 15_000, AUTH, "systemd-logind", 612, f"New session {n} of user {user}.")
        h.say(t + 25_000, DAEMON, "systemd", 1, f"Started session-{n}.scope - Session {n} of User {user}.")
        h.say(end + 20_000, AUTH, "systemd-logind", 612, f"Session {n} logged out. Waiting for processes to exit.")
        h.say(end + 30_000, AUTH, "systemd-logind", 612, f"Removed session {n}.")
        h.say(end + 40_000, DAEMON, "systemd", 1, f"session-{n}.scope: Deactivated successfully.")
        ident = "ts/" + tty[-1]
        h.wtmp.append((t + 30_000, h.order(), (7, pid + 9, tty, ident, user, address, 0)))
        h.wtmp.append((end + 12_000, h.order(), (8, pid + 9, tty, "", "", "", 0)))
        if h.lastlog.get((uid, user), (0,))[0] <= t:
            h.lastlog[(uid, user)] = (t, tty, address)
        common = f"pid={pid} uid=0 auid={uid} ses={n} subj=unconfined"
        res = f"exe=\"/usr/sbin/sshd\" hostname={address} addr={address}"
        h.audit.append((t + 1_000, h.order(), [(
            "USER_AUTH", f"pid={pid} uid=0 auid=4294967295 ses=4294967295 subj=unconfined msg='op=PAM:authentication "
            f"grantors=pam_permit,pam_unix acct=\"{user}\" {res} terminal=ssh res=success'", 'UID="root" AUID="unset"')]))
        h.audit.append((t + 26_000, h.order(), [(
            "USER_LOGIN", f"{common} msg='op=login id={uid} {res} terminal=/dev/{tty} res=success'",
            f'UID="root" AUID="{user}" ID="{user}"')]))
        h.audit.append((end + 11_000, h.order(), [(
            "USER_END", f"{common} msg='op=PAM:session_close grantors=pam_loginuid,pam_unix acct=\"{user}\" {res} "
            "terminal=ssh res=success'", f'UID="root" AUID="{user}"')]))
        return n

    def failure(self, t, user, address, port, known):
        """One wrong password."""
        h, pid = self.host, self.host.pid(t)
        who = user if known else f"invalid user {user}"
        tail = f"  user={user}" if known else ""
        if not known:
            h.say(t, AUTH, "sshd", pid, f"Invalid user {user} from {address} port {port}")
            h.say(t + 6_000, AUTH, "sshd", pid, "pam_unix(sshd:auth): check pass; user unknown")
        h.say(t + 12_000, AUTH, "sshd", pid, "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh "
              f"ruser= rhost={address}{tail}", 5)
        h.say(t + 1_900_000, AUTH, "sshd", pid, f"Failed password for {who} from {address} port {port} ssh2")
        closed = f"authenticating user {user}" if known else f"invalid user {user}"
        h.say(t + 2_300_000, AUTH, "sshd", pid, f"Connection closed by {closed} {address} port {port} [preauth]")
        h.btmp.append((t + 1_900_000, h.order(), (6, pid, "ssh:notty", "", user if known else user[:31], address, 0)))
        h.audit.append((t + 1_880_000, h.order(), [(
            "USER_AUTH", f"pid={pid} uid=0 auid=4294967295 ses=4294967295 subj=unconfined msg='op=PAM:authentication "
            f"grantors=? acct=\"{user if known else '(unknown)'}\" exe=\"/usr/sbin/sshd\" hostname={address} addr={address} "
            "terminal=ssh res=failed'", 'UID="root" AUID="unset"')]))

    def sudo(self, t, user, tty, folder, command, length=2 * SECOND):
        h, pid = self.host, self.host.pid(t)
        h.say(t, AUTH, "sudo", pid, f"{user:>8} : TTY={tty} ; PWD={folder} ; USER=root ; COMMAND={command}", 5)
        if command == "list":   # `sudo -l` runs nothing, so PAM opens no session
            return
        h.say(t + 4_000, AUTH, "sudo", pid, f"pam_unix(sudo:session): session opened for user root(uid=0) by {user}(uid={UID[user]})")
        h.say(t + length, AUTH, "sudo", pid, "pam_unix(sudo:session): session closed for user root")


def months_before(host, logins):
    """A year of rare logins that only the traditional login log still shows; the clock is put back and forth in it."""
    chance = host.chance
    t = local("2025-12-20 09:05:11")
    while t < local("2026-10-17 00:00:00"):
        user = chance.pick(["jane", "anna", "boris", "chloe"])
        logins.session(t + host.some_second(), user, f"192.0.2.{10 + UID[user] % 10}", chance.between(40000, 60000),
                       "SHA256:" + FINGERPRINT[user], chance.between(3, 90) * MINUTE, whole=False)
        t += chance.between(2, 5) * DAY + chance.between(0, 7) * HOUR


FINGERPRINT = {u: (u + "K7mQ2xVbN4tYpLw9sRz3cHd8eJf6gUa1iOk5MnBvCxZ")[:43] for u in USERS}
