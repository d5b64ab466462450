//! `/v1/documents`: upload, list, look, change, delete.

mod view;

use axum::Json as Answer;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::catalog::Status;
use crate::error::{Error, Result};
use crate::http::cursor::{self, Listing};
use crate::http::extract::{Call, DocumentPath, Json, Params};
use crate::http::problem::{Problem, Refusal};
use crate::http::state::AppState;
use crate::http::upload::{FormUpload, TextUpload, Uploads};
use crate::ingest::{ChunkPosition, Original, Upload};
use view::{ChunkList, ChunkView, DocumentList, DocumentPatch, DocumentView, FileBytes, Submission, UploadResponse};

const DEFAULT_PAGE: u32 = 50;
const MAX_PAGE: u32 = 100;
const DEFAULT_CHUNKS: u32 = 100;
const MAX_CHUNKS: u32 = 500;

/// Upload a document, or several.
///
/// Accepted means stored: the document is processed even if the server stops now. Without `document_id` this always
/// creates a new one; a `document_id` that is there already is replaced, as by `PUT`. With an `Idempotency-Key`, the same
/// request again gives the same documents.
#[utoipa::path(
    post, path = "/v1/documents", tag = "documents", operation_id = "upload_documents",
    params(("Idempotency-Key" = Option<String>, Header, description = "Kept for 24 hours; at most 255 characters")),
    request_body(content((TextUpload = "application/json"), (FormUpload = "multipart/form-data"))),
    responses(
        (status = 202, description = "Accepted: one, or `documents` where the form held several files", body = UploadResponse),
        (status = 404, description = "The `document_id` is not yours, or what this `Idempotency-Key` made is gone",
            body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The same `Idempotency-Key` with another body", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "A file is over the limit", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Neither JSON nor a form", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn upload(
    State(state): State<AppState>,
    call: Call,
    Uploads { uploads, idempotency_key }: Uploads,
) -> Result<(StatusCode, Answer<UploadResponse>), Refusal> {
    let submitted = state.services.ingester.create(&call.identity, uploads, idempotency_key.as_deref()).await?;
    let documents = submitted.iter().map(|submitted| Submission::of(&submitted.record)).collect();
    Ok((StatusCode::ACCEPTED, Answer(UploadResponse::of(documents))))
}

/// List documents.
#[utoipa::path(
    get, path = "/v1/documents", tag = "documents", operation_id = "list_documents",
    params(
        ("status" = Option<String>, Query, description = "Only `processing`, `indexed` or `failed` ones"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "50 by default"),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before"),
    ),
    responses((status = 200, description = "Those that the caller may read, by id", body = DocumentList)),
)]
pub(super) async fn list(
    State(state): State<AppState>,
    call: Call,
    mut params: Params,
) -> Result<Answer<DocumentList>, Refusal> {
    let status = params.take("status")?.map(|name| parse_status(&name)).transpose()?;
    let limit = params.take_limit(DEFAULT_PAGE, MAX_PAGE)?;
    let after = params.take("cursor")?.map(|text| cursor::decode(Listing::Documents, &text)).transpose()?;
    let after = after.map(|id| id.parse().map_err(|_| cursor::refused())).transpose()?;
    params.finish()?;
    // One more than asked for tells whether there is a next page.
    let mut records = state.services.ingester.list(&call.identity, status, after, limit + 1).await?;
    let more = records.len() > limit as usize;
    records.truncate(limit as usize);
    let next = records.last().filter(|_| more).map(|last| last.document_id.as_str());
    let next_cursor = next.map(|id| cursor::encode(Listing::Documents, id));
    Ok(Answer(DocumentList { documents: records.into_iter().map(DocumentView::from).collect(), next_cursor }))
}

