//! `/v1/keys`: make, list, look, change, revoke.

mod view;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;

use crate::document::TenantId;
use crate::error::Result;
use crate::http::cursor::{self, Listing};
use crate::http::extract::{Call, IdPath, Json, Params};
use crate::http::problem::{Problem, Refusal};
use crate::http::state::AppState;
use view::{CreatedKey, KeyChange, KeyList, KeyRequest, KeyView};

const DEFAULT_PAGE: u32 = 50;
const MAX_PAGE: u32 = 100;

/// List keys.
#[utoipa::path(
    get, path = "/v1/keys", tag = "keys", operation_id = "list_keys",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "50 by default"),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before"),
        ("tenant" = Option<String>, Query, description = "Another tenant, for the operator's key alone"),
    ),
    responses((status = 200, description = "By id, without their secrets", body = KeyList)),
)]
pub(super) async fn list(
    State(state): State<AppState>,
    call: Call,
    mut params: Params,
) -> Result<Answer<KeyList>, Refusal> {
    let limit = params.take_limit(DEFAULT_PAGE, MAX_PAGE)?;
    let after = params.take("cursor")?.map(|text| cursor::decode(Listing::Keys, &text)).transpose()?;
    let tenant = managed_tenant(&state, &call, params)?;
    // One more than asked for tells whether there is a next page.
    let mut records = state.services.keys.list(&tenant, after.as_deref(), limit + 1).await?;
    let more = records.len() > limit as usize;
    records.truncate(limit as usize);
    let next_cursor = records.last().filter(|_| more).map(|last| cursor::encode(Listing::Keys, &last.id));
    Ok(Answer(KeyList { keys: records.into_iter().map(KeyView::from).collect(), next_cursor }))
}

/// Make a key. Its secret is in this answer and nowhere else.
#[utoipa::path(
    post, path = "/v1/keys", tag = "keys", operation_id = "create_key",
    request_body = KeyRequest,
    responses(
        (status = 201, description = "The key, with its secret", body = CreatedKey),
        (status = 404, description = "Another tenant, and not the operator's key", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn create(
    State(state): State<AppState>,
    call: Call,
    Json(mut request): Json<KeyRequest>,
) -> Result<(StatusCode, Answer<CreatedKey>), Refusal> {
    let tenant = state.services.keys.managed_tenant(&call.identity, request.tenant.take())?;
    let (record, secret) = state.services.keys.create(request.new_key(tenant)).await?;
    tracing::info!(key_id = record.id, by = call.identity.key_id, "key created");
    Ok((StatusCode::CREATED, Answer(CreatedKey::new(record, &secret))))
}

/// Look at a key.
#[utoipa::path(
    get, path = "/v1/keys/{id}", tag = "keys", operation_id = "get_key",
    params(
        ("id" = String, Path, description = "The key's id"),
        ("tenant" = Option<String>, Query, description = "Another tenant, for the operator's key alone"),
    ),
    responses(
        (status = 200, description = "The key, without its secret", body = KeyView),
        (status = 404, description = "There is none", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn get(
    State(state): State<AppState>,
    call: Call,
    IdPath(id): IdPath,
    params: Params,
) -> Result<Answer<KeyView>, Refusal> {
    let tenant = managed_tenant(&state, &call, params)?;
    Ok(Answer(state.services.keys.get(&tenant, &id).await?.into()))
}

/// Change a key's name, groups, scopes, expiry, or whether it works.
#[utoipa::path(
    patch, path = "/v1/keys/{id}", tag = "keys", operation_id = "change_key",
    params(
        ("id" = String, Path, description = "The key's id"),
        ("tenant" = Option<String>, Query, description = "Another tenant, for the operator's key alone"),
    ),
    request_body = KeyChange,
    responses(
        (status = 200, description = "The changed key", body = KeyView),
        (status = 404, description = "There is none", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn patch(
    State(state): State<AppState>,
    call: Call,
    IdPath(id): IdPath,
    params: Params,
    Json(change): Json<KeyChange>,
) -> Result<Answer<KeyView>, Refusal> {
    let tenant = managed_tenant(&state, &call, params)?;
    let record = state.services.keys.update(&tenant, &id, change.checked()?).await?;
    tracing::info!(key_id = record.id, by = call.identity.key_id, "key changed");
    Ok(Answer(record.into()))
}

/// Revoke a key for good; it stops working everywhere within 5 s.
#[utoipa::path(
    delete, path = "/v1/keys/{id}", tag = "keys", operation_id = "revoke_key",
    params(
        ("id" = String, Path, description = "The key's id"),
        ("tenant" = Option<String>, Query, description = "Another tenant, for the operator's key alone"),
    ),
    responses(
        (status = 204, description = "Revoked"),
        (status = 404, description = "There is none", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn delete(
    State(state): State<AppState>,
    call: Call,
    IdPath(id): IdPath,
    params: Params,
) -> Result<StatusCode, Refusal> {
    let tenant = managed_tenant(&state, &call, params)?;
    state.services.keys.revoke(&tenant, &id).await?;
    tracing::info!(key_id = id, by = call.identity.key_id, "key revoked");
    Ok(StatusCode::NO_CONTENT)
}

/// The tenant whose keys are meant: the caller's own, or `?tenant=`.
fn managed_tenant(state: &AppState, call: &Call, mut params: Params) -> Result<TenantId> {
    let requested = params.take("tenant")?.map(|name| name.parse()).transpose()?;
    params.finish()?;
    state.services.keys.managed_tenant(&call.identity, requested)
}
