//! The Linux audit log: one event for each record, raw or enriched.
//!
//! - Found at: `/var/log/audit/audit.log*`.
//! - Known by: `type=X msg=audit(SECONDS.MILLISECONDS:SERIAL):`, behind `node=HOST ` or not, within the first 20 lines.
//! - Times: UTC by format, to the millisecond.
//! - Not read: lines without type, time or serial; they are rejects. Records of one serial are not merged: each is
//!   an event, and `record_no` is the serial.
//! - Reference: auditd's `lib/msg_typetab.h` and `auparse/`, the kernel's `kernel/audit.c` (`audit_log_untrustedstring`)
//!   and `kernel/auditsc.c`.

mod fields;
mod meaning;
mod syscalls;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use crate::error::ReadError;
use crate::event::{Event, Precision, Timestamp, TzBasis, flags};
use crate::parser::{Context, Input, LONGEST_LINE, Parser, Probe, Sink};
use crate::text::clean;

pub(super) struct Auditd;
pub(super) static PARSER: Auditd = Auditd;

impl Parser for Auditd {
    fn name(&self) -> &'static str {
        "auditd"
    }

    fn reads(&self) -> &'static str {
        "Linux audit log, raw and enriched, with SELinux's records"
    }

    fn times(&self) -> &'static str {
        "Recorded Time"
    }

    fn claims(&self, probe: &Probe<'_>) -> bool {
        let (mut seen, mut good) = (0u32, 0u32);
        for line in probe.lines().take(20).filter(|line| !line.is_empty()) {
            seen = seen.saturating_add(1);
            if head(&clean(line)).is_ok() {
                good = good.saturating_add(1);
            }
        }
        good > 0 && good.saturating_mul(4) >= seen
    }

    fn parse(&self, input: &mut Input<'_>, context: &Context, out: &mut dyn Sink) -> Result<(), ReadError> {
        while let Some(line) = input.next_line()? {
            if line.bytes.trim_ascii().is_empty() {
                if !line.bytes.is_empty() {
                    out.filler(line.span);
                }
                continue;
            }
            let text = match std::str::from_utf8(line.bytes) {
                Ok(text) => Cow::Borrowed(text),
                Err(_) => Cow::Owned(clean(line.bytes)),
            };
            match head(&text) {
                Ok(head) => {
                    let event = Event::new("linux:auditd", "Recorded Time", line.span, "");
                    let mut event = event.at(head.time, Precision::Ms, TzBasis::UtcByFormat);
                    event.host = head.node.filter(|n| !n.is_empty()).map(|n| Cow::Owned(n.to_owned()));
                    event.event_code = Some(Cow::Owned(head.kind.to_owned()));
                    event.record_no = i64::try_from(head.serial).ok();
                    if line.cut || line.bytes.len() >= LONGEST_LINE {
                        event.flags |= flags::TRUNCATED;
                    }
                    meaning::understand(head.kind, head.body, context, &mut event);
                    out.event(event);
                }
                Err(reason) => out.reject(line.span, reason.into()),
            }
        }
        Ok(())
    }
}

/// What every record starts with.
struct Head<'t> {
    node: Option<&'t str>,
    kind: &'t str,
    time: Timestamp,
    serial: u64,
    body: &'t str,
}

fn head(line: &str) -> Result<Head<'_>, &'static str> {
    let (node, rest) = match line.strip_prefix("node=").and_then(|l| l.split_once(' ')) {
        Some((node, rest)) => (Some(node), rest),
        None => (None, line),
    };
    let rest = rest.strip_prefix("type=").ok_or("no record type")?;
    let (kind, rest) = rest.split_once(' ').ok_or("no audit time")?;
    if kind.is_empty() {
        return Err("empty record type");
    }
    let rest = rest.trim_start().strip_prefix("msg=audit(").ok_or("no audit time")?;
    let (stamp, body) = rest.split_once(')').ok_or("the audit time does not end")?;
    let (time, serial) = stamp.split_once(':').ok_or("no seconds.milliseconds:serial in the audit time")?;
    let (seconds, fraction) = time.split_once('.').ok_or("no milliseconds in the audit time")?;
    let time = timestamp(seconds, fraction).ok_or("the audit time is no number, or out of range")?;
    let serial = number(serial).ok_or("the audit serial is no number")?;
    let body = body.strip_prefix(':').unwrap_or(body).trim_start();
    Ok(Head { node, kind, time, serial, body })
}

fn timestamp(seconds: &str, fraction: &str) -> Option<Timestamp> {
    if fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let scale = 10u32.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let nanos = u32::try_from(number(fraction)?).ok()?.checked_mul(1_000_000_000 / scale)?;
    Timestamp::from_unix(i64::try_from(number(seconds)?).ok()?, nanos)
}

/// Digits alone: `u64::from_str` would take a `+` as well.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) { None } else { text.parse().ok() }
}
