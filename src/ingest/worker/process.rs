//! Reading, cutting, embedding and publishing one version of a document.

use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;

use super::Worker;
use crate::catalog::{DocumentRecord, Job, Progress, Publication, Publish, Stage};
use crate::document::{Chunk, Failure, FailureReason, contextual_text};
use crate::embedding::Priority;
use crate::error::Result;
use crate::ingest::attributes::{attributes, point};
use crate::ingest::chunk::{ChunkOptions, MAX_CHUNKS, chunk};
use crate::ingest::extract::{ExtractRequest, Extracted, no_text};
use crate::telemetry::metrics;
use crate::vector_store::{Point, Versions};

/// Chunks that are embedded and written together: enough to keep every session busy, few enough that progress is seen
/// and that a document's vectors are never all in memory.
const BATCH: usize = 32;
/// Longest title that is taken from a file, in characters. Files hold whole paragraphs in its place.
const MAX_FOUND_TITLE: usize = 200;

/// A document's effective title and its chunks.
struct Cut {
    title: String,
    chunks: Vec<Chunk>,
    /// The room that the text takes.
    _room: OwnedSemaphorePermit,
}

impl Worker {
    pub(super) async fn process(&self, job: &Job) -> Result<()> {
        let record = &job.record;
        self.remove_leftovers(job).await?;
        let chunks = match self.read(job).await? {
            Ok(cut) => self.publish_chunks(job, &cut).await?,
            Err(failure) => return self.fail(job, &failure).await,
        };
        metrics::INGESTED.add(1, &[("outcome", "indexed")]);
        metrics::INGESTED_CHUNKS.add(u64::from(chunks), metrics::NONE);
        tracing::info!(document = record.document_id.as_str(), version = record.version, chunks, "document indexed");
        Ok(())
    }

    /// Points of an attempt that was cut off, or of a version that was replaced before it was served. What was cut off
    /// may have made more chunks than this attempt will: those would be served with it.
    async fn remove_leftovers(&self, job: &Job) -> Result<()> {
        if job.fresh {
            return Ok(());
        }
        let record = &job.record;
        let keep = record.served.as_ref().map_or(Versions::All, |served| Versions::Except(served.version));
        self.store.delete(&record.tenant, &record.document_id, keep).await
    }

    /// Text out of the file, cut.
    async fn read(&self, job: &Job) -> Result<Result<Cut, Failure>> {
        let record = &job.record;
        self.catalog.progress(&job.lease, Stage::Extract, Progress::default()).await?;
        let place = self.room.to_read().await?;
        let started = Instant::now();
        let extracted = match self.extract(record).await? {
            Ok(extracted) => extracted,
            Err(failure) => return Ok(Err(failure)),
        };
        stage_took("extract", started);
        // The place is kept until there is room, so that no more texts wait for it than files are read.
        let room = self.room.for_text(extracted.text.len()).await?;
        drop(place);
        crate::hold::at("extract").await;

        self.catalog.progress(&job.lease, Stage::Chunk, Progress::default()).await?;
        let started = Instant::now();
        let title = effective_title(record, &extracted);
        let options = ChunkOptions { max_tokens: self.config.chunk_tokens, overlap: self.config.chunk_overlap };
        let counter = self.embedder.token_counter();
        let (title, chunks) = tokio::task::spawn_blocking(move || {
            let chunks = chunk(&extracted, &title, &*counter, options);
            (title, chunks)
        })
        .await
        .map_err(|error| crate::error::Error::internal("cutting the text failed", error))?;
        stage_took("chunk", started);
        if chunks.is_empty() {
            return Ok(Err(no_text()));
        }
        if chunks.len() > MAX_CHUNKS {
            let detail = format!("the text makes more than {MAX_CHUNKS} chunks; split the file");
            return Ok(Err(Failure { reason: FailureReason::TooLarge, detail }));
        }
        Ok(Ok(Cut { title, chunks, _room: room }))
    }

    async fn extract(&self, record: &DocumentRecord) -> Result<Result<Extracted, Failure>> {
        let original = self.blobs.local_file(&record.content.blob).await?;
        let request = ExtractRequest {
            path: original.path().to_owned(),
            filename: record.content.filename.clone(),
            media_type: Some(record.content.media_type.clone()),
        };
        self.extractor.extract(&request).await
    }

    /// Embeds and writes the chunks, makes them durable, and flips the document to them.
    async fn publish_chunks(&self, job: &Job, cut: &Cut) -> Result<u32> {
        let Cut { title, chunks, .. } = cut;
        let total = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
        let started = Instant::now();
        let mut done = 0;
        for batch in chunks.chunks(BATCH) {
            self.catalog.progress(&job.lease, Stage::Embed, Progress { done, total }).await?;
            self.store.upsert(self.points(&job.record, title, batch).await?).await?;
            done += u32::try_from(batch.len()).unwrap_or(u32::MAX);
            crate::hold::at("upsert").await;
        }
        stage_took("embed", started);

        let started = Instant::now();
        self.catalog.progress(&job.lease, Stage::Publish, Progress { done: total, total }).await?;
        self.store.flush().await?;
        crate::hold::at("flush").await;
        let mut access_version = job.record.access_version;
        loop {
            crate::hold::at("before_flip").await;
            let version = job.record.version;
            let publication = Publication { version, chunks: total, access_version, title: title.clone() };
            match self.catalog.publish(&job.lease, &publication).await? {
                Publish::Published => break,
                Publish::AttributesMoved(record) => {
                    access_version = record.access_version;
                    let mut attributes = attributes(&record);
                    if attributes.title.is_empty() {
                        title.clone_into(&mut attributes.title);
                    }
                    self.store.set_attributes(&record.tenant, &record.document_id, version, &attributes).await?;
                    self.store.flush().await?;
                }
            }
        }
        crate::hold::at("after_flip").await;
        stage_took("publish", started);
        Ok(total)
    }

    async fn points(&self, record: &DocumentRecord, title: &str, chunks: &[Chunk]) -> Result<Vec<Point>> {
        let texts: Vec<String> = chunks.iter().map(|chunk| contextual_text(title, chunk)).collect();
        let sparse: Vec<_> = texts.iter().map(|text| self.bm25.document(text)).collect();
        let dense = self.embedder.embed(texts, Priority::Bulk).await?;
        let vectors = dense.into_iter().zip(sparse);
        Ok(chunks.iter().zip(vectors).map(|(chunk, vectors)| point(record, title, chunk.clone(), vectors)).collect())
    }

    /// Notes that the newest version cannot be read; what was served stays served.
    pub(super) async fn fail(&self, job: &Job, failure: &Failure) -> Result<()> {
        self.remove_leftovers(job).await?;
        self.catalog.fail(&job.lease, failure).await?;
        metrics::INGESTED.add(1, &[("outcome", failure.reason.as_str().to_owned())]);
        let document = job.lease.document_id.as_str();
        tracing::info!(document, reason = failure.reason.as_str(), "document failed");
        Ok(())
    }
}

/// The title that was given, else the document's own, else the name of the file.
fn effective_title(record: &DocumentRecord, extracted: &Extracted) -> String {
    if !record.title.is_empty() {
        return record.title.clone();
    }
    let own = extracted.title.as_deref().map(str::trim).filter(|title| !title.is_empty());
    let found = own.or(record.content.filename.as_deref()).unwrap_or_default();
    found.chars().take(MAX_FOUND_TITLE).collect()
}

fn stage_took(stage: &'static str, started: Instant) {
    metrics::INGEST_STAGE.record(started.elapsed().as_secs_f64(), &[("stage", stage)]);
}
