//! OpenSSH's server: `auth.c`, `auth2.c`, `packet.c`, `serverloop.c` and `session.c` of OpenSSH 3 to 10.

use super::{address, failed, is, leading_digits, port, put_text, source_host, succeeded, user};
use crate::event::Event;

pub(super) fn understand(message: &str, event: &mut Event) {
    let message =
        message.strip_prefix("error: ").or_else(|| message.strip_prefix("fatal: ")).unwrap_or(message);
    let message = message.strip_suffix("[preauth]").map_or(message, str::trim_end);
    let Some((first, rest)) = message.split_once(' ') else { return };
    match first {
        "Accepted" | "Failed" | "Postponed" => attempt(first, rest, event),
        "Invalid" | "Illegal" => {
            let Some(rest) = rest.strip_prefix("user ") else { return };
            is(event, "authentication", "ssh-invalid-user");
            failed(event);
            from(rest, event);
            event.attrs.put("invalid_user", true);
        }
        "Connection" => connection(rest, event),
        "Disconnected" => {
            let Some(rest) = rest.strip_prefix("from ") else { return };
            is(event, "network", "ssh-disconnected");
            peer(rest, event);
        }
        "Disconnecting" | "Disconnecting:" => {
            is(event, "network", "ssh-disconnected");
            let reason = peer(rest, event).trim_start_matches([':', ' ']);
            put_text(event, "reason", reason);
        }
        "Received" => {
            let Some(rest) = rest.strip_prefix("disconnect from ") else { return };
            is(event, "network", "ssh-disconnected");
            // `: 11: disconnected by user`; 11 is SSH_DISCONNECT_BY_APPLICATION.
            let reason = peer(rest, event).trim_start_matches([':', ' ']);
            let (code, text) = leading_digits(reason);
            if let Ok(code) = code.parse::<i64>() {
                event.attrs.put("reason_code", code);
            }
            put_text(event, "reason", text.trim_start_matches([':', ' ']));
        }
        "maximum" => {
            let Some(rest) = rest.strip_prefix("authentication attempts exceeded for ") else { return };
            is(event, "authentication", "ssh-too-many-attempts");
            failed(event);
            from(known_user(rest, event), event);
        }
        "User" => denied(rest, event),
        "Server" => {
            let Some(rest) = rest.strip_prefix("listening on ") else { return };
            is(event, "network", "ssh-listening");
            let mut words = rest.split_ascii_whitespace();
            event.dst_ip = words.next().and_then(address);
            event.dst_port = words.nth(1).and_then(|p| port(p.trim_end_matches('.')));
        }
        "Starting" => {
            let Some(rest) = rest.strip_prefix("session: ") else { return };
            let Some((what, who)) = rest.split_once(" for ") else { return };
            is(event, "session", "ssh-session-started");
            put_text(event, "session", what);
            from(who, event);
        }
        "Close" => {
            let Some(rest) = rest.strip_prefix("session: user ") else { return };
            is(event, "session", "ssh-session-closed");
            from(rest, event);
        }
        "subsystem" => {
            let Some((what, who)) = rest.strip_prefix("request for ").and_then(|r| r.split_once(" by user "))
            else {
                return;
            };
            is(event, "session", "ssh-subsystem");
            user(event, who);
            put_text(event, "subsystem", what);
        }
        "Did" | "Bad" | "Unable" | "Timeout" | "banner" | "reverse" => probe(message, event),
        "PAM" => {
            // `PAM 2 more authentication failures; logname= uid=0 …`
            let (count, text) = leading_digits(rest);
            if text.trim_start().starts_with("more authentication failure") {
                super::pam::failure("sshd", text, event);
                if let Ok(count) = count.parse::<i64>() {
                    event.attrs.put("more", count);
                }
            }
        }
        _ => {}
    }
}

