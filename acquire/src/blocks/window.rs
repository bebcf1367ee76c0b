//! The buffers that blocks are fetched into. How many there are bounds the memory of an acquisition.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use crate::buffers::{Buffer, Home};

/// Buffers of one size that go round between who fetches and the pipeline.
#[derive(Debug)]
pub(super) struct Window {
    free: Semaphore,
    idle: Mutex<Vec<Vec<u8>>>,
    size: usize,
}

impl Window {
    pub(super) fn new(size: usize, bytes: usize) -> Arc<Self> {
        let count = (bytes / size.max(1)).max(4);
        Arc::new(Self { free: Semaphore::new(count), idle: Mutex::default(), size })
    }

    /// An empty buffer, as soon as there is one.
    pub(super) async fn take(self: &Arc<Self>) -> Buffer {
        // It is never closed. Were it so, the buffer would be one too many and nothing worse.
        if let Ok(permit) = self.free.acquire().await {
            permit.forget();
        }
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let data = idle.unwrap_or_else(|| vec![0; self.size]);
        Buffer::of(data, Arc::clone(self) as Arc<dyn Home>)
    }
}

impl Home for Window {
    fn back(&self, data: Vec<u8>) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(data);
        self.free.add_permits(1);
    }
}
