//! One object on its way to the store in parts: a few of them in flight, each hashed, each in the journal.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::primitives::SdkBody;
use custody::bundle::NewFile;
use custody::{Digest, Hasher};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, spawn_blocking};

use super::checksums::PartSums;
use super::requests::{Begun, Failed, Requests, may_be_done};
use super::uploads::{Line, Object, Part, Upload, Uploads};
use crate::aws::FailureKind;

/// S3 takes no more parts of one object.
const MOST_PARTS: i32 = 10_000;

/// Parts of a file that is given up are waited for so long.
const LAST_PARTS: Duration = Duration::from_secs(5);

/// What the files of one store share.
#[derive(Debug)]
pub(super) struct Dispatch {
    pub(super) requests: Requests,
    pub(super) uploads: Uploads,
    /// Parts that may be in memory.
    pub(super) room: Arc<Semaphore>,
}

/// An object that is written.
pub(super) struct Sending {
    line: Arc<Dispatch>,
    path: String,
    key: String,
    before: Object,
    upload: Option<Arc<Begun>>,
    buffer: Vec<u8>,
    next: i32,
    tasks: Vec<JoinHandle<io::Result<(i32, Part)>>>,
    parts: Vec<(i32, Part)>,
    hasher: Hasher,
    size: u64,
    failed: bool,
}

impl Sending {
    /// Begins an object, or goes on with one that an earlier process began: parts with the same bytes are not sent again.
    pub(super) fn begin(line: &Arc<Dispatch>, path: &str) -> io::Result<Self> {
        let key = line.requests.place.key(path).map_err(io::Error::other)?;
        Ok(Self {
            line: Arc::clone(line),
            path: path.to_owned(),
            key,
            before: line.uploads.of(path),
            upload: None,
            buffer: Vec::new(),
            next: 1,
            tasks: Vec::new(),
            parts: Vec::new(),
            hasher: Hasher::new(),
            size: 0,
            failed: false,
        })
    }

    /// Sends what is gathered as the next part.
    fn send(&mut self) -> io::Result<()> {
        let number = self.next;
        if number > MOST_PARTS {
            return Err(io::Error::other("it has more than 10,000 parts"));
        }
        self.next += 1;
        // Before the buffer is given away: what is in memory is bounded by who waits here.
        let room = self.line.requests.wait(Arc::clone(&self.line.room).acquire_owned());
        let room = room.map_err(io::Error::other)?;
        let bytes = std::mem::take(&mut self.buffer);
        let known = match self.before.upload.as_ref() {
            Some(upload) if number > 1 => upload.parts.get(&number).cloned(),
            _ => None,
        };
        if number > 1 {
            self.reap(false)?;
            let upload = self.upload()?;
            let (line, key, path) = (Arc::clone(&self.line), self.key.clone(), self.path.clone());
            let task = send_part(line, key, path, upload, number, bytes, known, room);
            self.tasks.push(self.line.requests.connection().runtime().spawn(task));
            return Ok(());
        }
        // The first part is always sent: it tells whether an upload that was begun before is still there.
        let body = SdkBody::from(bytes);
        let sums = PartSums::of(body.bytes().unwrap_or_default(), self.with_md5());
        let sent = match self.taken_up() {
            Some(upload) => {
                let sent =
                    self.line.requests.wait(self.line.requests.part(&self.key, &upload, 1, &body, &sums));
                match sent {
                    Err(Failed { failure, .. }) if failure.kind == FailureKind::NotFound => {
                        let gone = Line::Aborted { id: upload.id.clone(), path: self.path.clone() };
                        self.line.uploads.note(&[gone])?;
                        self.before = Object::default();
                        None
                    }
                    sent => {
                        self.upload = Some(upload);
                        Some(sent)
                    }
                }
            }
            None => None,
        };
        let sent = match sent {
            Some(sent) => sent,
            None => {
                let upload = self.upload()?;
                self.line.requests.wait(self.line.requests.part(&self.key, &upload, 1, &body, &sums))
            }
        };
        let etag = sent.map_err(into_io)?;
        let size = body.bytes().map_or(0, <[u8]>::len) as u64;
        let part = Part { size, sha256: sums.sha256, etag };
        self.line.uploads.note(&[noted(&self.path, 1, &part)])?;
        self.parts.push((1, part));
        drop(room);
        Ok(())
    }

    fn with_md5(&self) -> bool {
        self.line.requests.connection().has_own_endpoint()
    }

    fn taken_up(&self) -> Option<Arc<Begun>> {
        let Upload { id, checksummed, .. } = self.before.upload.as_ref()?;
        Some(Arc::new(Begun { id: id.clone(), checksummed: *checksummed }))
    }