/// `METHOD for [invalid user ]NAME from ADDRESS port N ssh2[: KEY]`
fn attempt(verdict: &str, rest: &str, event: &mut Event) {
    let Some((method, who)) = rest.split_once(" for ") else { return };
    is(event, "authentication", "ssh-login");
    match verdict {
        "Accepted" => succeeded(event),
        "Failed" => failed(event),
        _ => event.outcome = Some("unknown".into()),
    }
    put_text(event, "method", method);
    let after = from(known_user(who, event), event);
    if let Some((_, key)) = after.split_once(": ") {
        put_text(event, "key", key);
    }
}

/// Cuts `invalid user ` off, and says so in the event.
fn known_user<'m>(text: &'m str, event: &mut Event) -> &'m str {
    match text.strip_prefix("invalid user ").or_else(|| text.strip_prefix("illegal user ")) {
        Some(rest) => {
            event.attrs.put("invalid_user", true);
            rest
        }
        None => text,
    }
}

/// `NAME from ADDRESS port N…`: gives what follows. The name is the client's choice and may hold ` from `
/// itself, so the last one counts.
fn from<'m>(text: &'m str, event: &mut Event) -> &'m str {
    let Some((name, rest)) =
        text.rsplit_once(" from ").or_else(|| text.strip_prefix("from ").map(|r| ("", r)))
    else {
        user(event, text);
        return "";
    };
    user(event, name);
    endpoint(rest, event)
}

/// `[authenticating user NAME |invalid user NAME |user NAME ]ADDRESS[ port N]…`: gives what follows.
fn peer<'m>(text: &'m str, event: &mut Event) -> &'m str {
    let named = text.strip_prefix("authenticating user ").or_else(|| text.strip_prefix("user "));
    let named = match named {
        Some(rest) => rest,
        None if text.starts_with("invalid user ") || text.starts_with("illegal user ") => {
            known_user(text, event)
        }
        None => return endpoint(text, event),
    };
    // The name may hold spaces: the address is the word before the last ` port `.
    let (head, tail) = named.rsplit_once(" port ").unwrap_or((named, ""));
    let (name, host) = head.rsplit_once(' ').unwrap_or(("", head));
    user(event, name);
    source_host(event, host);
    let (digits, after) = leading_digits(tail);
    event.src_port = port(digits);
    after
}

/// `ADDRESS[ port N]…`: gives what follows.
fn endpoint<'m>(text: &'m str, event: &mut Event) -> &'m str {
    let text = text.trim_start();
    let (host, rest) = text.split_once(' ').unwrap_or((text, ""));
    match host.strip_suffix([':', ',']) {
        Some(cut) if address(host).is_none() => source_host(event, cut),
        _ => source_host(event, host),
    }
    let Some(rest) = rest.trim_start().strip_prefix("port ") else { return rest };
    let (digits, after) = leading_digits(rest.trim_start());
    event.src_port = port(digits);
    after
}

fn connection(rest: &str, event: &mut Event) {
    if let Some(rest) = rest.strip_prefix("closed by ") {
        is(event, "network", "ssh-disconnected");
        peer(rest, event);
    } else if let Some(rest) = rest.strip_prefix("reset by ") {
        is(event, "network", "ssh-reset");
        peer(rest, event);
    } else if let Some(rest) = rest.strip_prefix("from ") {
        is(event, "network", "ssh-connection");
        // ` on ADDRESS port N` names our own side.
        if let Some(own) = endpoint(rest, event).trim_start().strip_prefix("on ") {
            let mut words = own.split_ascii_whitespace();
            event.dst_ip = words.next().and_then(address);
            event.dst_port = words.nth(1).and_then(port);
        }
    }
}

/// `NAME from HOST not allowed because …`, `NAME not allowed because …`
fn denied(rest: &str, event: &mut Event) {
    let Some((who, why)) = rest.rsplit_once(" not allowed because ") else { return };
    is(event, "authentication", "ssh-login-denied");
    failed(event);
    from(who, event);
    put_text(event, "reason", why);
}

