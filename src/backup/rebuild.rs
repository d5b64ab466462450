//! Vectors made anew: everything that is served is queued again.

use super::PAGE;
use crate::catalog::{Catalog, Status};
use crate::error::Result;

/// What was queued.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Documents that were served, and are queued.
    pub queued: u64,
    /// Documents that waited already.
    pub waiting: u64,
}

/// Queues every served document of every tenant, as a new version of the same content. What is served stays served until
/// the new version is.
pub async fn rebuild(catalog: &dyn Catalog) -> Result<Rebuilt> {
    let mut rebuilt = Rebuilt::default();
    let mut after = None;
    loop {
        let page = catalog.all_documents(after.as_ref(), PAGE).await?;
        for record in &page {
            if catalog.rebuild(&record.tenant, &record.document_id).await? {
                rebuilt.queued += 1;
            } else {
                rebuilt.waiting += u64::from(record.status == Status::Processing);
            }
        }
        match page.last() {
            Some(last) if page.len() == PAGE as usize => after = Some((last.tenant.clone(), last.document_id.clone())),
            _ => return Ok(rebuilt),
        }
    }
}
