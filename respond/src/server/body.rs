//! Bodies: read within limits of bytes, time and memory, and unpacked within limits of size and ratio.

use std::io::Read as _;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use flate2::bufread::GzDecoder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// For the whole of a body.
const PATIENCE: Duration = Duration::from_secs(10);

/// One unit of the memory that all bodies share.
const UNIT: usize = 1024;

/// What unpacks to more than so many times its size is no alert; short bodies may.
const MOST_RATIO: usize = 100;

/// Below this the ratio is not looked at.
const SHORT: usize = 64 << 10;

/// Why a body is not taken: the answer, and a word for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotTaken(pub(super) StatusCode, pub(super) &'static str);

const TOO_LARGE: NotTaken = NotTaken(StatusCode::PAYLOAD_TOO_LARGE, "too_large");

/// How a body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packed {
    No,
    Gzip,
}

/// What the headers say of the body, before any of it is read. The same for every path.
pub(super) fn announced(headers: &HeaderMap, most: usize) -> Result<Packed, NotTaken> {
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > most as u64) {
        return Err(TOO_LARGE);
    }
    let unsupported = |why| NotTaken(StatusCode::UNSUPPORTED_MEDIA_TYPE, why);
    if let Some(kind) = headers.get(CONTENT_TYPE) {
        let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
        let kind = kind.to_ascii_lowercase();
        // SNS says text/plain, and curl's --data, which every test is made with, says it is a form.
        let known = [
            "application/json",
            "text/plain",
            "application/octet-stream",
            "text/json",
            "application/x-www-form-urlencoded",
        ];
        if !known.contains(&kind.as_str()) && !kind.ends_with("+json") {
            return Err(unsupported("content_type"));
        }
    }
    let mut packed = headers.get_all(CONTENT_ENCODING).iter();
    match (packed.next().map(|word| word.as_bytes().to_ascii_lowercase()).as_deref(), packed.next()) {
        (None | Some(b"identity"), None) => Ok(Packed::No),
        (Some(b"gzip" | b"x-gzip"), None) => Ok(Packed::Gzip),
        _ => Err(unsupported("content_encoding")),
    }
}

/// Reads a body. `memory` is what all bodies share; without it the body is read and forgotten.
pub(super) async fn read(
    body: Body,
    most: usize,
    memory: Option<&Arc<Semaphore>>,
) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), NotTaken> {
    let slow = NotTaken(StatusCode::REQUEST_TIMEOUT, "slow_body");
    tokio::time::timeout(PATIENCE, read_within(body, most, memory)).await.unwrap_or(Err(slow))
}

async fn read_within(
    mut body: Body,
    most: usize,
    memory: Option<&Arc<Semaphore>>,
) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), NotTaken> {
    let mut bytes = Vec::new();
    let (mut length, mut held) = (0usize, 0usize);
    let mut share: Option<OwnedSemaphorePermit> = None;
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let broken = NotTaken(StatusCode::BAD_REQUEST, "broken_body");
        let frame = frame.map_err(|_| broken)?;
        let Some(data) = frame.data_ref() else { continue };
        length = length.saturating_add(data.len());
        if length > most {
            return Err(TOO_LARGE);
        }
        let Some(memory) = memory else { continue };
        if length > held {
            let more = (length - held).div_ceil(UNIT);
            let got = share_of(memory, more)?;
            held += more * UNIT;
            match &mut share {
                Some(share) => share.merge(got),
                None => share = Some(got),
            }
        }
        bytes.extend_from_slice(data);
    }
    Ok((bytes, share))
}

/// A share of the memory for so many bytes.
pub(super) fn share(memory: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, NotTaken> {
    share_of(memory, bytes.div_ceil(UNIT))
}

/// Units in so many bytes, for the semaphore that is shared.
pub(super) fn units(bytes: usize) -> usize {
    bytes / UNIT
}

fn share_of(memory: &Arc<Semaphore>, units: usize) -> Result<OwnedSemaphorePermit, NotTaken> {
    let busy = NotTaken(StatusCode::SERVICE_UNAVAILABLE, "memory");
    let units = u32::try_from(units).map_err(|_| busy)?;
    Arc::clone(memory).try_acquire_many_owned(units).map_err(|_| busy)
}

/// Why a packed body could not be unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotUnpacked {
    /// It is larger than is taken, or no honest sender packs so tightly.
    TooLarge,
    /// It is not what it says it is.
    Broken,
}

/// Unpacks gzip, at most `most` bytes of it.
pub(super) fn unpack(bytes: &[u8], most: usize) -> Result<Vec<u8>, NotUnpacked> {
    let most = most.min(bytes.len().saturating_mul(MOST_RATIO).max(SHORT));
    let mut out = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let mut reader = GzDecoder::new(bytes);
    (&mut reader).take(limit).read_to_end(&mut out).map_err(|_| NotUnpacked::Broken)?;
    if out.len() > most {
        return Err(NotUnpacked::TooLarge);
    }
    // What follows the end would be seen by one reader and not by another.
    if reader.into_inner().is_empty() { Ok(out) } else { Err(NotUnpacked::Broken) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let most = 2 << 20;
        assert_eq!(unpack(&gzip(&vec![0; 1 << 30]), most), Err(NotUnpacked::TooLarge));
        // Small enough, but no honest sender packs a thousand to one.
        assert_eq!(unpack(&gzip(&vec![0; 1 << 20]), most), Err(NotUnpacked::TooLarge));
        assert_eq!(unpack(&gzip(&vec![b' '; 60 << 10]), most).unwrap().len(), 60 << 10);
        assert_eq!(unpack(b"no gzip", most), Err(NotUnpacked::Broken));
        let mut twice = gzip(b"{}");
        twice.extend(gzip(b"[]"));
        assert_eq!(unpack(&twice, most), Err(NotUnpacked::Broken));
    }

    #[test]
    fn what_headers_announce_is_refused_before_it_is_read() {
        let status =
            |pairs: &[(&'static str, &str)]| announced(&headers(pairs), 100).map_err(|no| no.0.as_u16());
        assert_eq!(status(&[("content-length", "101")]), Err(413));
        assert_eq!(
            status(&[("content-length", "100"), ("content-type", "text/plain; charset=UTF-8")]),
            Ok(Packed::No)
        );
        assert_eq!(status(&[("content-type", "application/cloudevents+json")]), Ok(Packed::No));
        assert_eq!(status(&[("content-type", "multipart/form-data")]), Err(415));
        assert_eq!(status(&[("content-encoding", "GZIP")]), Ok(Packed::Gzip));
        assert_eq!(status(&[("content-encoding", "br")]), Err(415));
        assert_eq!(status(&[("content-encoding", "gzip, gzip")]), Err(415));
        assert_eq!(status(&[]), Ok(Packed::No));
    }
}