/// Signs of scanners and of clients that never got as far as a login.
fn probe(message: &str, event: &mut Event) {
    let (action, rest) =
        if let Some(rest) = message.strip_prefix("Did not receive identification string from ") {
            ("ssh-no-identification", rest)
        } else if let Some(rest) = message.strip_prefix("Unable to negotiate with ") {
            ("ssh-negotiation-failed", rest)
        } else if let Some(rest) = message.strip_prefix("Timeout before authentication for ") {
            ("ssh-timeout", rest.strip_prefix("connection from ").unwrap_or(rest))
        } else if let Some((_, rest)) = message
            .strip_prefix("Bad protocol version identification ")
            .or_else(|| message.strip_prefix("banner exchange: "))
            .and_then(|rest| rest.rsplit_once("from "))
        {
            ("ssh-bad-identification", rest)
        } else if let Some((_, rest)) =
            message.strip_prefix("reverse mapping checking ").and_then(|rest| rest.rsplit_once('['))
        {
            is(event, "network", "ssh-reverse-mapping-failed");
            source_host(event, rest.split(']').next().unwrap_or(rest));
            return;
        } else {
            return;
        };
    is(event, "network", action);
    failed(event);
    let reason = endpoint(rest, event).trim_start_matches([':', ' ']);
    put_text(event, "reason", reason);
}

#[cfg(test)]
mod tests {
    use super::super::tests::said;

    fn ssh(message: &str) -> String {
        said("sshd", message)
    }

    #[test]
    fn accepted_logins_name_user_address_method_and_key() {
        assert_eq!(
            ssh("Accepted publickey for alice from 198.51.100.23 port 38196 ssh2: ED25519 SHA256:2bd8"),
            r#"authentication ssh-login success user=alice src=198.51.100.23 sport=38196 {"method":"publickey","key":"ED25519 SHA256:2bd8"}"#
        );
        assert_eq!(
            ssh(" Accepted password for bob from 2001:0db8::0001 port 42532  ssh2"),
            r#"authentication ssh-login success user=bob src=2001:db8::1 sport=42532 {"method":"password"}"#
        );
        assert_eq!(
            ssh("Accepted keyboard-interactive/pam for carol from 192.0.2.4 port 1 ssh2"),
            r#"authentication ssh-login success user=carol src=192.0.2.4 sport=1 {"method":"keyboard-interactive/pam"}"#
        );
    }

    #[test]
    fn a_user_name_made_to_look_like_an_address_does_not_hide_the_true_one() {
        assert_eq!(
            ssh(
                "Failed password for invalid user x from 10.0.0.1 port 9 ssh2 from 203.0.113.5 port 4711 ssh2"
            ),
            r#"authentication ssh-login failure user=x from 10.0.0.1 port 9 ssh2 src=203.0.113.5 sport=4711 {"method":"password","invalid_user":true}"#
        );
        assert_eq!(
            ssh("Connection closed by invalid user a 10.0.0.1 port 9 203.0.113.5 port 4711 [preauth]"),
            r#"network ssh-disconnected user=a 10.0.0.1 port 9 src=203.0.113.5 sport=4711 {"invalid_user":true}"#
        );
    }

