//! Reads of a live system that may never answer: each has a limit of time and of size.
//!
//! A read of `/proc/PID/cmdline` waits for a lock of that process, and a dead network mount answers nobody. So such acts
//! run on a thread of their own. One that does not answer in time is left behind with its thread, and the next act gets a
//! new one.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded, unbounded};
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, Statx, StatxFlags, openat, readlinkat, statx};

/// Threads left behind before nothing more is tried.
const MOST_LEFT_BEHIND: u32 = 64;

type Act = Box<dyn FnOnce() + Send>;

/// Runs acts that may never end, one after the other.
pub(crate) struct Patience {
    limit: Duration,
    worker: Option<Sender<Act>>,
    left_behind: u32,
}

impl Patience {
    pub(crate) fn of(limit: Duration) -> Self {
        Self { limit, worker: None, left_behind: 0 }
    }

    /// Gives what `act` gives, or an error of kind `TimedOut`.
    pub(crate) fn wait<T: Send + 'static>(
        &mut self,
        act: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        if self.left_behind >= MOST_LEFT_BEHIND {
            let what = format!("not tried: {MOST_LEFT_BEHIND} reads have not answered");
            return Err(io::Error::new(io::ErrorKind::TimedOut, what));
        }
        let (to_us, answer) = bounded(1);
        let act: Act = Box::new(move || {
            let _ = to_us.send(act()); // nobody listens any more if it took too long
        });
        self.worker()?.send(act).map_err(|_| io::Error::other("the reading thread ended"))?;
        match answer.recv_timeout(self.limit) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => {
                self.worker = None;
                self.left_behind += 1;
                let what = format!("no answer within {} s", self.limit.as_secs_f32());
                Err(io::Error::new(io::ErrorKind::TimedOut, what))
            }
            Err(RecvTimeoutError::Disconnected) => {
                self.worker = None;
                Err(io::Error::other("the reading thread ended"))
            }
        }
    }

    fn worker(&mut self) -> io::Result<&Sender<Act>> {
        if self.worker.is_none() {
            let (to_worker, acts) = unbounded::<Act>();
            thread::Builder::new()
                .name("live".to_owned())
                .spawn(move || acts.iter().for_each(|act| act()))?;
            self.worker = Some(to_worker);
        }
        self.worker.as_ref().ok_or_else(|| io::Error::other("no reading thread"))
    }
}

/// The first bytes of a file.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) bytes: Vec<u8>,
    /// There was more.
    pub(crate) cut: bool,
}

/// Opens a file below a folder for reading, never waiting for a pipe's other end.
pub(crate) fn open_below(folder: impl AsFd, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(File::from(openat(folder, name, flags, Mode::empty())?))
}

/// Opens a folder to read what lies below it.
pub(crate) fn open_folder(path: &std::path::Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY;
    Ok(openat(CWD, path, flags, Mode::empty())?)
}

/// The first `most` bytes of a file below a folder.
pub(crate) fn read_below(folder: impl AsFd, name: &str, most: usize) -> io::Result<Taken> {
    let mut bytes = Vec::new();
    let mut file = open_below(folder, name)?.take((most as u64).saturating_add(1));
    let result = file.read_to_end(&mut bytes);
    let cut = bytes.len() > most;
    bytes.truncate(most);
    match result {
        // What came before an error is kept by the caller only if there is any.
        Err(error) if bytes.is_empty() => Err(error),
        Err(_) => Ok(Taken { bytes, cut: true }),
        Ok(_) => Ok(Taken { bytes, cut }),
    }
}

/// Where a link below a folder leads.
pub(crate) fn link_below(folder: impl AsFd, name: &str) -> io::Result<Vec<u8>> {
    Ok(readlinkat(folder, name, Vec::new())?.into_bytes())
}

/// The inode at the end of a link, as the system has it in memory: nothing is asked over a network.
pub(crate) fn target_below(folder: impl AsFd, name: &str) -> io::Result<Statx> {
    let flags = AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    Ok(statx(folder, name, flags, StatxFlags::BASIC_STATS)?)
}

/// The names in a folder below a folder, `most` of them, and whether there were more. Names are sorted, numbers as
/// numbers.
pub(crate) fn names_below(folder: impl AsFd, name: &str, most: usize) -> io::Result<(Vec<String>, bool)> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY;
    let opened = openat(folder, name, flags, Mode::empty())?;
    let mut names = Vec::new();
    let mut cut = false;
    for entry in Dir::read_from(opened)? {
        // A folder of /proc may go while it is read; what came before counts.
        let Ok(entry) = entry else {
            cut = true;
            break;
        };
        let Ok(name) = entry.file_name().to_str() else { continue };
        if matches!(name, "." | "..") {
            continue;
        }
        if names.len() >= most {
            cut = true;
            break;
        }
        names.push(name.to_owned());
    }
    names.sort_by(|a, b| match (a.parse::<u64>(), b.parse::<u64>()) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        _ => a.cmp(b),
    });
    Ok((names, cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_act_that_never_answers_is_left_behind_and_the_next_one_runs() {
        let mut patience = Patience::of(Duration::from_secs(1));
        let (hold, held) = bounded::<()>(0);
        let error = patience.wait(move || held.recv().map_err(io::Error::other)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(patience.wait(|| Ok(7)).unwrap(), 7);
        drop(hold);
    }

    #[test]
    fn after_too_many_silent_acts_nothing_more_is_tried() {
        let mut patience = Patience::of(Duration::ZERO);
        patience.left_behind = MOST_LEFT_BEHIND;
        assert!(patience.wait(|| Ok(1)).unwrap_err().to_string().starts_with("not tried"));
    }

    #[test]
    fn a_file_is_read_up_to_its_limit_and_a_pipe_does_not_hold_us_up() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), b"12345").unwrap();
        let root = open_folder(folder.path()).unwrap();
        assert_eq!(read_below(&root, "a", 5).unwrap(), Taken { bytes: b"12345".to_vec(), cut: false });
        assert_eq!(read_below(&root, "a", 4).unwrap(), Taken { bytes: b"1234".to_vec(), cut: true });
        rustix::fs::mknodat(CWD, folder.path().join("p"), rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert_eq!(read_below(&root, "p", 4).unwrap().bytes, b"");
        assert!(names_below(&root, ".", 1).unwrap().1);
        assert_eq!(names_below(&root, ".", 9).unwrap().0, ["a", "p"]);
    }
}
