//! `serve` and `worker`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use rag_api::app::{App, Listeners};
use rag_api::config::Config;
use rag_api::error::{Error, Result};
use rag_api::http::Starting;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long blocking work may still take once all else has ended.
const LAST_WORK: Duration = Duration::from_secs(3);

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where to listen, such as 127.0.0.1:8000 (overrides `RAG_LISTEN`)
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Serve only: uploads wait until a process works on documents
    #[arg(long)]
    no_worker: bool,
}

pub(crate) fn serve(mut config: Config, arguments: &ServeArgs) -> Result<()> {
    if let Some(listen) = arguments.listen {
        config.http.listen = listen;
    }
    if arguments.no_worker {
        config.ingest.concurrency = 0;
    }
    run(async {
        let stop = stop_on_signal()?;
        // The ports first: a taken one is known before models are loaded.
        let api = bind(config.http.listen, "RAG_LISTEN").await?;
        let metrics = match config.http.metrics_listen {
            Some(address) => Some(bind(address, "RAG_METRICS_LISTEN").await?),
            None => None,
        };
        let (starting, api) = Starting::serve(api, &config.http)?;
        let app = App::build(config).await?;
        starting.finish();
        if let Ok(address) = api.local_addr() {
            tracing::info!(%address, "listening");
        }
        app.run(Listeners { api, metrics }, stop).await
    })
}

pub(crate) fn work(config: Config) -> Result<()> {
    if config.ingest.concurrency == 0 {
        return Err(Error::config("RAG_WORKER_CONCURRENCY is 0: this worker would do nothing"));
    }
    run(async {
        let stop = stop_on_signal()?;
        let Some(address) = config.http.metrics_listen else {
            return App::build(config).await?.work(None, stop).await;
        };
        let (starting, operations) = Starting::serve(bind(address, "RAG_METRICS_LISTEN").await?, &config.http)?;
        let app = App::build(config).await?;
        starting.finish();
        if let Ok(address) = operations.local_addr() {
            tracing::info!(%address, "listening for probes and scrapers");
        }
        app.work(Some(operations), stop).await
    })
}

/// Runs to the end. Blocking work that is still at it then (building an index, cutting a long text) is begun anew by the
/// next process.
pub(super) fn run<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = super::runtime()?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(LAST_WORK);
    done
}

async fn bind(address: SocketAddr, setting: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = if error.kind() == std::io::ErrorKind::AddrInUse { "; is another server running?" } else { "" };
        Error::config(format!("cannot listen on {address} ({setting}){hint}")).with_source(error)
    })
}

/// Stops at the first SIGTERM or SIGINT; the second ends the process at once.
pub(super) fn stop_on_signal() -> Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|error| Error::internal("signals cannot be heard", error));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        for round in 0.. {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if round > 0 {
                std::process::exit(130);
            }
            tracing::info!("stopping: requests in flight finish first; a second signal stops at once");
            told.cancel();
        }
    });
    Ok(stop)
}
