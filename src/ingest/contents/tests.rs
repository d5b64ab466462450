#![cfg(feature = "edge")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::DateTime;
use futures::TryStreamExt;
use tempfile::TempDir;

use super::*;
use crate::catalog::{
    Attributes, AttributesPatch, CatalogStats, Content, Job, ListQuery, NewDocument, Progress, Put, PutMode, Served,
    Stage, Status, Visibility,
};
use crate::document::{Metadata, Passage, Principal, TenantId};
use crate::embedding::EmbeddingModel;
use crate::vector_store::{Point, SparseVector};

/// Rows as they are at the first look, the second, and so on; the last one stays.
#[derive(Debug)]
struct Moving {
    rows: Vec<Option<DocumentRecord>>,
    looks: AtomicUsize,
}

#[async_trait]
impl DocumentCatalog for Moving {
    async fn get(&self, _: &TenantId, _: &DocumentId) -> Result<Option<DocumentRecord>> {
        let look = self.looks.fetch_add(1, Ordering::SeqCst);
        Ok(self.rows[look.min(self.rows.len() - 1)].clone())
    }

    async fn put(&self, _: NewDocument, _: PutMode) -> Result<Put> {
        unreachable!()
    }

    async fn list(&self, _: &TenantId, _: ListQuery) -> Result<Vec<DocumentRecord>> {
        unreachable!()
    }

    async fn patch(
        &self,
        _: &TenantId,
        _: &DocumentId,
        _: Option<&Principal>,
        _: AttributesPatch,
    ) -> Result<Option<DocumentRecord>> {
        unreachable!()
    }

    async fn tombstone(&self, _: &TenantId, _: &DocumentId, _: Option<&Principal>, _: Duration) -> Result<Option<Job>> {
        unreachable!()
    }

    async fn retry(&self, _: &TenantId, _: &DocumentId, _: Option<&Principal>) -> Result<Option<DocumentRecord>> {
        unreachable!()
    }

    async fn visibility(&self, _: &TenantId, _: &[DocumentId]) -> Result<HashMap<DocumentId, Visibility>> {
        unreachable!()
    }

    async fn generation(&self, _: &TenantId) -> Result<u64> {
        unreachable!()
    }

    async fn count_change(&self, _: &TenantId) -> Result<()> {
        unreachable!()
    }

    async fn stats(&self) -> Result<CatalogStats> {
        unreachable!()
    }
}

fn tenant() -> TenantId {
    "acme".parse().unwrap()
}

fn document() -> DocumentId {
    "a".parse().unwrap()
}

fn ann() -> Principal {
    Principal::user("ann").unwrap()
}

fn scope() -> Scope {
    Scope::new(tenant(), vec![ann()])
}

fn content(version: Version) -> Content {
    Content {
        filename: None,
        media_type: "text/plain".to_owned(),
        bytes: 2,
        sha256: format!("sha256 of {version}"),
        blob: format!("acme/a/v{version}"),
    }
}

/// The row while this version of three chunks is served.
fn row(version: Version) -> Option<DocumentRecord> {
    Some(DocumentRecord {
        tenant: tenant(),
        document_id: document(),
        owner: ann(),
        readers: vec![ann()],
        title: String::new(),
        metadata: Metadata::new(),
        access_version: 1,
        version,
        content: content(version),
        served: Some(Served {
            version,
            content: content(version),
            chunks: 3,
            attributes: Attributes { readers: vec![ann()], title: String::new(), metadata: Metadata::new() },
        }),
        status: Status::Indexed,
        stage: Stage::Publish,
        progress: Progress::default(),
        attempts: 1,
        failure: None,
        created_at: DateTime::UNIX_EPOCH,
        updated_at: DateTime::UNIX_EPOCH,
    })
}

/// A store and a folder of originals in which version 2 is there and version 1 is gone.
struct Kept {
    store: std::sync::Arc<dyn VectorStore>,
    blobs: std::sync::Arc<Blobs>,
    _dir: TempDir,
}

