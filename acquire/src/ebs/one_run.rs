//! One run at a time makes snapshots of a target for a case, or takes over those of a run before it.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::Duration;

use custody::{Case, sha256};

use super::target::Target;

/// Held by the run that is at work on a target for a case; it ends with the process, however that ends.
///
/// What is held is a name in the kernel (an abstract socket that nobody connects to), made of the ids of case and target: no
/// file is left in the case, and a copy of the case in another folder of this machine is the same case. Other machines, and
/// containers with a network of their own, do not see it.
#[derive(Debug)]
pub struct OneRun {
    _held: UnixListener,
}

impl OneRun {
    /// Takes the target for this run.
    ///
    /// # Errors
    ///
    /// Of kind [`io::ErrorKind::AddrInUse`] while another run has it.
    pub fn take(case: &Case, target: &Target) -> io::Result<Self> {
        Self::named(&case.file().id, target)
    }

    fn named(case: &str, target: &Target) -> io::Result<Self> {
        let name = format!("exhibit-ebs-{}", sha256(format!("{case} {target}").as_bytes()));
        let address = SocketAddr::from_abstract_name(name.as_bytes())?;
        // A process that was just started by the run before may hold its descriptors for a moment.
        let mut patience = 25;
        loop {
            match UnixListener::bind_addr(&address) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && patience > 0 => {
                    patience -= 1;
                    std::thread::sleep(Duration::from_millis(20));
                }
                held => return Ok(Self { _held: held? }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_one_runs_in_one_case_until_that_run_ends() {
        let case = format!("of this test {}", std::process::id());
        let (volume, other) = (Target::Volume("vol-01234567".into()), Target::Volume("vol-76543210".into()));
        let held = OneRun::named(&case, &volume).unwrap();
        let refused = OneRun::named(&case, &volume).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        OneRun::named(&case, &other).unwrap();
        OneRun::named("of another", &volume).unwrap();
        drop(held);
        OneRun::named(&case, &volume).unwrap();
    }
}
