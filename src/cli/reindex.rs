//! `rag-api reindex`: the vectors of every document, made anew from its original.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use rag_api::app::App;
use rag_api::backup::{Rebuilt, rebuild};
use rag_api::catalog::{self, Catalog, Status};
use rag_api::config::Config;
use rag_api::error::{Error, Result};

use super::progress::bar;
use super::serve::stop_on_signal;

/// How often the catalog is asked how many documents are left.
const POLL: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(crate) struct ReindexArgs {
    /// Queue the documents and return: servers and workers that run, or will, do the work
    #[arg(long)]
    no_wait: bool,
}

pub(crate) async fn reindex(config: Config, arguments: &ReindexArgs) -> Result<ExitCode> {
    if arguments.no_wait {
        let catalog = catalog::build(&config.catalog).await?;
        let Rebuilt { queued, waiting } = rebuild(&*catalog).await?;
        return super::say(&format!("{queued} documents queued, {waiting} were waiting already"));
    }
    let stop = stop_on_signal()?;
    let app = App::build(config).await?;
    let catalog = app.catalog.clone();
    // Before anything is queued: where another process works, nothing is.
    catalog.recover().await.map_err(|error| {
        let hint = format!("{}; or give --no-wait, and it does the work", error.message());
        Error::new(error.kind(), hint).with_source(error)
    })?;
    let failed_before = count(&catalog, Status::Failed).await?;
    let Rebuilt { queued, waiting } = rebuild(&*catalog).await?;
    let all_done = watch(&catalog, queued + waiting);
    let has_worker = app.worker.is_some();
    let done = stop.child_token();
    let working = async {
        let worked = app.work(None, done.clone()).await;
        if !has_worker {
            // Others work.
            done.cancelled().await;
        }
        worked
    };
    tokio::pin!(working);
    tokio::select! {
        worked = &mut working => {
            worked?;
            let left = count(&catalog, Status::Processing).await?;
            return super::say(&format!("stopped; {left} documents wait for a server or worker, or for reindex again"))
                .map(|_| ExitCode::FAILURE);
        }
        watched = all_done => {
            // Leases go back and the store is flushed whatever became of the watch.
            done.cancel();
            let worked = working.await;
            watched.and(worked)?;
        }
    }
    let failed = count(&catalog, Status::Failed).await?.saturating_sub(failed_before);
    super::say(&format!("{} documents indexed anew, {failed} failed", (queued + waiting).saturating_sub(failed)))?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns when no document is left to be processed.
async fn watch(catalog: &Arc<dyn Catalog>, documents: u64) -> Result<()> {
    let bar = bar(documents, "indexing");
    loop {
        let left = count(catalog, Status::Processing).await?;
        bar.set_length(documents.max(left));
        bar.set_position(documents.saturating_sub(left));
        if left == 0 {
            bar.finish_and_clear();
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn count(catalog: &Arc<dyn Catalog>, status: Status) -> Result<u64> {
    Ok(catalog.stats().await?.by_status.get(&status).copied().unwrap_or(0))
}
