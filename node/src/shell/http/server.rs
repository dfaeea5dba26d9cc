//! Connections: how many, how slow, how large their headers.
//!
//! A connection that says nothing, says it too slowly, or does not read its answer is closed; over
//! the maximum, new ones are closed at once and counted.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{Web, stall::Impatient};

/// Connections at a time.
const CONNECTIONS_MAX: usize = 256;
/// From one answer to the end of the next request's headers.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(15);
const HEADERS_MAX: usize = 64;
/// Request line and headers; keys are in the request line, three characters a byte at worst.
const HEADER_BYTES_MAX: usize = 32 << 10;
/// A client that takes nothing for so long has gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

impl Web {
    /// Until the node stops.
    pub(in super::super) async fn serve(self, listener: TcpListener) {
        let web = Arc::new(self);
        let router = web.clone().router();
        let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            // Biased: stopping comes first. Accepting is cancel-safe.
            let accepted = tokio::select! {
                biased;
                () = web.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // No file descriptors left, for example: trying again at once would spin.
                    if !is_the_clients(&error) {
                        tracing::warn!(%error, "no http connection can be accepted");
                        sleep(Duration::from_millis(100)).await;
                    }
                    continue;
                }
            };
            let Ok(place) = free.clone().try_acquire_owned() else {
                web.host.metrics.refused("http_connections");
                continue;
            };
            let (router, stop) = (router.clone(), web.stop.clone());
            web.tasks.spawn(async move {
                Box::pin(connection(stream, router, stop)).await;
                drop(place);
            });
        }
    }
}

fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

async fn connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    // Answers are small and written at once; waiting for more to send only adds latency.
    let _ = stream.set_nodelay(true);
    let stream = TokioIo::new(Impatient::new(stream, WRITE_TIMEOUT));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX);
    let connection = http.serve_connection(stream, TowerToHyperService::new(router));
    tokio::pin!(connection);
    // Biased: stopping comes first; the request in progress is still answered.
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        ended = connection.as_mut() => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "http connection closed");
    }
}
