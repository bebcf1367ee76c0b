//! Connections: so many and no more. When all places are taken, whoever has been idle, or has not sent all of a request, for
//! longest goes.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use super::metrics::{self, Metrics};
use crate::authenticate::ClientCertificate;

/// For the head of a request, and for a connection on which none comes.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);

/// For the handshake of TLS.
const TLS_PATIENCE: Duration = Duration::from_secs(10);

/// Places above the bound that new connections have while idle ones leave, so that a flood is not met one by one.
const LEAVING: usize = 64;

/// Of one request.
const MOST_HEADERS: usize = 64;

/// Bytes of the head of one request.
const MOST_HEAD: usize = 16 << 10;

/// Who is at the other end; an extension of each request.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    pub(super) client: Option<ClientCertificate>,
}

/// Where the TLS of new connections is taken from, so that a reload can change it.
pub(super) type Tls = Arc<dyn Fn() -> Option<Arc<rustls::ServerConfig>> + Send + Sync>;

/// Every open connection.
#[derive(Debug)]
pub(super) struct Connections {
    most: usize,
    open: Mutex<BTreeMap<u64, Arc<Place>>>,
    freed: Notify,
    count: AtomicU64,
    metrics: Arc<Metrics>,
}

/// A connection's place, for who answers on it; an extension of each request.
#[derive(Debug, Clone)]
pub(super) struct Seat(Arc<Place>);

impl Seat {
    /// From here until the answer the connection is not given up for another: all of the request is there.
    pub(super) fn is_heard(&self) {
        self.0.is_busy.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Place {
    is_busy: AtomicBool,
    /// Grows with time: when its last request began or was answered.
    last: AtomicU64,
    leave: Notify,
}

/// One taken place; free again when dropped.
struct Taken {
    connections: Arc<Connections>,
    number: u64,
    place: Arc<Place>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut open = self.connections.open();
        open.remove(&self.number);
        self.connections.metrics.set(metrics::CONNECTIONS, &[], open.len() as f64);
        drop(open);
        self.connections.freed.notify_one();
    }
}

impl Connections {
    pub(super) fn new(most: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            most,
            open: Mutex::default(),
            freed: Notify::new(),
            count: AtomicU64::new(0),
            metrics,
        })
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Place>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.open().len()
    }

    fn next(&self) -> u64 {
        self.count.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes a place, for which the oldest idle connection has to go if all are taken. Waits while everybody is busy.
    async fn take(self: &Arc<Self>) -> Taken {
        loop {
            let freed = self.freed.notified();
            if let Some(taken) = self.try_take() {
                return taken;
            }
            let _ = tokio::time::timeout(Duration::from_secs(1), freed).await;
        }
    }

    fn try_take(self: &Arc<Self>) -> Option<Taken> {
        let mut open = self.open();
        if open.len() >= self.most {
            let idle = open.values().filter(|place| !place.is_busy.load(Ordering::Relaxed));
            let oldest = idle.min_by_key(|place| place.last.load(Ordering::Relaxed))?;
            // Not chosen again while it goes.
            oldest.is_busy.store(true, Ordering::Relaxed);
            oldest.leave.notify_one();
            self.metrics.count(metrics::EVICTED, &[]);
            if open.len() >= self.most.saturating_add(LEAVING) {
                return None;
            }
        }
        let (number, last) = (self.next(), AtomicU64::new(self.next()));
        let place = Arc::new(Place { is_busy: AtomicBool::new(false), last, leave: Notify::new() });
        open.insert(number, Arc::clone(&place));
        self.metrics.set(metrics::CONNECTIONS, &[], open.len() as f64);
        Some(Taken { connections: Arc::clone(self), number, place })
    }

    /// Lets connections in until told to stop.
    pub(super) async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Tls,
        router: Router,
        mut stop: watch::Receiver<bool>,
    ) {
        loop {
            let accepted = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, address)) = accepted else {
                // Of one connection that has gone again, or of too many open files: the next may be better.
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let taken = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                taken = self.take() => taken,
            };
            tokio::spawn(talk(stream, address, tls(), router.clone(), taken, stop.clone()));
        }
    }
}

async fn talk(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<Arc<rustls::ServerConfig>>,
    router: Router,
    taken: Taken,
    stop: watch::Receiver<bool>,
) {
    // Answers are small, and the sender waits for them.
    let _ = stream.set_nodelay(true);
    let Some(config) = tls else {
        return serve(stream, Peer { address, client: None }, router, taken, stop).await;
    };
    let place = Arc::clone(&taken.place);
    let handshake = tokio::time::timeout(TLS_PATIENCE, TlsAcceptor::from(config).accept(stream));
    let accepted = tokio::select! {
        accepted = handshake => accepted,
        () = place.leave.notified() => return,
    };
    let Ok(Ok(stream)) = accepted else { return };
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let client = shown.map(|certificate| ClientCertificate::new(certificate.clone().into_owned()));
    serve(stream, Peer { address, client }, router, taken, stop).await;
}

async fn serve<S>(stream: S, peer: Peer, router: Router, taken: Taken, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let place = Arc::clone(&taken.place);
    let connections = Arc::clone(&taken.connections);
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let (router, peer) = (router.clone(), peer.clone());
        let (place, connections) = (Arc::clone(&place), Arc::clone(&connections));
        async move {
            // Who sends a body slowly holds a place only as long as nobody else needs it.
            place.last.store(connections.next(), Ordering::Relaxed);
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(Seat(Arc::clone(&place)));
            let answer: Result<_, Infallible> = router.oneshot(request).await;
            place.last.store(connections.next(), Ordering::Relaxed);
            place.is_busy.store(false, Ordering::Relaxed);
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_headers(MOST_HEADERS)
        .max_header_size(MOST_HEAD)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let mut is_stopping = false;
    loop {
        tokio::select! {
            // Whatever went wrong, the sender knows that it has no answer.
            _ = connection.as_mut() => return,
            () = place.leave.notified() => return,
            _ = stop.wait_for(|stop| *stop), if !is_stopping => {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
