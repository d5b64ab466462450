//! The one table of routes. The router is built from it, OpenAPI's security and common errors too, and the access test
//! reads it.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodFilter, MethodRouter, on};
use tower_http::catch_panic::CatchPanicLayer;

use crate::catalog::KeyScope;
use crate::http::address::AddressLimit;
use crate::http::guard::{self, Post};
use crate::http::problem::Refusal;
use crate::http::state::AppState;
use crate::http::{documents, keys, observe, operations, query};

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody, without a key.
    Public,
    /// A key with this scope, or with the admin scope.
    Scope(KeyScope),
}

/// Which limits a route counts against: the key's bucket, and the places of the class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitClass {
    /// Questions and searches.
    Query,
    /// All that has to do with documents.
    Ingest,
    /// Keys.
    Admin,
    /// No limit, of the client's address neither: the route must answer when nothing else does.
    None,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteInfo {
    /// Its method.
    pub method: Method,
    /// Its path, with parameters as `{name}`.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    /// Which limits it counts against.
    pub class: LimitClass,
}

/// Every route that is served.
pub fn route_table() -> Vec<RouteInfo> {
    table().into_iter().map(|route| route.info).collect()
}

/// A class's name in buckets and metrics.
pub(super) fn class_name(class: LimitClass) -> &'static str {
    match class {
        LimitClass::Query => "query",
        LimitClass::Ingest => "ingest",
        LimitClass::Admin => "admin",
        LimitClass::None => "none",
    }
}

const METRICS_PATH: &str = "/metrics";

/// Whether a route is called by machines every few seconds.
pub(super) fn is_probe(path: &str) -> bool {
    matches!(path, "/health" | "/ready" | METRICS_PATH)
}

struct Route {
    info: RouteInfo,
    handler: MethodRouter<AppState>,
}

fn table() -> Vec<Route> {
    use Access::{Public, Scope};
    use KeyScope as Key;
    use LimitClass as Class;
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    const PUT: Method = Method::PUT;
    const PATCH: Method = Method::PATCH;
    const DELETE: Method = Method::DELETE;
    vec![
        route(POST, "/v1/query", Scope(Key::Query), Class::Query, query::query),
        route(POST, "/v1/search", Scope(Key::Query), Class::Query, query::search),
        route(POST, "/v1/documents", Scope(Key::Ingest), Class::Ingest, documents::upload),
        route(GET, "/v1/documents", Scope(Key::Ingest), Class::Ingest, documents::list),
        route(GET, "/v1/documents/{id}", Scope(Key::Ingest), Class::Ingest, documents::get),
        route(PUT, "/v1/documents/{id}", Scope(Key::Ingest), Class::Ingest, documents::put),
        route(PATCH, "/v1/documents/{id}", Scope(Key::Ingest), Class::Ingest, documents::patch),
        route(DELETE, "/v1/documents/{id}", Scope(Key::Ingest), Class::Ingest, documents::delete),
        route(GET, "/v1/documents/{id}/content", Scope(Key::Query), Class::Ingest, documents::content),
        route(GET, "/v1/documents/{id}/chunks", Scope(Key::Query), Class::Ingest, documents::chunks),
        route(POST, "/v1/documents/{id}/retry", Scope(Key::Ingest), Class::Ingest, documents::retry),
        route(GET, "/v1/keys", Scope(Key::Admin), Class::Admin, keys::list),
        route(POST, "/v1/keys", Scope(Key::Admin), Class::Admin, keys::create),
        route(GET, "/v1/keys/{id}", Scope(Key::Admin), Class::Admin, keys::get),
        route(PATCH, "/v1/keys/{id}", Scope(Key::Admin), Class::Admin, keys::patch),
        route(DELETE, "/v1/keys/{id}", Scope(Key::Admin), Class::Admin, keys::delete),
        route(GET, "/health", Public, Class::None, operations::health),
        route(GET, "/ready", Public, Class::None, operations::ready),
        route(GET, METRICS_PATH, Public, Class::None, operations::metrics),
        route(GET, "/openapi.json", Public, Class::None, operations::openapi),
        route(GET, "/docs", Public, Class::None, operations::docs),
        route(GET, "/docs/{file}", Public, Class::None, operations::docs_file),
    ]
}