/// Look at a document.
#[utoipa::path(
    get, path = "/v1/documents/{id}", tag = "documents", operation_id = "get_document",
    params(("id" = String, Path, description = "The document's id")),
    responses(
        (status = 200, description = "The document", body = DocumentView),
        (status = 404, description = "There is none, or it is not yours", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn get(
    State(state): State<AppState>,
    call: Call,
    DocumentPath(id): DocumentPath,
) -> Result<Answer<DocumentView>, Refusal> {
    let record = state.services.ingester.get(&call.identity, &id).await?;
    Ok(Answer(record.into()))
}

/// Create or replace a document.
///
/// Answers come from the old content until the new one is ready, then from the new one.
#[utoipa::path(
    put, path = "/v1/documents/{id}", tag = "documents", operation_id = "put_document",
    params(("id" = String, Path, description = "The document's id")),
    request_body(content((TextUpload = "application/json"), (FormUpload = "multipart/form-data"))),
    responses(
        (status = 200, description = "The same bytes were there already: no new version; title, metadata and readers are as sent", body = Submission),
        (status = 202, description = "Accepted", body = Submission),
        (status = 404, description = "It is not yours", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The file is over the limit", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Neither JSON nor a form", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn put(
    State(state): State<AppState>,
    call: Call,
    DocumentPath(id): DocumentPath,
    // Putting the same again is the same anyhow: no `Idempotency-Key` is needed.
    Uploads { mut uploads, idempotency_key: _ }: Uploads,
) -> Result<Response, Refusal> {
    let upload = match (uploads.pop(), uploads.is_empty()) {
        (Some(upload), true) => upload,
        _ => return Err(Error::invalid("/file", "a document has one file").into()),
    };
    if upload.document_id.as_ref().is_some_and(|sent| *sent != id) {
        return Err(Error::invalid("/document_id", "document_id differs from the path").into());
    }
    let upload = Upload { document_id: Some(id), ..upload };
    let submitted = state.services.ingester.put(&call.identity, upload).await?;
    let status = if submitted.unchanged { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Answer(Submission::of(&submitted.record))).into_response())
}

/// Change title, metadata or readers; the next question sees it.
#[utoipa::path(
    patch, path = "/v1/documents/{id}", tag = "documents", operation_id = "change_document",
    params(("id" = String, Path, description = "The document's id")),
    request_body = DocumentPatch,
    responses(
        (status = 200, description = "The changed document", body = DocumentView),
        (status = 404, description = "There is none, or it is not yours", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn patch(
    State(state): State<AppState>,
    call: Call,
    DocumentPath(id): DocumentPath,
    Json(patch): Json<DocumentPatch>,
) -> Result<Answer<DocumentView>, Refusal> {
    let record = state.services.ingester.patch(&call.identity, &id, patch.checked()?).await?;
    Ok(Answer(record.into()))
}

/// Delete a document; it is gone from every answer, cache and store once this returns.
#[utoipa::path(
    delete, path = "/v1/documents/{id}", tag = "documents", operation_id = "delete_document",
    params(("id" = String, Path, description = "The document's id")),
    responses(
        (status = 204, description = "Gone"),
        (status = 404, description = "There is none, or it is not yours", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn delete(
    State(state): State<AppState>,
    call: Call,
    DocumentPath(id): DocumentPath,
) -> Result<StatusCode, Refusal> {
    state.services.ingester.delete(&call.identity, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Process a failed document again.
#[utoipa::path(
    post, path = "/v1/documents/{id}/retry", tag = "documents", operation_id = "retry_document",
    params(("id" = String, Path, description = "The document's id")),
    responses(
        (status = 202, description = "Queued again", body = Submission),
        (status = 404, description = "There is none, or it is not yours", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has not failed", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn retry(
    State(state): State<AppState>,
    call: Call,
    DocumentPath(id): DocumentPath,
) -> Result<(StatusCode, Answer<Submission>), Refusal> {
    let record = state.services.ingester.retry(&call.identity, &id).await?;
    Ok((StatusCode::ACCEPTED, Answer(Submission::of(&record))))
}

/// Download the original.
#[utoipa::path(
    get, path = "/v1/documents/{id}/content", tag = "documents", operation_id = "get_document_content",
    params(("id" = String, Path, description = "The document's id")),
    responses(
        (status = 200, description = "The bytes, always as an attachment", body = FileBytes, content_type = "application/octet-stream"),
        (status = 404, description = "There is none, or it is not yours", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn content(
    State(state): State<AppState>,
    call: Call,
    DocumentPath(id): DocumentPath,
) -> Result<Response, Refusal> {
    let original = state.services.ingester.original(&call.identity, &id).await?;
    let headers = content_headers(&original);
    Ok((headers, Body::from_stream(original.stream)).into_response())
}

/// The chunks that answers come from.
///
/// All pages are of one version: the cursor of a version that was replaced meanwhile is refused (422, `/cursor`).
#[utoipa::path(
    get, path = "/v1/documents/{id}/chunks", tag = "documents", operation_id = "list_chunks",
    params(
        ("id" = String, Path, description = "The document's id"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500, description = "100 by default"),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "Chunks in order", body = ChunkList),
        (status = 404, description = "There is none, or it is not yours", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn chunks(
    State(state): State<AppState>,
    call: Call,
    DocumentPath(id): DocumentPath,
    mut params: Params,
) -> Result<Answer<ChunkList>, Refusal> {
    let limit = params.take_limit(DEFAULT_CHUNKS, MAX_CHUNKS)?;
    let from = params.take("cursor")?.map(|text| chunk_position(&text)).transpose()?;
    params.finish()?;
    let found = state.services.ingester.chunks(&call.identity, &id, from, limit as usize).await?;
    let next_cursor = found.next.map(chunk_cursor);
    let chunks = found.chunks.into_iter().map(|chunk| ChunkView::of(&id, chunk)).collect();
    Ok(Answer(ChunkList { chunks, next_cursor }))
}

fn chunk_cursor(ChunkPosition { version, chunk_idx }: ChunkPosition) -> String {
    cursor::encode(Listing::Chunks, &format!("{version}:{chunk_idx}"))
}

fn chunk_position(cursor: &str) -> Result<ChunkPosition> {
    let position = cursor::decode(Listing::Chunks, cursor)?;
    let parse = |(version, chunk_idx): (&str, &str)| {
        Some(ChunkPosition { version: version.parse().ok()?, chunk_idx: chunk_idx.parse().ok()? })
    };
    position.split_once(':').and_then(parse).ok_or_else(cursor::refused)
}

fn parse_status(name: &str) -> Result<Status> {
    let all = [Status::Processing, Status::Indexed, Status::Failed];
    let found = all.into_iter().find(|status| status.as_str() == name);
    found.ok_or_else(|| Error::invalid("/status", "status must be processing, indexed or failed"))
}

/// A user's file must never run as a page of this server: it is an attachment, its type is not guessed, and a browser
/// that shows it all the same keeps it in a sandbox.
fn content_headers(original: &Original) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let kind = HeaderValue::from_str(&original.media_type);
    headers.insert(CONTENT_TYPE, kind.unwrap_or(HeaderValue::from_static("application/octet-stream")));
    headers.insert(CONTENT_LENGTH, original.bytes.into());
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    let disposition = disposition(original.filename.as_deref().unwrap_or(original.record.document_id.as_str()));
    headers.insert(CONTENT_DISPOSITION, disposition.unwrap_or(HeaderValue::from_static("attachment")));
    headers
}

/// `attachment; filename*=UTF-8''…` (RFC 6266, RFC 8187).
fn disposition(filename: &str) -> Option<HeaderValue> {
    let mut value = String::from("attachment; filename*=UTF-8''");
    for byte in filename.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => value.push(char::from(byte)),
            _ => value.push_str(&format!("%{byte:02X}")),
        }
    }
    HeaderValue::from_str(&value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_cannot_break_out_of_its_header() {
        assert_eq!(disposition("a b.pdf").unwrap(), "attachment; filename*=UTF-8''a%20b.pdf");
        assert_eq!(disposition("ä\"\r\n;x").unwrap(), "attachment; filename*=UTF-8''%C3%A4%22%0D%0A%3Bx");
    }

    #[test]
    fn a_place_among_chunks_comes_back() {
        let position = ChunkPosition { version: 7, chunk_idx: 500 };
        assert_eq!(chunk_position(&chunk_cursor(position)).unwrap(), position);
        for wrong in ["500", ":", "7:", "7:-1", "7:5:0"] {
            let cursor = cursor::encode(Listing::Chunks, wrong);
            assert_eq!(chunk_position(&cursor).unwrap_err().pointer(), Some("/cursor"), "{wrong}");
        }
    }

    #[test]
    fn a_status_is_one_of_three() {
        assert_eq!(parse_status("failed").unwrap(), Status::Failed);
        assert_eq!(parse_status("Failed").unwrap_err().pointer(), Some("/status"));
    }
}
