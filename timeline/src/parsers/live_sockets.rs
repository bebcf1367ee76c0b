//! Sockets that were open when a live system was captured: who listened, and who was connected to whom.
//!
//! - Found at: `/V3/sockets.jsonl` of the stream `commands`.
//! - Known by: a first line with the format `exhibit-live-sockets/1`.
//! - Times: UTC, when the socket's table was read. The kernel does not say when a socket was opened.
//! - Sides: of a listener, `dst` is where it listens. Of a connection, `src` is our side, or the other one where somebody
//!   listens at our port (`inbound`).
//! - Reference: `acquire/src/triage/sockets.rs`.

use super::live_table::{Row, dated, is_table, parse, who};
use crate::error::ReadError;
use crate::event::{Event, Precision};
use crate::parser::{Context, Input, Line, Parser, Probe, Sink};

pub(super) struct LiveSockets;
pub(super) static PARSER: LiveSockets = LiveSockets;

impl Parser for LiveSockets {
    fn name(&self) -> &'static str {
        "live_sockets"
    }

    fn reads(&self) -> &'static str {
        "sockets of a live system, from the table of a live triage"
    }

    fn times(&self) -> &'static str {
        "Recorded Time"
    }

    fn claims(&self, probe: &Probe<'_>) -> bool {
        is_table(probe, "exhibit-live-sockets/1", "V3/sockets.jsonl", "protocol")
    }

    fn parse(&self, input: &mut Input<'_>, context: &Context, out: &mut dyn Sink) -> Result<(), ReadError> {
        parse(input, self, out, |row, line| socket(row, line, context).map(|event| vec![event]))
    }
}

fn socket(mut row: Row, line: &Line<'_>, context: &Context) -> Result<Event, &'static str> {
    let Some(protocol) = row.word("protocol").map(str::to_owned) else {
        return Err("a socket without its protocol");
    };
    let state = row.word("state").unwrap_or("open").to_owned();
    let (listens, inbound) = (state == "LISTEN", row.has("inbound"));
    let process = row.text("process");
    let pid = row.first_number("pids");
    let user = row.peek("uid").and_then(|uid| u32::try_from(uid).ok()).and_then(|uid| context.user(uid));
    let user = user.map(str::to_owned);
    let holder = match (&process, pid) {
        (Some(name), Some(pid)) => format!(" by {name}[{pid}]"),
        (None, Some(pid)) => format!(" by process {pid}"),
        _ => " by no process that could be seen".to_owned(),
    };
    let owner = who(user.as_deref(), row.peek("uid")).map(|who| format!(" of {who}")).unwrap_or_default();
    let local = (row.text("local_ip"), row.port("local_port"));
    let remote = (row.text("remote_ip"), row.port("remote_port"));
    let side = |(ip, port): &(Option<String>, Option<i32>)| match (ip, port) {
        (Some(ip), Some(port)) if ip.contains(':') => format!("[{ip}]:{port}"),
        (Some(ip), Some(port)) => format!("{ip}:{port}"),
        (Some(ip), None) => ip.clone(),
        (None, _) => String::new(),
    };
    let name = row.word("name").map(str::to_owned);
    let is_connected = matches!(&remote, (Some(_), Some(1..)));
    let place = match (&local.0, is_connected, inbound) {
        (None, ..) => name.clone().map(|name| format!(" {name}")).unwrap_or_default(),
        (Some(_), false, _) => format!(" at {}", side(&local)),
        (Some(_), true, true) => format!(" {} from {}", side(&local), side(&remote)),
        (Some(_), true, false) => format!(" {} to {}", side(&local), side(&remote)),
    };
    let hidden = if row.has("hidden") { "; it is hidden from /proc/net" } else { "" };
    let message = format!("{protocol} {state}{place}{holder}{owner}{hidden}");
    let time = row.time("observed");
    let mut event =
        dated(Event::new("linux:socket", "Recorded Time", line.span, message), time, Precision::Ns);
    event.category = Some("network".into());
    event.action = Some(
        if listens {
            "listening"
        } else if is_connected {
            "connected"
        } else {
            "socket-open"
        }
        .into(),
    );
    event.process = process;
    event.pid = pid;
    event.user_name = user;
    event.path = name.filter(|name| name.starts_with('/'));
    let from_there = listens || inbound || !is_connected;
    let (from, to) = if from_there { (remote, local) } else { (local, remote) };
    // The other side of a listener is nobody's: 0.0.0.0:0.
    if is_connected {
        (event.src_ip, event.src_port) = from;
    }
    (event.dst_ip, event.dst_port) = to;
    event.attrs = row.rest();
    Ok(event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parsers::sample_checks::{every_byte_is_accounted_for, every_record_reads_alone, read};

    const TABLE: &str = concat!(
        "{\"format\":\"exhibit-live-sockets/1\",\"namespaces\":1}\n",
        "{\"inode\":\"1\",\"local_ip\":\"0.0.0.0\",\"local_port\":22,\"netns\":\"4026531840\",\"observed\":\"2026-11-21T01:30:00.000000000Z\",\"pids\":[812],\"process\":\"sshd\",\"protocol\":\"tcp\",\"remote_ip\":\"0.0.0.0\",\"remote_port\":0,\"state\":\"LISTEN\",\"uid\":0}\n",
        "{\"inbound\":true,\"inode\":\"2\",\"local_ip\":\"192.0.2.5\",\"local_port\":22,\"observed\":\"2026-11-21T01:30:00.000000000Z\",\"pids\":[900],\"process\":\"sshd\",\"protocol\":\"tcp\",\"remote_ip\":\"203.0.113.9\",\"remote_port\":51022,\"state\":\"ESTABLISHED\",\"uid\":0}\n",
        "{\"inode\":\"3\",\"local_ip\":\"2001:db8::5\",\"local_port\":40000,\"observed\":\"2026-11-21T01:30:00.000000000Z\",\"protocol\":\"tcp6\",\"remote_ip\":\"2001:db8::9\",\"remote_port\":443,\"state\":\"ESTABLISHED\",\"uid\":1000}\n",
        "{\"inode\":\"4\",\"name\":\"/run/x.sock\",\"observed\":\"2026-11-21T01:30:00.000000000Z\",\"pids\":[7],\"protocol\":\"unix\",\"state\":\"LISTEN\"}\n",
        "{\"inode\":\"5\"}\n",
    );

    #[test]
    fn each_socket_says_who_is_on_which_side() {
        let out = read(&PARSER, TABLE.as_bytes(), &Context::default());
        let told: Vec<_> = out.events.iter().map(|event| event.message.as_str()).collect();
        assert_eq!(
            told,
            [
                "tcp LISTEN at 0.0.0.0:22 by sshd[812] of uid 0",
                "tcp ESTABLISHED 192.0.2.5:22 from 203.0.113.9:51022 by sshd[900] of uid 0",
                "tcp6 ESTABLISHED [2001:db8::5]:40000 to [2001:db8::9]:443 by no process that could be seen of uid 1000",
                "unix LISTEN /run/x.sock by process 7",
            ]
        );
        let sides: Vec<_> = out.events.iter().map(|e| (e.src_port, e.dst_port)).collect();
        assert_eq!(
            sides,
            [(None, Some(22)), (Some(51022), Some(22)), (Some(40000), Some(443)), (None, None)]
        );
        assert_eq!(out.events[3].path.as_deref(), Some("/run/x.sock"));
        assert_eq!(out.rejects[0].1, "a socket without its protocol");
        every_record_reads_alone(&PARSER, TABLE.as_bytes(), &Context::default());
        every_byte_is_accounted_for(&out, TABLE.as_bytes());
    }
}
