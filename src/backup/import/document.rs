//! One document of an export: its row, its originals, its points.

use std::time::Duration;

use tokio::io::AsyncBufRead;

use super::{Importer, Present, original};
use crate::backup::line::{Document, File, Line, PointLine, ServedFile};
use crate::catalog::{DocumentRecord, Job, NewDocument, Publication, Publish, PutMode, Restore, Status};
use crate::document::{Metadata, Principal, Version};
use crate::error::{Error, ErrorKind, Result};
use crate::ingest::attributes::point;
use crate::vector_store::Point;

/// Points that are written at once.
const POINTS: usize = 128;

/// A content of a document, and what it is called.
struct Part<'a> {
    version: Version,
    file: &'a File,
    readers: &'a [Principal],
    title: &'a str,
    metadata: &'a Metadata,
}

impl<R: AsyncBufRead + Unpin + Send> Importer<'_, R> {
    pub(super) async fn document(&mut self, document: Document) -> Result<()> {
        self.seen.documents += 1;
        let Some(mut mode) = self.mode(&document).await? else {
            self.done.kept += 1;
            return self.pass_over(&document).await;
        };
        let mut waits = false;
        if let Some(served) = &document.served {
            let attributes = &served.attributes;
            // Where no title was given, each version has its own.
            let title = if document.title.is_empty() { "" } else { &attributes.title };
            let (readers, metadata) = (&attributes.readers, &attributes.metadata);
            let part = Part { version: served.version, file: &served.content, readers, title, metadata };
            let job = self.write(&document, part, mode).await?;
            waits = !self.points(served, job).await?;
            mode = PutMode::CreateOrReplace;
        }
        if document.has_newer() {
            let Document { readers, title, metadata, .. } = &document;
            let part = Part { version: document.version, file: &document.content, readers, title, metadata };
            let job = self.write(&document, part, mode).await?;
            waits = !self.settle(&document, job).await?;
        }
        self.done.documents += 1;
        self.done.waiting += u64::from(waits);
        Ok(())
    }

    /// How a document is written; `None`: it is not.
    async fn mode(&self, document: &Document) -> Result<Option<PutMode>> {
        let there = self.target.catalog.get(&document.tenant, &document.document_id).await?;
        match (there, self.present) {
            (None, _) => Ok(Some(PutMode::Create)),
            (Some(_), Present::Replace) => Ok(Some(PutMode::CreateOrReplace)),
            (Some(there), _) if is_same(&there, document) => Ok(None),
            (Some(there), _) if was_cut_off(&there, document) => Ok(Some(PutMode::CreateOrReplace)),
            (Some(_), Present::Keep) => Ok(None),
            (Some(_), Present::Refuse) => Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "{} is there already: give --replace to replace such documents, or --skip-existing to keep them",
                    document.name()
                ),
            )),
        }
    }

    /// Reads the rest of a document that is not written.
    async fn pass_over(&mut self, document: &Document) -> Result<()> {
        if let Some(served) = &document.served {
            original::pass_over(&mut self.lines, &served.content).await?;
            self.seen.originals += 1;
            while self.point().await?.is_some() {}
        }
        if document.has_newer() {
            original::pass_over(&mut self.lines, &document.content).await?;
            self.seen.originals += 1;
        }
        Ok(())
    }

    /// Stores an original, and writes its row.
    async fn write(&mut self, document: &Document, part: Part<'_>, mode: PutMode) -> Result<Option<Job>> {
        let Document { tenant, document_id, owner, created_at, .. } = document;
        let blob = crate::blob::key(tenant, document_id);
        let stored = original::store(&mut self.lines, part.file, &self.target.blobs, &blob).await;
        stored.map_err(|error| of(document, error))?;
        self.seen.originals += 1;
        let new = NewDocument {
            tenant: tenant.clone(),
            document_id: document_id.clone(),
            owner: owner.clone(),
            as_admin: true,
            readers: Some(part.readers.to_vec()),
            title: Some(part.title.to_owned()),
            metadata: Some(part.metadata.clone()),
            content: part.file.at(blob.clone()),
            request: None,
        };
        let restore = Restore { document: new, mode, version: part.version, created_at: *created_at };
        let restored = self.target.catalog.restore(&restore, self.target.lease).await;
        // Where nobody knows whether the row was written, it may need its original; what is left here, a sweep finds.
        if restored.as_ref().is_err_and(|error| error.kind() != ErrorKind::Timeout) {
            let _ = self.target.blobs.delete(&blob).await;
        }
        restored.map_err(|error| of(document, error))
    }

    /// Brings the points of what is served, and publishes it if they are all there. False: it waits for a worker.
    async fn points(&mut self, served: &ServedFile, job: Option<Job>) -> Result<bool> {
        let mut held = job;
        if self.target.store.is_none() {
            self.hand_back(held.take()).await?;
        }
        let (mut batch, mut read, mut is_whole) = (Vec::new(), 0, true);
        while let Some(line) = self.point().await? {
            is_whole &= line.chunk.chunk_idx == read;
            read += 1;
            let Some(job) = &held else { continue };
            batch.push(self.made(job, served, line)?);
            if batch.len() == POINTS {
                held = self.upsert(std::mem::take(&mut batch), held).await?;
            }
        }
        held = self.upsert(batch, held).await?;
        let Some(job) = held else { return Ok(false) };
        if is_whole && read == served.chunks && read > 0 && self.publish(&job, served).await? {
            return Ok(true);
        }
        self.hand_back(Some(job)).await?;
        Ok(false)
    }

    /// The next line, if it is a point.
    async fn point(&mut self) -> Result<Option<PointLine>> {
        match self.lines.next_if(|line| matches!(line, Line::Point(_))).await? {
            Some(Line::Point(point)) => {
                self.seen.points += 1;
                Ok(Some(point))
            }
            _ => Ok(None),
        }
    }

    fn made(&self, job: &Job, served: &ServedFile, line: PointLine) -> Result<Point> {
        let vectors = line.vectors().filter(|(dense, _)| dense.len() == self.dimensions);
        let vectors = vectors.ok_or_else(|| self.lines.damaged("its vectors are none"))?;
        Ok(point(&job.record, &served.attributes.title, line.chunk, vectors))
    }

    /// Writes points, as long as the document is held.
    async fn upsert(&self, points: Vec<Point>, job: Option<Job>) -> Result<Option<Job>> {
        let (Some(store), Some(job)) = (&self.target.store, job) else { return Ok(None) };
        if points.is_empty() {
            return Ok(Some(job));
        }
        store.upsert(points).await?;
        let renewed = self.target.catalog.renew(&job.lease, self.target.lease).await;
        Ok(unless_lost(renewed)?.map(|()| job))
    }

    async fn publish(&self, job: &Job, served: &ServedFile) -> Result<bool> {
        let Some(store) = &self.target.store else { return Ok(false) };
        store.flush().await?;
        crate::hold::at("import").await;
        let publication = Publication {
            version: job.record.version,
            chunks: served.chunks,
            access_version: job.record.access_version,
            title: served.attributes.title.clone(),
        };
        let published = self.target.catalog.publish(&job.lease, &publication).await;
        // Attributes that somebody changed since are a worker's to bring.
        Ok(unless_lost(published)? == Some(Publish::Published))
    }

    /// A newer content fails again, as it had, or waits for a worker.
    async fn settle(&self, document: &Document, job: Option<Job>) -> Result<bool> {
        match (job, &document.failure) {
            (Some(job), Some(failure)) if document.status == Status::Failed => {
                Ok(unless_lost(self.target.catalog.fail(&job.lease, failure).await)?.is_some())
            }
            (job, _) => self.hand_back(job).await.map(|()| false),
        }
    }

    async fn hand_back(&self, job: Option<Job>) -> Result<()> {
        let Some(job) = job else { return Ok(()) };
        unless_lost(self.target.catalog.release(&job.lease, Duration::ZERO, true).await).map(drop)
    }
}

