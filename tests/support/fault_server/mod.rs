//! The EBS direct APIs on loopback, by one thread a connection, with every fault that a plan asks for.
//!
//! It checks what AWS checks (the token of each block and page, and the snapshot it is for) and counts what it is asked.
//! Bodies and checksums are made before they are asked for, so that it costs little beside what is measured with it.

#![allow(dead_code, unused_imports, reason = "each binary of tests uses a part of it")]

mod answer;
mod fault;
mod listing;
mod pace;
mod snapshot;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

pub(crate) use fault::{Fault, Operation, Plan, Rule};
pub(crate) use snapshot::{BLOCK, Piece, Snapshot};

use answer::Answer;
use wire::Request;

/// What was asked, and what was answered.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Requests of each operation, refused ones too.
    pub(crate) asked: BTreeMap<String, u64>,
    /// Blocks that were sent whole and right.
    pub(crate) blocks: u64,
    /// Requests over the rate.
    pub(crate) over_rate: u64,
    /// Faults of the plan, by name.
    pub(crate) faults: BTreeMap<String, u64>,
    /// Requests for each block, where the plan has rules.
    pub(crate) of_blocks: BTreeMap<u32, u64>,
    /// Requests in work at once, at most.
    pub(crate) most_at_once: u64,
}

impl Counts {
    /// Requests of one operation.
    pub(crate) fn of(&self, operation: Operation) -> u64 {
        self.asked.get(operation.name()).copied().unwrap_or(0)
    }

    /// How often a fault was shown.
    pub(crate) fn shown(&self, fault: &str) -> u64 {
        self.faults.get(fault).copied().unwrap_or(0)
    }
}

/// What all connections share.
struct Shared {
    snapshots: BTreeMap<String, Snapshot>,
    plan: Mutex<fault::Progress>,
    /// Whether the plan has rules at all: the quick way past its lock.
    has_rules: bool,
    settings: Settings,
    pace: pace::Pace,
    counts: Mutex<Counts>,
    /// Lists that were begun, which may make older tokens invalid.
    generation: AtomicU32,
    gets: AtomicU64,
    blocks: AtomicU64,
    at_once: AtomicU64,
    /// Tags of the snapshots that were made here, by id; none of those that were deleted.
    made: Mutex<BTreeMap<String, Vec<(String, String)>>>,
    deleted: Mutex<BTreeSet<String>>,
    stop: AtomicBool,
}

/// What the plan says of the server as a whole.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Every answer waits so long.
    pub(crate) latency: Duration,
    /// Requests for blocks a second, over which they are refused; 0 for no limit.
    pub(crate) rate: u32,
    /// Most blocks in a page, whatever is asked for.
    pub(crate) page: usize,
    /// A token of a block is good for so many requests for blocks; 0 for no limit.
    pub(crate) block_token_gets: u64,
    /// Whether a list that begins anew makes all tokens of former lists invalid.
    pub(crate) newest_list_only: bool,
    /// When the tokens end, as the lists tell it.
    pub(crate) expires_in: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            rate: 0,
            page: 10_000,
            block_token_gets: 0,
            newest_list_only: false,
            expires_in: Duration::from_secs(6 * 86_400),
        }
    }
}

/// A running server; it takes no more connections once this is dropped.
pub(crate) struct FaultServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl FaultServer {
    /// Starts on a free port of loopback.
    pub(crate) fn start(snapshots: Vec<Snapshot>, plan: Plan) -> Self {
        Self::start_at(0, snapshots, plan)
    }

    /// Starts on a port of loopback.
    pub(crate) fn start_at(port: u16, snapshots: Vec<Snapshot>, plan: Plan) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let address = listener.local_addr().unwrap();
        let Plan { settings, rules } = plan;
        let shared = Arc::new(Shared {
            snapshots: snapshots.into_iter().map(|snapshot| (snapshot.id.clone(), snapshot)).collect(),
            has_rules: !rules.is_empty(),
            plan: Mutex::new(fault::Progress::new(rules)),
            pace: pace::Pace::new(settings.rate),
            settings,
            counts: Mutex::default(),
            generation: AtomicU32::new(1),
            gets: AtomicU64::new(0),
            blocks: AtomicU64::new(0),
            at_once: AtomicU64::new(0),
            made: Mutex::default(),
            deleted: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let for_all = Arc::clone(&shared);
        thread::spawn(move || {
            for connection in listener.incoming() {
                if for_all.stop.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(connection) = connection else { continue };
                let shared = Arc::clone(&for_all);
                thread::Builder::new()
                    .stack_size(256 << 10)
                    .spawn(move || {
                        // A client that goes away is no fault of the server.
                        let _ = serve(&connection, &shared);
                    })
                    .unwrap();
            }
        });
        Self { address, shared }
    }

    /// As `http://127.0.0.1:40123`.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Snapshots that were deleted.
    pub(crate) fn deleted(&self) -> Vec<String> {
        self.shared.deleted.lock().unwrap().iter().cloned().collect()
    }

    /// What was asked so far.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = self.shared.counts.lock().unwrap().clone();
        counts.blocks = self.shared.blocks.load(Ordering::Relaxed);
        counts.over_rate = self.shared.pace.refused();
        counts
    }
}

impl Drop for FaultServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // So that the listener looks.
        let _ = TcpStream::connect(self.address);
    }
}

/// One request after another, until the client closes.
fn serve(connection: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(4096, connection);
    while let Some(request) = Request::read(&mut reader)? {
        let at_once = shared.at_once.fetch_add(1, Ordering::Relaxed) + 1;
        let answer = answer::answer(&request, shared, at_once);
        if !shared.settings.latency.is_zero() {
            thread::sleep(shared.settings.latency);
        }
        // Before it is sent: with the answer at hand, the client may ask again.
        shared.at_once.fetch_sub(1, Ordering::Relaxed);
        if !send(connection, &answer, shared)? {
            return Ok(());
        }
    }
    Ok(())
}

/// Sends an answer as its manner says; whether the connection goes on.
fn send(mut connection: &TcpStream, answer: &Answer<'_>, shared: &Shared) -> std::io::Result<bool> {
    match answer.manner {
        answer::Manner::Whole => {
            wire::write(connection, &answer.head, answer.body())?;
            Ok(true)
        }
        answer::Manner::CutTo(bytes) => {
            wire::write(connection, &answer.head, &answer.body()[..bytes.min(answer.body().len())])?;
            Ok(false)
        }
        answer::Manner::Trickle { bytes, every } => {
            wire::write(connection, &answer.head, b"")?;
            for part in answer.body().chunks(bytes) {
                if shared.stop.load(Ordering::Relaxed) {
                    return Ok(false);
                }
                wire::write(connection, "", part)?;
                thread::sleep(every);
            }
            Ok(true)
        }
        answer::Manner::Never => {
            // Until the client has had enough.
            connection.set_read_timeout(Some(Duration::from_millis(200)))?;
            while !shared.stop.load(Ordering::Relaxed) {
                match connection.read(&mut [0; 64]) {
                    Ok(0) => return Ok(false),
                    Err(error) if !wire::is_time_out(&error) => return Ok(false),
                    _ => {}
                }
            }
            Ok(false)
        }
        answer::Manner::Reset => {
            // What was sent and not read makes the system send a reset.
            wire::reset(connection);
            Ok(false)
        }
    }
}
