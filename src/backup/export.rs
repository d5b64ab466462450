//! Everything that is kept, as lines.

use chrono::Utc;
use futures::StreamExt;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::line::{Document, FORMAT, Header, Line, Piece, PointLine};
use super::{Counts, PAGE, Source};
use crate::blob::Blob;
use crate::catalog::{Content, DocumentRecord, Served};
use crate::document::hex;
use crate::error::{Error, ErrorKind, Result};
use crate::vector_store::{ChunkPage, Point};

/// Bytes of an original in one line.
const PIECE: usize = 192 * 1024;
/// Points that are read at once.
const POINTS: usize = 64;
/// How often a document is looked at that is replaced meanwhile.
const TRIES: usize = 5;

/// What was exported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// What the export has.
    pub counts: Counts,
    /// Documents whose points are not all in the store: they will be embedded again.
    pub incomplete: u64,
}

/// Writes an export; `watch` hears of every document, with the number that there are. Documents that change meanwhile
/// are exported as they were or as they are.
pub async fn export(
    source: &Source,
    out: &mut (impl AsyncWrite + Unpin + Send),
    watch: impl Fn(&Counts, u64) + Send,
) -> Result<Exported> {
    let documents = source.catalog.stats().await?.by_status.values().sum();
    let mut export = Export { source, out, done: Exported::default() };
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let vectors = source.identity.clone();
    let header = Header { rag_api_export: FORMAT, version, exported_at: Utc::now(), vectors, documents };
    export.write(Line::Header(header)).await?;
    export.keys().await?;
    let mut after = None;
    loop {
        let page = source.catalog.all_documents(after.as_ref(), PAGE).await?;
        for listed in &page {
            export.document(listed).await?;
            watch(&export.done.counts, documents);
        }
        match page.last() {
            Some(last) if page.len() == PAGE as usize => after = Some((last.tenant.clone(), last.document_id.clone())),
            _ => break,
        }
    }
    export.write(Line::End(export.done.counts)).await?;
    export.out.flush().await.map_err(unwritten)?;
    Ok(export.done)
}

struct Export<'a, W> {
    source: &'a Source,
    out: &'a mut W,
    done: Exported,
}

/// An original that is about to be read.
struct Opened {
    content: Content,
    blob: Blob,
}

impl<W: AsyncWrite + Unpin + Send> Export<'_, W> {
    async fn keys(&mut self) -> Result<()> {
        let mut after: Option<String> = None;
        loop {
            let page = self.source.catalog.all_keys(after.as_deref(), PAGE).await?;
            after = page.last().map(|last| last.id.clone()).filter(|_| page.len() == PAGE as usize);
            for key in page {
                self.write(Line::Key(key.into())).await?;
                self.done.counts.keys += 1;
            }
            if after.is_none() {
                return Ok(());
            }
        }
    }

    async fn document(&mut self, listed: &DocumentRecord) -> Result<()> {
        let Some((record, originals)) = self.open(listed).await? else { return Ok(()) };
        self.write(Line::Document(Box::new(Document::from(&record)))).await?;
        let mut served = record.served.as_ref();
        for original in originals {
            self.original(&record, original).await?;
            if let Some(served) = served.take() {
                self.points(&record, served).await?;
            }
        }
        self.done.counts.documents += 1;
        Ok(())
    }

    /// The newest state of a document, with its originals open: what is served first. `None`: it was deleted meanwhile.
    async fn open(&self, listed: &DocumentRecord) -> Result<Option<(DocumentRecord, Vec<Opened>)>> {
        let mut missing = None;
        for _ in 0..TRIES {
            let Some(record) = self.source.catalog.get(&listed.tenant, &listed.document_id).await? else {
                return Ok(None);
            };
            match self.originals(&record).await {
                Ok(originals) => return Ok(Some((record, originals))),
                // Replaced at this moment, and the former original deleted.
                Err(error) if error.kind() == ErrorKind::NotFound => missing = Some(error),
                Err(error) => return Err(error),
            }
        }
        let message = format!("the original of {} is not there", Document::from(listed).name());
        let error = Error::new(ErrorKind::Internal, message);
        Err(missing.into_iter().fold(error, Error::with_source))
    }

    async fn originals(&self, record: &DocumentRecord) -> Result<Vec<Opened>> {
        let served = record.served.as_ref().map(|served| &served.content);
        let newer = Some(&record.content).filter(|newest| served.is_none_or(|served| served.blob != newest.blob));
        let mut opened = Vec::with_capacity(2);
        for content in served.into_iter().chain(newer) {
            let blob = self.source.blobs.get(&content.blob).await?;
            opened.push(Opened { content: content.clone(), blob });
        }
        Ok(opened)
    }

    async fn original(&mut self, record: &DocumentRecord, original: Opened) -> Result<()> {
        let Opened { content, mut blob } = original;
        let mut hash = Sha256::new();
        while let Some(part) = blob.stream.next().await.transpose()? {
            hash.update(&part);
            for piece in part.chunks(PIECE) {
                self.write(Line::Original(Piece::new(piece))).await?;
            }
        }
        if hex(&hash.finalize()) != content.sha256 {
            let message = format!("the original of {} is not what was uploaded", Document::from(record).name());
            return Err(Error::new(ErrorKind::Internal, message));
        }
        self.done.counts.originals += 1;
        Ok(())
    }

    async fn points(&mut self, record: &DocumentRecord, served: &Served) -> Result<()> {
        let (tenant, document) = (&record.tenant, &record.document_id);
        let mut next = 0;
        let mut written = 0;
        loop {
            let page = ChunkPage { from: next, limit: POINTS };
            let points = self.source.store.points(tenant, document, served.version, page).await?;
            let is_last = points.len() < POINTS;
            for Point { passage, dense, sparse, .. } in points {
                next = passage.chunk.chunk_idx + 1;
                written += 1;
                self.write(Line::Point(PointLine::new(passage.chunk, &dense, &sparse))).await?;
            }
            if is_last {
                break;
            }
        }
        self.done.counts.points += u64::from(written);
        self.done.incomplete += u64::from(written != served.chunks);
        Ok(())
    }

    async fn write(&mut self, line: Line) -> Result<()> {
        let mut text = serde_json::to_vec(&line).map_err(|error| Error::internal("a line cannot be written", error))?;
        text.push(b'\n');
        self.out.write_all(&text).await.map_err(unwritten)
    }
}

fn unwritten(error: std::io::Error) -> Error {
    Error::unavailable("the export cannot be written", error)
}
