//! Deletes all that is left of a deleted document.

use crate::blob::Blobs;
use crate::catalog::{Catalog, Job};
use crate::error::Result;
use crate::vector_store::{VectorStore, Versions};

/// Points first, then originals, then the row that remembers them: a crash at any step leaves the row, and the next
/// worker begins again. (The job's record may be a new document of the same id already: only its garbage is deleted.)
pub(super) async fn purge(catalog: &dyn Catalog, blobs: &Blobs, store: &dyn VectorStore, job: &Job) -> Result<()> {
    store.delete(&job.lease.tenant, &job.lease.document_id, Versions::All).await?;
    store.flush().await?;
    crate::hold::at("delete_points").await;
    for blob in &job.garbage {
        blobs.delete(blob).await?;
    }
    crate::hold::at("delete_blobs").await;
    catalog.purge_done(&job.lease).await
}
