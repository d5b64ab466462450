//! Brings readers, title and metadata of served documents to the vector store.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::catalog::{Attributes, AttributesPatch, Catalog, DocumentRecord};
use crate::document::{Chunk, DocumentId, Passage, Principal, TenantId};
use crate::error::Result;
use crate::vector_store::{DocumentAttributes, Point, SparseVector, VectorStore};

/// Writes attributes in the order in which the catalog took them.
///
/// The lock makes sure that an older change never overwrites a newer one from the same process. (Between processes
/// the job [`crate::catalog::Work::Attributes`] is fenced and repeats until the store has the newest.)
#[derive(Debug)]
pub struct AttributeWriter {
    catalog: Arc<dyn Catalog>,
    store: Arc<dyn VectorStore>,
    order: Mutex<()>,
}

impl AttributeWriter {
    /// A writer of this catalog's attributes into this store.
    pub fn new(catalog: Arc<dyn Catalog>, store: Arc<dyn VectorStore>) -> Self {
        Self { catalog, store, order: Mutex::new(()) }
    }

    /// Changes attributes in the catalog, then in the store; `owner` as in [`crate::catalog::DocumentCatalog`]. Should
    /// the second fail the change holds (the catalog decides what is shown) and a worker brings it to the store.
    pub(super) async fn patch(
        &self,
        tenant: &TenantId,
        document: &DocumentId,
        owner: Option<&Principal>,
        patch: AttributesPatch,
    ) -> Result<Option<DocumentRecord>> {
        let _in_order = self.order.lock().await;
        let Some(record) = self.catalog.patch(tenant, document, owner, patch).await? else { return Ok(None) };
        crate::hold::at("attributes").await;
        self.write(&record).await?;
        // What was answered while the store had the old attributes is stale.
        self.catalog.count_change(tenant).await?;
        Ok(Some(record))
    }

    /// Brings the newest attributes to the store; returns the `access_version` that it has now.
    pub(super) async fn sync(&self, tenant: &TenantId, document: &DocumentId) -> Result<Option<u64>> {
        let _in_order = self.order.lock().await;
        let Some(record) = self.catalog.get(tenant, document).await? else { return Ok(None) };
        self.write(&record).await?;
        Ok(Some(record.access_version))
    }

    async fn write(&self, record: &DocumentRecord) -> Result<()> {
        let Some(served) = &record.served else { return Ok(()) };
        let Attributes { readers, title, metadata } = served.attributes.clone();
        let attributes = DocumentAttributes { principals: readers, title, metadata };
        self.store.set_attributes(&record.tenant, &record.document_id, served.version, &attributes).await?;
        self.store.flush().await
    }
}

/// A chunk of a row's newest version as the store keeps it, with its embedding and its BM25 vector.
pub(crate) fn point(
    record: &DocumentRecord,
    title: &str,
    chunk: Chunk,
    (dense, sparse): (Vec<f32>, SparseVector),
) -> Point {
    let passage = Passage {
        document_id: record.document_id.clone(),
        version: record.version,
        title: title.to_owned(),
        metadata: record.metadata.clone(),
        chunk,
    };
    Point { tenant: record.tenant.clone(), principals: record.readers.clone(), passage, dense, sparse }
}

/// What the store keeps of a row's newest version.
pub(super) fn attributes(record: &DocumentRecord) -> DocumentAttributes {
    DocumentAttributes {
        principals: record.readers.clone(),
        title: record.title.clone(),
        metadata: record.metadata.clone(),
    }
}
