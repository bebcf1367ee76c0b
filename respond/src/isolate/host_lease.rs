//! What becomes of our table once the lease is over. The kernel has let everything through by then (see [`super::nft_ruleset`]);
//! what is left is to take the empty table away, by systemd where it runs, else by a process that outlives us.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::command::{find, run};
use super::nft_listing::Ours;
use crate::steps::Failed;

/// How our timers are called, before the mark.
const UNIT: &str = "exhibit-quarantine-";

/// The process looks again at least this often, so that it ends soon after the table was taken away by somebody else.
const LONGEST_SLEEP: u64 = 30;

/// Has the table of this handle taken away when its lease is over; gives who does it. Never fails: nobody has to.
pub(crate) fn tidy_later(mark: &str, handle: u64, seconds: u64, program: Option<&Path>) -> String {
    if runs_systemd() {
        stop_timers(mark);
        let nft = find("nft").unwrap_or_else(|| "/usr/sbin/nft".into());
        let words = timer(mark, handle, seconds, &nft.to_string_lossy());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match run("systemd-run", &words, "").and_then(|ran| ran.output("systemd-run")) {
            Ok(_) => return "a timer of systemd".to_owned(),
            Err(failed) => return format!("nobody: {failed}"),
        }
    }
    let Some(program) = program else { return "nobody: no program was named for it".to_owned() };
    // It starts the process that stays and ends, so that nobody has to wait for that.
    let started = Command::new(program)
        .args(["isolate", "expire", "--table-handle", &handle.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match started {
        Ok(status) if status.success() => "a process of its own".to_owned(),
        Ok(status) => format!("nobody: {status}"),
        Err(error) => format!("nobody: {error}"),
    }
}

/// What `systemd-run` is told: to remove this very table a little later than the kernel lets go of it.
fn timer(mark: &str, handle: u64, seconds: u64, nft: &str) -> Vec<String> {
    let mut words = vec![
        "--quiet".to_owned(),
        "--collect".to_owned(),
        format!("--unit={UNIT}{mark}-{handle}"),
        format!("--on-active={}s", seconds.saturating_add(2)),
        "--timer-property=AccuracySec=1s".to_owned(),
        nft.to_owned(),
    ];
    words.extend(["delete", "table", "inet", "handle"].map(str::to_owned));
    words.push(handle.to_string());
    words
}

/// Nothing is to be taken away any more. A process of ours sees that by itself.
pub(crate) fn stop_timers(mark: &str) {
    if runs_systemd() {
        // None may be there, which is no matter.
        let _ = run("systemctl", &["stop", &format!("{UNIT}{mark}-*.timer")], "");
    }
}

/// Waits until the lease of the table with this handle is over, and takes it away. Ends at once when there is no such table, or
/// it has no lease.
///
/// # Errors
///
/// [`Failed`] when nft cannot be asked.
pub fn expire(handle: u64) -> Result<(), Failed> {
    loop {
        let Some(ours) = Ours::now()?.filter(|ours| ours.handle == handle) else { return Ok(()) };
        match ours.lease {
            None => return Ok(()),
            Some(0) => {
                delete(handle)?;
                return Ok(());
            }
            Some(left) => thread::sleep(Duration::from_secs(left.min(LONGEST_SLEEP))),
        }
        // The kernel's clock has finer ticks than the seconds that it tells.
        thread::sleep(Duration::from_millis(200));
    }
}

/// Takes the table of this handle away, and no later one of the same name. That it is gone already is no failure.
pub(crate) fn delete(handle: u64) -> Result<(), Failed> {
    let ran = run("nft", &["delete", "table", "inet", "handle", &handle.to_string()], "")?;
    if Ours::now()?.is_some_and(|ours| ours.handle == handle) {
        ran.output("removing our table")?;
        return Err(Failed::for_now("our table is there after it was removed"));
    }
    Ok(())
}

/// Whether systemd can run something for us where our table is: its own network name space is the host's.
fn runs_systemd() -> bool {
    let name_space = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/net")).ok();
    Path::new("/run/systemd/system").is_dir()
        && find("systemd-run").is_some()
        && name_space("thread-self").is_some()
        && name_space("thread-self") == name_space("1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timer_removes_one_table_by_its_number_and_not_before_the_lease_is_over() {
        let words = timer("j1-isolate", 7, 60, "/usr/sbin/nft").join(" ");
        assert!(words.contains("--unit=exhibit-quarantine-j1-isolate-7 --on-active=62s"), "{words}");
        assert!(words.ends_with("/usr/sbin/nft delete table inet handle 7"), "{words}");
    }
}