    /// The upload that the parts belong to, begun now if there is none.
    fn upload(&mut self) -> io::Result<Arc<Begun>> {
        if let Some(upload) = &self.upload {
            return Ok(Arc::clone(upload));
        }
        let begun = Arc::new(begin_upload(&self.line, &self.path, &self.key)?);
        Ok(Arc::clone(self.upload.insert(begun)))
    }

    /// Takes what the parts in flight came to; waits for all of them if told to.
    fn reap(&mut self, all: bool) -> io::Result<()> {
        let (mut waiting, mut failed) = (Vec::new(), None);
        for task in std::mem::take(&mut self.tasks) {
            if failed.is_some() || !(all || task.is_finished()) {
                waiting.push(task);
                continue;
            }
            match self.line.requests.wait(task).map_err(io::Error::other).and_then(|part| part) {
                Ok(part) => self.parts.push(part),
                Err(error) => failed = Some(error),
            }
        }
        self.tasks = waiting;
        self.failed |= failed.is_some();
        failed.map_or(Ok(()), Err)
    }

    /// Sends the rest, and notes that all of it is there.
    fn end(&mut self) -> io::Result<(u64, Digest)> {
        if self.failed {
            return Err(io::Error::other("a part of it could not be sent"));
        }
        if !self.buffer.is_empty() || self.next == 1 {
            self.send()?;
        }
        self.reap(true)?;
        self.parts.sort_by_key(|(number, _)| *number);
        let (size, sha256) = (self.size, std::mem::take(&mut self.hasher).finish());
        let parts = self.next - 1;
        self.line.uploads.note(&[Line::Ready { parts, path: self.path.clone(), sha256, size }])?;
        Ok((size, sha256))
    }
}

impl Drop for Sending {
    /// What is on its way when a file is given up may still get into the journal; it is not waited for long.
    fn drop(&mut self) {
        let tasks = std::mem::take(&mut self.tasks);
        if tasks.is_empty() {
            return;
        }
        let stop: Vec<_> = tasks.iter().map(JoinHandle::abort_handle).collect();
        self.line.requests.wait(async {
            let all = async {
                for task in tasks {
                    let _ = task.await;
                }
            };
            let _ = tokio::time::timeout(LAST_PARTS, all).await;
        });
        stop.iter().for_each(tokio::task::AbortHandle::abort);
    }
}

impl Write for Sending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failed {
            return Err(io::Error::other("a part of it could not be sent"));
        }
        let part_size = self.line.requests.pace.part_size;
        if self.buffer.capacity() == 0 {
            self.buffer = Vec::with_capacity(part_size);
        }
        let taken = bytes.len().min(part_size.saturating_sub(self.buffer.len()));
        let now = bytes.get(..taken).unwrap_or_default();
        self.buffer.extend_from_slice(now);
        self.hasher.update(now);
        self.size = self.size.saturating_add(taken as u64);
        if self.buffer.len() >= part_size {
            self.send().inspect_err(|_| self.failed = true)?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewFile for Sending {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.end().map(|_| ())
    }
}

impl Sending {
    /// As [`NewFile::finish`], with what was sent.
    pub(super) fn finish_sending(mut self) -> io::Result<(u64, Digest)> {
        self.end()
    }
}

/// Sends a part, unless the store has one with these bytes; brings it into the journal.
#[allow(clippy::too_many_arguments, reason = "a task takes all it needs along")]
async fn send_part(
    line: Arc<Dispatch>,
    key: String,
    path: String,
    upload: Arc<Begun>,
    number: i32,
    bytes: Vec<u8>,
    known: Option<Part>,
    room: OwnedSemaphorePermit,
) -> io::Result<(i32, Part)> {
    let with_md5 = line.requests.connection().has_own_endpoint();
    let size = bytes.len() as u64;
    let (body, sums) = spawn_blocking(move || {
        let sums = PartSums::of(&bytes, with_md5);
        (SdkBody::from(bytes), sums)
    })
    .await
    .map_err(io::Error::other)?;
    if let Some(known) = known.filter(|known| known.size == size && known.sha256 == sums.sha256) {
        return Ok((number, known));
    }
    let etag = line.requests.part(&key, &upload, number, &body, &sums).await.map_err(into_io)?;
    drop(body);
    let part = Part { size, sha256: sums.sha256, etag };
    let note = noted(&path, number, &part);
    spawn_blocking(move || line.uploads.note(&[note])).await.map_err(io::Error::other)??;
    drop(room);
    Ok((number, part))
}

fn noted(path: &str, number: i32, part: &Part) -> Line {
    let Part { size, sha256, etag } = part.clone();
    Line::Part { etag, number, path: path.to_owned(), sha256, size }
}

