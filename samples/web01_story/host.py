"""The host that logs: takes what programs say, and gives the files that rsyslog and logrotate leave."""

from .clock import Chance, SECOND, in_berlin, local

BOOT = local("2026-10-19 06:12:04.318200")
OFF = local("2026-11-04 09:21:37")
# logrotate runs on Sundays at midnight by the host's clock.
ROTATED = [local("2026-10-25 00:00:00"), local("2026-11-01 00:00:00")]
AUTH, CRON, KERN, DAEMON, USER = 10, 9, 0, 3, 1
_FILES = {AUTH: ["auth.log"], CRON: ["syslog", "cron.log"], KERN: ["syslog", "kern.log"], DAEMON: ["syslog"],
          USER: ["syslog", "user.log"]}


class Host:
    """Everything that was said on web01, before it is sorted into files."""

    def __init__(self):
        self.chance = Chance("web01")
        self.said = []      # (time, order, facility, severity, program, pid, message)
        self.audit = []     # (time, order, [record bodies])
        self.wtmp = []      # (time, order, fields)
        self.btmp = []
        self.lastlog = {}   # uid -> (time, line, host)
        self.web = []       # (time, order, line without its time)
        self.web_errors = []
        self.container = []  # (time in ns, stream, text)
        self._order = 0

    def order(self):
        self._order += 1
        return self._order

    def pid(self, t):
        """Process ids rise with time, as they do on a quiet server."""
        since = BOOT if t >= BOOT else local("2025-12-19 15:20:00")
        return 900 + (t - since) // (4 * SECOND) % 4_190_000 + self.chance.between(0, 2)

    def say(self, t, facility, program, pid, message, severity=6):
        # Programs answer within a second; the fraction makes equal seconds differ.
        self.said.append((t + self.chance.between(0, 4000), self.order(), facility, severity, program, pid, message))

    def jitter(self):
        return self.chance.between(0, SECOND - 1)

    def some_second(self):
        """Somewhere in a minute: people do not start on the full one."""
        return self.chance.between(0, 59) * SECOND + self.jitter()

    def sorted_said(self):
        return sorted(self.said)

    def syslog_files(self):
        """Name -> text, in the format of Debian 12 (RFC 3339 with microseconds); rotated siblings included."""
        files = {}
        for t, _, facility, _, program, pid, message in self.sorted_said():
            if t < local("2026-10-18 00:00:00"):
                continue
            stamp = in_berlin(t).isoformat(timespec="microseconds")
            tag = f"{program}[{pid}]" if pid else program
            age = sum(t < turn for turn in ROTATED)
            for name in _FILES[facility]:
                name += ["", ".1", ".2"][age]
                files.setdefault(name, []).append(f"{stamp} web01 {tag}: {message}\n")
        return {name: "".join(lines) for name, lines in files.items()}

    def secure_files(self):
        """The same logins in the traditional form (RFC 3164: no year, no zone), rotated by size: years pass within."""
        turns = [local("2026-03-20 04:10:00"), local("2026-10-30 04:10:00")]
        files = {}
        for t, _, facility, _, program, pid, message in self.sorted_said():
            if facility != AUTH or program == "CRON":
                continue
            when = in_berlin(t)
            stamp = f"{when:%b} {when.day:2d} {when:%H:%M:%S}"
            name = "secure" + ["", ".1", ".2"][sum(t < turn for turn in turns)]
            files.setdefault(name, []).append(f"{stamp} web01 {program}[{pid}]: {message}\n")
        return {name: "".join(lines) for name, lines in files.items()}
