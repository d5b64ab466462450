//! An export's lines, back into an installation.

mod document;
mod original;

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncBufRead;

use super::Counts;
use super::line::{Header, Key, Line};
use super::lines::Lines;
use crate::blob::Blobs;
use crate::cache::Cache;
use crate::catalog::Catalog;
use crate::document::TenantId;
use crate::error::{Error, ErrorKind, Result};
use crate::vector_store::{Identity, VectorStore};

/// Where documents are brought.
#[derive(Debug, Clone)]
pub struct Target {
    /// Documents and keys.
    pub catalog: Arc<dyn Catalog>,
    /// Originals.
    pub blobs: Arc<Blobs>,
    /// Points; `None`: the export's points are passed over, and workers make them.
    pub store: Option<Arc<dyn VectorStore>>,
    /// Answers, which may be of what was here before.
    pub cache: Option<Arc<dyn Cache>>,
    /// How long a document is held at most without a sign of life.
    pub lease: Duration,
}

/// What to do with a document that is there already, and is not the export's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Present {
    /// Stop.
    Refuse,
    /// Replace it, whatever it is; the export's own too.
    Replace,
    /// Leave it.
    Keep,
}

/// What was imported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// Keys that were not there.
    pub keys: u64,
    /// Documents that were written.
    pub documents: u64,
    /// Documents that were there and are as they were.
    pub kept: u64,
    /// Of those that were written, how many wait for a worker.
    pub waiting: u64,
}

/// An export that is about to be imported.
#[derive(Debug)]
pub struct Import<R> {
    header: Header,
    lines: Lines<R>,
}

impl<R: AsyncBufRead + Unpin + Send> Import<R> {
    /// Reads the header; an error if this is no export, or of a format that is not known here.
    pub async fn open(input: R) -> Result<Self> {
        let (header, lines) = Lines::open(input).await?;
        Ok(Self { header, lines })
    }

    /// Documents that the export has, about.
    pub fn documents(&self) -> u64 {
        self.header.documents
    }

    /// Refuses an export whose vectors mean nothing to `identity`.
    pub fn check(&self, identity: &Identity) -> Result<()> {
        match self.header.vectors.conflict(identity) {
            None => Ok(()),
            Some(what) => Err(Error::config(format!(
                "the export {what}: set the same RAG_EMBEDDING_MODEL, or give --reindex to import without vectors and \
                 have workers embed the documents anew"
            ))),
        }
    }

    /// Imports all of it. What was imported before an error stays; the same import again goes on from there. `watch`
    /// hears of every document.
    pub async fn run(self, target: &Target, present: Present, watch: impl Fn(&Counts) + Send) -> Result<Imported> {
        let dimensions = self.header.vectors.dimensions();
        let (seen, done) = (Counts::default(), Imported::default());
        let mut importer = Importer { target, present, dimensions, lines: self.lines, seen, done, tenant: None };
        let finished = importer.all(watch).await;
        importer.enter(None).await;
        finished.map(|()| importer.done)
    }
}

struct Importer<'a, R> {
    target: &'a Target,
    present: Present,
    /// Of the export's embeddings.
    dimensions: usize,
    lines: Lines<R>,
    /// What was read.
    seen: Counts,
    done: Imported,
    /// Whose documents are being written.
    tenant: Option<TenantId>,
}

impl<R: AsyncBufRead + Unpin + Send> Importer<'_, R> {
    async fn all(&mut self, watch: impl Fn(&Counts) + Send) -> Result<()> {
        loop {
            match self.lines.next().await? {
                Line::Key(key) => self.key(key).await?,
                Line::Document(document) => {
                    self.enter(Some(&document.tenant)).await;
                    self.document(*document).await?;
                    watch(&self.seen);
                }
                Line::End(counts) if counts == self.seen => return self.lines.finish().await,
                Line::End(_) => return Err(self.lines.damaged("its counts are others than those of what came before")),
                Line::Header(_) | Line::Original(_) | Line::Point(_) => {
                    return Err(self.lines.damaged("it belongs to nothing"));
                }
            }
        }
    }

    /// A key whose id is there is left as it is: it may have been revoked.
    async fn key(&mut self, key: Key) -> Result<()> {
        let key = key.into_record().map_err(|error| self.lines.damaged("it is no key").with_source(error))?;
        self.seen.keys += 1;
        match self.target.catalog.insert_key(&key).await {
            Ok(()) => self.done.keys += 1,
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Goes on with documents of another tenant. What a cache has of the last one may be an answer from before: a new
    /// database counts its generations from the beginning.
    async fn enter(&mut self, tenant: Option<&TenantId>) {
        if self.tenant.as_ref() == tenant {
            return;
        }
        let left = std::mem::replace(&mut self.tenant, tenant.cloned());
        if let (Some(left), Some(cache)) = (left, &self.target.cache)
            && let Err(error) = cache.forget(&left).await
        {
            tracing::warn!(error = %error.chain(), "cached answers could not be dropped");
        }
    }
}
