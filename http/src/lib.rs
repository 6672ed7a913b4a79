//! The HTTP face of a RingFS server: health, metrics, a small page. axum on a thread of its own.
//!
//! It shows what a role hands out as [`Observed`] and never waits for the role's threads.

mod text;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use ringfs_proto::metrics::Observed;
use tokio::sync::oneshot;

pub use text::render;

/// Why the HTTP face did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("listen for HTTP on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The thread or its runtime cannot be started.
    #[error("start the HTTP thread: {0}")]
    Thread(std::io::Error),
}

/// A running HTTP face.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Shows a server's health and metrics on `address`; port 0 takes a free one.
///
/// # Errors
/// [`Error`].
pub fn serve(
    address: SocketAddr,
    role: &'static str,
    observed: Arc<dyn Observed>,
) -> Result<HttpServer, Error> {
    let listen = |source| Error::Listen { address, source };
    let listener = std::net::TcpListener::bind(address).map_err(listen)?;
    listener.set_nonblocking(true).map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Thread)?;
    let (stop, stopped) = oneshot::channel();
    let run = move || {
        runtime.block_on(async {
            let listener = match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => listener,
                Err(error) => return tracing::error!(%error, "HTTP cannot listen"),
            };
            let serving = axum::serve(listener, router(role, observed)).into_future();
            tokio::select! {
                served = serving => if let Err(error) = served { tracing::error!(%error, "HTTP ended") },
                _ = stopped => {}
            }
        });
    };
    let thread = std::thread::Builder::new().name("http".to_owned()).spawn(run).map_err(Error::Thread)?;
    Ok(HttpServer { address, stop: Some(stop), thread: Some(thread) })
}

impl HttpServer {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(stop) = self.stop.take() {
            // A thread that has ended by itself needs no telling.
            let _ended = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.end();
    }
}

#[derive(Clone)]
struct Shown {
    role: &'static str,
    observed: Arc<dyn Observed>,
}

fn router(role: &'static str, observed: Arc<dyn Observed>) -> Router {
    let shown = Shown { role, observed };
    Router::new()
        .route("/", get(index))
        .route("/healthz", get(health))
        .route("/metrics", get(metrics))
        .with_state(shown)
}

async fn health(State(shown): State<Shown>) -> impl IntoResponse {
    match shown.observed.health() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn metrics(State(shown): State<Shown>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], render(&shown.observed.metrics()))
}

async fn index(State(shown): State<Shown>) -> Html<String> {
    Html(text::page(shown.role, &shown.observed.health(), &shown.observed.metrics()))
}