impl Kept {
    async fn of_version_2() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vectors");
        let config = crate::vector_store::Config::Edge { path, collection: "documents".to_owned() };
        let model = EmbeddingModel { name: "two".to_owned(), dimensions: 2, max_tokens: 8 };
        let store = crate::vector_store::build(&config, &model).await.unwrap();
        let point = |chunk_idx| {
            let chunk = Chunk { chunk_idx, text: "x".to_owned(), headings: vec![], page: None, start: 0, end: 1 };
            let (title, metadata) = (String::new(), Metadata::new());
            let passage = Passage { document_id: document(), version: 2, title, metadata, chunk };
            let (dense, sparse) = (vec![1.0, 0.0], SparseVector::default());
            Point { tenant: tenant(), principals: vec![ann()], passage, dense, sparse }
        };
        store.upsert((0..3).map(point).collect()).await.unwrap();
        let config = crate::blob::Config::File { path: dir.path().join("originals") };
        let blobs = crate::blob::build(&config).await.unwrap();
        blobs.put(&content(2).blob, Bytes::from_static(b"v2")).await.unwrap();
        Self { store, blobs, _dir: dir }
    }

    fn with<'a>(&'a self, documents: &'a Moving) -> Contents<'a> {
        Contents { scope: scope(), documents, blobs: &self.blobs, store: &*self.store }
    }
}

fn looks(rows: &[Option<DocumentRecord>]) -> Moving {
    Moving { rows: rows.to_vec(), looks: AtomicUsize::new(0) }
}

#[tokio::test]
async fn a_version_that_goes_while_it_is_read_is_no_gap() {
    let kept = Kept::of_version_2().await;
    let rows = looks(&[row(1), row(2)]);
    let page = kept.with(&rows).chunks(&document(), None, 2).await.unwrap();
    assert_eq!(page.chunks.iter().map(|chunk| chunk.chunk_idx).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(page.next, Some(ChunkPosition { version: 2, chunk_idx: 2 }));
    let last = kept.with(&rows).chunks(&document(), page.next, 2).await.unwrap();
    assert_eq!((last.chunks.len(), last.next), (1, None));

    let original = kept.with(&looks(&[row(1), row(2)])).original(&document()).await.unwrap();
    assert_eq!(original.record.version, 2);
    assert_eq!(original.stream.try_collect::<Vec<_>>().await.unwrap().concat(), b"v2");

    // Deleted meanwhile is deleted.
    let deleted = looks(&[row(1), None]);
    assert_eq!(kept.with(&deleted).chunks(&document(), None, 2).await.unwrap_err().kind(), ErrorKind::NotFound);
    let deleted = looks(&[row(1), None]);
    assert_eq!(kept.with(&deleted).original(&document()).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_cursor_of_a_version_that_goes_is_refused() {
    let kept = Kept::of_version_2().await;
    let mut unserved = row(3).unwrap();
    unserved.served = None;
    let from = |version| Some(ChunkPosition { version, chunk_idx: 1 });
    // Gone before the page is asked for, or while it is read; or the document was made again.
    for (rows, from) in [(vec![row(2)], from(1)), (vec![row(1), row(2)], from(1)), (vec![Some(unserved)], from(2))] {
        let error = kept.with(&looks(&rows)).chunks(&document(), from, 2).await.unwrap_err();
        assert_eq!((error.kind(), error.pointer()), (ErrorKind::Invalid, Some("/cursor")));
    }
}

#[tokio::test]
async fn what_is_lost_is_not_looked_for_without_end() {
    let kept = Kept::of_version_2().await;
    let lost = looks(&[row(1)]);
    let page = kept.with(&lost).chunks(&document(), None, 2).await.unwrap();
    assert_eq!(page, ChunkList { chunks: Vec::new(), next: None });
    assert_eq!(kept.with(&lost).original(&document()).await.unwrap_err().kind(), ErrorKind::NotFound);
}