    #[test]
    fn failures_and_invalid_users_are_failures() {
        assert_eq!(
            ssh("Failed none for root from 192.0.2.1 port 5 ssh2"),
            r#"authentication ssh-login failure user=root src=192.0.2.1 sport=5 {"method":"none"}"#
        );
        assert_eq!(
            ssh("Invalid user  from 192.0.2.1 port 5"),
            r#"authentication ssh-invalid-user failure src=192.0.2.1 sport=5 {"invalid_user":true}"#
        );
        assert_eq!(
            ssh("Invalid user admin from 192.0.2.1"),
            r#"authentication ssh-invalid-user failure user=admin src=192.0.2.1 {"invalid_user":true}"#
        );
        assert_eq!(
            ssh(
                "error: maximum authentication attempts exceeded for invalid user pi from 192.0.2.1 port 5 ssh2 [preauth]"
            ),
            r#"authentication ssh-too-many-attempts failure user=pi src=192.0.2.1 sport=5 {"invalid_user":true}"#
        );
        assert_eq!(
            ssh("User mallory from bad.example.org not allowed because not listed in AllowUsers"),
            r#"authentication ssh-login-denied failure user=mallory {"src_host":"bad.example.org","reason":"not listed in AllowUsers"}"#
        );
        assert_eq!(
            ssh(
                "PAM 2 more authentication failures; logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.1  user=root"
            ),
            r#"authentication pam-authentication failure user=root src=192.0.2.1 {"service":"sshd","uid":"0","euid":"0","tty":"ssh","more":2}"#
        );
    }

    #[test]
    fn ends_of_connections_name_their_peer() {
        assert_eq!(
            ssh("Received disconnect from 192.0.2.1 port 5:11: disconnected by user"),
            r#"network ssh-disconnected src=192.0.2.1 sport=5 {"reason_code":11,"reason":"disconnected by user"}"#
        );
        assert_eq!(
            ssh("Received disconnect from 2001:db8::7: 11: Bye Bye [preauth]"),
            r#"network ssh-disconnected src=2001:db8::7 {"reason_code":11,"reason":"Bye Bye"}"#
        );
        assert_eq!(
            ssh("Disconnected from user alice 192.0.2.1 port 5"),
            "network ssh-disconnected user=alice src=192.0.2.1 sport=5"
        );
        assert_eq!(
            ssh("Connection reset by authenticating user root 192.0.2.1 port 5 [preauth]"),
            "network ssh-reset user=root src=192.0.2.1 sport=5"
        );
        assert_eq!(
            ssh("Connection closed by 192.0.2.1 port 5 [preauth]"),
            "network ssh-disconnected src=192.0.2.1 sport=5"
        );
        assert_eq!(
            ssh(
                "Disconnecting authenticating user root 192.0.2.1 port 5: Too many authentication failures [preauth]"
            ),
            r#"network ssh-disconnected user=root src=192.0.2.1 sport=5 {"reason":"Too many authentication failures"}"#
        );
    }

    #[test]
    fn connections_sessions_and_probes_are_told_apart() {
        assert_eq!(
            ssh("Connection from 192.0.2.1 port 5 on 192.0.2.80 port 22 rdomain \"\""),
            "network ssh-connection src=192.0.2.1 sport=5 dst=192.0.2.80 dport=22"
        );
        assert_eq!(ssh("Server listening on 0.0.0.0 port 22."), "network ssh-listening dst=0.0.0.0 dport=22");
        assert_eq!(
            ssh("Starting session: shell on pts/0 for alice from 192.0.2.1 port 5 id 0"),
            r#"session ssh-session-started user=alice src=192.0.2.1 sport=5 {"session":"shell on pts/0"}"#
        );
        assert_eq!(
            ssh("subsystem request for sftp by user alice"),
            r#"session ssh-subsystem user=alice {"subsystem":"sftp"}"#
        );
        assert_eq!(
            ssh("Did not receive identification string from 192.0.2.1 port 5"),
            "network ssh-no-identification failure src=192.0.2.1 sport=5"
        );
        assert_eq!(
            ssh(
                "Unable to negotiate with 192.0.2.1 port 5: no matching host key type found. Their offer: ssh-dss [preauth]"
            ),
            r#"network ssh-negotiation-failed failure src=192.0.2.1 sport=5 {"reason":"no matching host key type found. Their offer: ssh-dss"}"#
        );
        assert_eq!(
            ssh("Bad protocol version identification 'GET / HTTP/1.1' from 192.0.2.1 port 5"),
            "network ssh-bad-identification failure src=192.0.2.1 sport=5"
        );
    }
}