/// Begins an upload. Every attempt is announced first, so that none that the store began is unknown here.
fn begin_upload(line: &Dispatch, path: &str, key: &str) -> io::Result<Begun> {
    let (requests, uploads) = (&line.requests, &line.uploads);
    for tries in 1.. {
        uploads.note(&[Line::Begin { path: path.to_owned() }])?;
        let failure = match requests.wait(requests.create_once(key)) {
            Ok(begun) => {
                let Begun { id, checksummed } = begun.clone();
                uploads.note(&[Line::Upload { checksummed, id, path: path.to_owned() }])?;
                return Ok(begun);
            }
            Err(failure) => failure,
        };
        // An answer that says no is one; after no answer, and after a 5xx, there may be an upload that nobody knows.
        if !may_be_done(&failure) {
            uploads.note(&[Line::Refused { path: path.to_owned() }])?;
        }
        if !failure.kind.is_worth_another_try() || tries >= requests.pace.tries {
            return Err(io::Error::other(failure));
        }
        requests.wait(requests.pause(tries));
    }
    Err(io::Error::other("was not tried"))
}

/// Makes the object of an upload whose parts are all there.
pub(super) fn complete(line: &Dispatch, path: &str) -> io::Result<()> {
    let (requests, uploads) = (&line.requests, &line.uploads);
    let object = uploads.of(path);
    if object.done.is_some() {
        return Ok(());
    }
    let not_ready =
        || io::Error::other("the journal of uploads does not say that all of its parts are there");
    let upload = object.upload.ok_or_else(not_ready)?;
    let (count, size, sha256) = upload.ready.ok_or_else(not_ready)?;
    let parts: Vec<(i32, Part)> =
        upload.parts.into_iter().filter(|(number, _)| (1..=count).contains(number)).collect();
    let whole: u64 = parts.iter().map(|(_, part)| part.size).sum();
    if parts.len() != usize::try_from(count).unwrap_or(0) || whole != size {
        return Err(not_ready());
    }
    let key = requests.place.key(path).map_err(io::Error::other)?;
    uploads.note(&[Line::Putting { path: path.to_owned() }])?;
    let begun = Begun { id: upload.id, checksummed: upload.checksummed };
    let sent = requests.wait(requests.complete(&key, &begun, &parts));
    let lines = became(line, path, &key, (size, sha256), object.putting, sent)?;
    // Before it is noted as done: who goes on after an interruption must do this too.
    requests.wait(requests.retain(&key)).map_err(io::Error::other)?;
    uploads.note(&lines)
}

/// What became of an attempt to give an object its name: what is to be noted, if the object is there and ours.
pub(super) fn became(
    line: &Dispatch,
    path: &str,
    key: &str,
    (size, sha256): (u64, Digest),
    announced_before: bool,
    sent: Result<(), Failed>,
) -> io::Result<Vec<Line>> {
    let (requests, uploads) = (&line.requests, &line.uploads);
    let other = |why: &str| {
        let words = format!("s3://{}/{key} is there already, {why}", requests.place.bucket);
        Err(io::Error::new(io::ErrorKind::AlreadyExists, words))
    };
    let path = path.to_owned();
    let done = Line::Done { path: path.clone(), sha256, size };
    let Err(Failed { failure, unsure, differs }) = sent else { return Ok(vec![done]) };
    if differs {
        // Whoever tries again finds the name taken, and must not believe that it is by our own bytes.
        uploads.note(&[Line::Differs { path }])?;
        return Err(io::Error::other(failure));
    }
    let may_be_ours = unsure || announced_before;
    let held_other_bytes = uploads.of(&path).differs;
    match failure.kind {
        FailureKind::Exists if held_other_bytes => {
            other("and the store said of it that it holds other bytes than were sent")
        }
        // Ours, if an attempt was carried out whose answer never came. Nothing is read back: a writer may not.
        FailureKind::Exists if may_be_ours => Ok(vec![Line::Assumed { path }, done]),
        FailureKind::Exists => other("and was not put from here: somebody else writes to that place"),
        // An upload that was completed is no more there either.
        FailureKind::NotFound if may_be_ours && !held_other_bytes && failure.code == "NoSuchUpload" => {
            match requests.wait(requests.head(key)) {
                Ok(known) if known.size == size => Ok(vec![done]),
                Ok(_) => Err(io::Error::other(failure)),
                Err(asked) if asked.kind == FailureKind::NotFound => Err(io::Error::other(failure)),
                Err(_) => Ok(vec![Line::Assumed { path }, done]),
            }
        }
        _ => Err(io::Error::other(failure)),
    }
}

pub(super) fn into_io(failed: Failed) -> io::Error {
    io::Error::other(failed.failure)
}