fn route<H, T>(method: Method, path: &'static str, access: Access, class: LimitClass, handler: H) -> Route
where
    H: Handler<T, AppState>,
    T: 'static,
{
    // The table holds standard methods only.
    let filter = MethodFilter::try_from(method.clone()).unwrap_or(MethodFilter::GET);
    Route { info: RouteInfo { method, path, access, class }, handler: on(filter, handler) }
}

/// The router of the API's listener. `/metrics` is on it unless it has a listener of its own.
pub(super) fn api_router(state: &AppState, address_limit: Option<&AddressLimit>) -> Router {
    let own_metrics = state.config.metrics_listen.is_some();
    let routes = table().into_iter().filter(|route| !(own_metrics && route.info.path == METRICS_PATH));
    let mut router = Router::new();
    for Route { info, handler } in routes {
        router = router.route(info.path, guarded(handler, &info, state, address_limit));
    }
    finish(router).with_state(state.clone())
}

/// The router of the metrics' own listener.
pub(super) fn metrics_router(state: &AppState) -> Router {
    let router = Router::new();
    let router = router.route(METRICS_PATH, on(MethodFilter::GET, operations::metrics));
    let router = router.route("/health", on(MethodFilter::GET, operations::health));
    let router = router.route("/ready", on(MethodFilter::GET, operations::ready));
    finish(router).with_state(state.clone())
}

/// The layers of every route; a later one stands outside of an earlier one.
fn finish(router: Router<AppState>) -> Router<AppState> {
    router
        .fallback(async || Refusal::NoRoute)
        .method_not_allowed_fallback(async || Refusal::MethodNotAllowed)
        // Every body is read with a limit of its own.
        .layer(DefaultBodyLimit::disable())
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(observe::observe))
}

/// The guards of a route, in the order of the contract: address, then (deadline,) key, the key's limit, shedding. A later
/// layer stands outside of an earlier one, hence the reverse.
fn guarded(
    handler: MethodRouter<AppState>,
    info: &RouteInfo,
    state: &AppState,
    address_limit: Option<&AddressLimit>,
) -> MethodRouter<AppState> {
    let Access::Scope(scope) = info.access else { return handler };
    let post = Arc::new(Post { state: state.clone(), scope, class: info.class });
    let handler = handler.route_layer(from_fn_with_state(post, guard::guard));
    match address_limit {
        Some(limit) => handler.route_layer(limit.layer()),
        None => handler,
    }
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> axum::response::Response {
    // The panic hook has logged the message and the place.
    axum::response::IntoResponse::into_response(Refusal::Panicked)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_and_openapi_name_the_same_routes() {
        let ours: BTreeSet<String> = route_table()
            .iter()
            .map(|route| format!("{} {}", route.method.as_str().to_lowercase(), route.path))
            .collect();
        let described: serde_json::Value = serde_json::from_str(&crate::http::openapi_json()).unwrap();
        let mut theirs = BTreeSet::new();
        for (path, methods) in described["paths"].as_object().unwrap() {
            theirs.extend(methods.as_object().unwrap().keys().map(|method| format!("{method} {path}")));
        }
        assert_eq!(ours, theirs);
    }

    #[test]
    fn no_route_stands_twice() {
        let routes = route_table();
        let unique: BTreeSet<_> = routes.iter().map(|route| (route.method.as_str(), route.path)).collect();
        assert_eq!(unique.len(), routes.len());
    }

    #[test]
    fn what_has_a_scope_has_limits_and_nothing_else_has() {
        for route in route_table() {
            assert_eq!(route.access == Access::Public, route.class == LimitClass::None, "{}", route.path);
            assert_eq!(route.path.starts_with("/v1/"), route.access != Access::Public, "{}", route.path);
        }
    }
}
