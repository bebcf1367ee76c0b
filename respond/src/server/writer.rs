//! One thread that makes deliveries durable. Whatever waits is committed together, so that many senders share one fsync.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{self, error::TryRecvError};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::log::{Level, Log};
use super::metrics::{self, Metrics};
use crate::error::{Error, Result};
use crate::state::{NewDelivery, State, Stored};

/// Deliveries that may wait; more are answered with 503.
pub(super) const MOST_WAITING: usize = 4096;

/// Of one commit.
const MOST_AT_ONCE: usize = 512;

/// Bodies of one commit: a long transaction makes everybody in it wait.
const MOST_BYTES_AT_ONCE: usize = 8 << 20;

/// One delivery that somebody waits for.
pub(super) struct Waiting {
    pub(super) delivery: NewDelivery,
    /// Its share of the memory, given back when it is on the disk.
    pub(super) share: OwnedSemaphorePermit,
    /// Told when it is durable; nothing when it could not be made so.
    pub(super) done: oneshot::Sender<Option<Stored>>,
}

/// The way to the writer.
pub(super) type Sender = mpsc::Sender<Waiting>;

/// Starts the writer. It ends when every sender is gone and everything is written.
pub(super) fn start(state: Arc<State>, log: Log, metrics: Arc<Metrics>) -> Result<(Sender, JoinHandle<()>)> {
    let (sender, receiver) = mpsc::channel(MOST_WAITING);
    let thread = std::thread::Builder::new()
        .name("deliveries".to_owned())
        .spawn(move || write_all(&state, &log, &metrics, receiver))
        .map_err(|source| Error::Read { path: "a thread for deliveries".into(), source })?;
    Ok((sender, thread))
}

fn write_all(state: &State, log: &Log, metrics: &Metrics, mut receiver: mpsc::Receiver<Waiting>) {
    while let Some(first) = receiver.blocking_recv() {
        let mut bytes = first.delivery.body.len();
        let (mut deliveries, mut senders) = (vec![first.delivery], vec![(first.done, first.share)]);
        while deliveries.len() < MOST_AT_ONCE && bytes < MOST_BYTES_AT_ONCE {
            match receiver.try_recv() {
                Ok(next) => {
                    bytes = bytes.saturating_add(next.delivery.body.len());
                    deliveries.push(next.delivery);
                    senders.push((next.done, next.share));
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        let begun = Instant::now();
        match state.store_deliveries(&deliveries) {
            Ok(stored) => {
                metrics.observe(metrics::COMMIT_SECONDS, &[], begun.elapsed().as_secs_f64());
                for ((done, _share), stored) in senders.into_iter().zip(stored) {
                    // Whoever has gone will send it again, and find that it is here.
                    let _ = done.send(Some(stored));
                }
            }
            Err(error) => {
                let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                log.write_some(
                    Level::Alarm,
                    "not_stored",
                    "not_stored",
                    &[("deliveries", deliveries.len().into()), ("why", format!("{error}: {why}").into())],
                );
                for (done, _share) in senders {
                    let _ = done.send(None);
                }
                // A disk that is full stays so for a while.
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}