/// Nothing, where somebody took the document over: it is theirs then.
fn unless_lost<T>(written: Result<T>) -> Result<Option<T>> {
    match written {
        Ok(written) => Ok(Some(written)),
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
        Err(error) => Err(error),
    }
}

/// The export's own, as it is there; or a worker has done by now what waited then.
fn is_same(there: &DocumentRecord, document: &Document) -> bool {
    is_own(there, document)
        && there.content.sha256 == document.content.sha256
        && (there.status == document.status || document.status == Status::Processing)
        && there.readers == document.readers
        && there.title == document.title
        && there.metadata == document.metadata
}

/// The export's own, whose import ended before its end. One whose readers have been changed since is somebody's: what was
/// taken from a reader does not come back.
fn was_cut_off(there: &DocumentRecord, document: &Document) -> bool {
    let served = document.served.as_ref().filter(|served| served.content.sha256 == there.content.sha256);
    let readers = served.map_or(&document.readers, |served| &served.attributes.readers);
    let nothing_served = there.status == Status::Processing && there.served.is_none();
    let not_the_newest = there.status == Status::Indexed && document.has_newer();
    is_own(there, document)
        && there.readers == *readers
        && match served {
            Some(served) => nothing_served || (not_the_newest && there.version == served.version),
            None => nothing_served && there.content.sha256 == document.content.sha256,
        }
}

fn is_own(there: &DocumentRecord, document: &Document) -> bool {
    there.owner == document.owner && there.created_at == document.created_at
}

/// An error that says which document it was.
fn of(document: &Document, error: Error) -> Error {
    Error::new(error.kind(), format!("{}: {}", document.name(), error.message())).with_source(error)
}
