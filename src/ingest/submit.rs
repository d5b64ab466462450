//! Taking documents in: nothing is acknowledged before the original is stored and the row is committed.

use uuid::Uuid;

use super::{Ingester, Submitted, Upload, owner, validate};
use crate::auth::Identity;
use crate::catalog::{Content, DocumentRecord, Idempotency, NewDocument, Put, PutMode, RequestNote, RequestPart};
use crate::document::{DocumentId, hex};
use crate::error::{Error, ErrorKind, Result};

impl Ingester {
    /// `POST`: creates documents, or replaces the one that is named, in order; the first that is refused ends it. With
    /// an `Idempotency-Key` the same request again gives the same documents, and goes on where it was cut off.
    pub async fn create(
        &self,
        caller: &Identity,
        uploads: Vec<Upload>,
        idempotency_key: Option<&str>,
    ) -> Result<Vec<Submitted>> {
        for upload in &uploads {
            validate::upload(upload, &self.config)?;
        }
        let note = match idempotency_key {
            Some(key) => Some(self.note(caller, &uploads, key).await?),
            None => None,
        };
        let mut submitted = Vec::with_capacity(uploads.len());
        for (part, upload) in (0..).zip(uploads) {
            submitted.push(match &note {
                Some(note) => self.create_once(caller, upload, note, part).await?,
                None => self.submit(caller, upload, None).await?,
            });
        }
        Ok(submitted)
    }

    /// `PUT`: creates or replaces `upload.document_id`.
    pub async fn put(&self, caller: &Identity, upload: Upload) -> Result<Submitted> {
        validate::upload(&upload, &self.config)?;
        self.submit(caller, upload, None).await
    }

    /// What is known of the request that these uploads make.
    async fn note(&self, caller: &Identity, uploads: &[Upload], key: &str) -> Result<RequestNote> {
        let fingerprint = validate::fingerprint(uploads);
        match self.catalog.idempotency(&caller.tenant, &caller.user, key, &fingerprint).await? {
            Idempotency::Noted(note) => Ok(note),
            Idempotency::Mismatch => Err(Error::new(
                ErrorKind::Conflict,
                "this Idempotency-Key was used with another body; use a new key for a new request",
            )),
        }
    }

    /// A part of a request with a key: what is written already is not written again.
    async fn create_once(&self, caller: &Identity, upload: Upload, note: &RequestNote, part: u32) -> Result<Submitted> {
        let request = RequestPart { request: note.request, part };
        if !note.done.contains(&part) {
            return self.submit(caller, upload, Some(request)).await;
        }
        let document_id = upload.document_id.map_or_else(|| own_id(request), Ok)?;
        let record = self.managed(caller, &document_id).await?;
        Ok(Submitted { record, unchanged: true })
    }

    /// Stores the original, then commits the row.
    async fn submit(&self, caller: &Identity, upload: Upload, request: Option<RequestPart>) -> Result<Submitted> {
        let tenant = caller.tenant.clone();
        let (document_id, mode) = match (upload.document_id, request) {
            (Some(named), _) => (named, PutMode::CreateOrReplace),
            (None, Some(request)) => (own_id(request)?, PutMode::Create),
            (None, None) => (DocumentId::random(), PutMode::Create),
        };
        let blob = crate::blob::key(&tenant, &document_id);
        let content = Content {
            media_type: upload
                .media_type
                .unwrap_or_else(|| validate::media_type(upload.filename.as_deref()).to_owned()),
            filename: upload.filename,
            bytes: upload.content.bytes(),
            sha256: hex(&upload.content.sha256()),
            blob: blob.clone(),
        };
        self.blobs.put_stream(&blob, upload.content.stream()).await?;
        crate::hold::at("blob").await;
        let document = NewDocument {
            tenant,
            document_id,
            owner: caller.owner()?,
            as_admin: caller.is_admin(),
            readers: upload.readers,
            title: upload.title,
            metadata: upload.metadata,
            content,
            request,
        };
        let put = match self.catalog.put(document, mode).await {
            Ok(put) => put,
            // Where nobody knows whether the row was written, it may need its original.
            Err(error) if error.kind() == ErrorKind::Timeout => return Err(error),
            Err(error) => {
                self.forget_blob(&blob).await;
                return Err(error);
            }
        };
        crate::hold::at("row").await;
        self.after(put, &blob).await
    }

    /// What follows a written row; `blob` is the original that was stored for it.
    async fn after(&self, put: Put, blob: &str) -> Result<Submitted> {
        let (record, unneeded) = match put {
            Put::Created(record) => (record, None),
            Put::Replaced(record, superseded) => (record, superseded),
            Put::Unchanged(record) => {
                self.forget_blob(blob).await;
                return Ok(Submitted { record, unchanged: true });
            }
            Put::Patched(record) => {
                self.forget_blob(blob).await;
                // Should the store be down the change holds all the same, and a worker brings it there.
                self.attributes.sync(&record.tenant, &record.document_id).await?;
                return Ok(Submitted { record, unchanged: true });
            }
        };
        if let Some(unneeded) = unneeded {
            self.forget_blob(&unneeded).await;
        }
        self.work.notify_waiters();
        Ok(Submitted { record, unchanged: false })
    }

    /// Deletes an original that nothing refers to; what fails here, the sweep finds.
    async fn forget_blob(&self, blob: &str) {
        if let Err(error) = self.blobs.delete(blob).await {
            tracing::warn!(error = %error.chain(), "an unused original could not be deleted");
        }
    }

    /// A document that the caller may change.
    async fn managed(&self, caller: &Identity, document: &DocumentId) -> Result<DocumentRecord> {
        let owner = owner(caller)?;
        let record = self.catalog.get(&caller.tenant, document).await?;
        let record = record.filter(|record| owner.is_none_or(|owner| record.owner == owner));
        record.ok_or_else(|| Error::not_found("document"))
    }
}

/// The id of a document that a request with a key makes without naming it: the same each time the request comes. Parts
/// count on from the request's own UUIDv7, so that listings by id follow creation.
fn own_id(RequestPart { request, part }: RequestPart) -> Result<DocumentId> {
    Uuid::from_u128(request.as_u128().wrapping_add(u128::from(part))).to_string().parse()
}
