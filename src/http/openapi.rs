//! The OpenAPI 3.1 description, from the handlers' annotations and the table of routes.

use axum::http::Method;
use utoipa::openapi::path::{HttpMethod, Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, SchemaFormat, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, ObjectBuilder, OpenApi as Description, Ref, RefOr, Required, Response, ResponseBuilder,
    SecurityRequirement,
};
use utoipa::{Modify, OpenApi};

use crate::http::problem::{Problem, scope_name};
use crate::http::routes::{Access, RouteInfo, route_table};
use crate::http::{documents, guard, keys, operations, query};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "rag-api",
        description = "Answers questions over a company's documents, with citations, and shows only what the caller may \
            read. Every response carries `x-request-id`; text offsets count Unicode scalar values; errors are \
            `application/problem+json` (RFC 9457).",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "questions", description = "Ask and search"),
        (name = "documents", description = "Upload and manage documents"),
        (name = "keys", description = "Manage keys"),
        (name = "operations", description = "Health, metrics and this description"),
    ),
    paths(
        query::query, query::search,
        documents::upload, documents::list, documents::get, documents::put, documents::patch, documents::delete,
        documents::content, documents::chunks, documents::retry,
        keys::list, keys::create, keys::get, keys::patch, keys::delete,
        operations::health, operations::ready, operations::metrics, operations::openapi, operations::docs,
        operations::docs_file,
    ),
    components(schemas(Problem)),
    modifiers(&FromTable),
)]
struct ApiDoc;

/// The description as pretty JSON, ending in a line break, as it is committed.
pub fn openapi_json() -> String {
    // A description made of structs always serialises.
    let mut json = ApiDoc::openapi().to_pretty_json().unwrap_or_default();
    json.push('\n');
    json
}

/// Adds what the table of routes knows of every route: keys, limits, deadlines and their errors.
struct FromTable;

impl Modify for FromTable {
    fn modify(&self, openapi: &mut Description) {
        let components = openapi.components.get_or_insert_default();
        components
            .add_security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key"))));
        components.add_security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
        for route in route_table() {
            let Some(path) = openapi.paths.paths.get_mut(route.path) else { continue };
            let operation = match http_method(&route.method) {
                HttpMethod::Post => &mut path.post,
                HttpMethod::Put => &mut path.put,
                HttpMethod::Patch => &mut path.patch,
                HttpMethod::Delete => &mut path.delete,
                _ => &mut path.get,
            };
            if let Some(operation) = operation {
                describe(operation, &route);
            }
        }
    }
}

fn http_method(method: &Method) -> HttpMethod {
    match method.as_str() {
        "POST" => HttpMethod::Post,
        "PUT" => HttpMethod::Put,
        "PATCH" => HttpMethod::Patch,
        "DELETE" => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }
}

fn describe(operation: &mut Operation, route: &RouteInfo) {
    let Access::Scope(scope) = route.access else { return };
    let either = ["api_key", "bearer"].map(|scheme| SecurityRequirement::new(scheme, Vec::<String>::new()));
    operation.security = Some(either.into());
    let parameters = operation.parameters.get_or_insert_default();
    parameters.insert(0, header("x-request-id", "Taken over into the response and the log", Type::String));
    parameters.insert(1, header(guard::TIMEOUT.as_str(), "Shortens the deadline of the request", Type::Integer));
    let forbidden = format!("The key is unknown, revoked or expired, or lacks the scope `{}`", scope_name(scope));
    let takes_input =
        operation.request_body.is_some() || operation.parameters.as_ref().is_some_and(|all| all.len() > 2);
    let common = [
        ("400", "It cannot be read", takes_input),
        ("401", "No key was sent", true),
        ("403", &*forbidden, true),
        ("422", "It can be read and is wrong; `errors` names the field", true),
        ("429", "Over the limit of the key or of the client's address; see `Retry-After` and `RateLimit-*`", true),
        ("500", "A defect of the server", true),
        ("503", "The server is busy or a dependency is down; see `Retry-After`", true),
        ("504", "The deadline passed", true),
    ];
    for (status, description, _) in common.into_iter().filter(|(_, _, applies)| *applies) {
        operation.responses.responses.entry(status.to_owned()).or_insert_with(|| problem(description));
    }
}

fn problem(description: &str) -> RefOr<Response> {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    RefOr::T(ResponseBuilder::new().description(description).content("application/problem+json", content).build())
}

fn header(name: &str, description: &str, kind: Type) -> RefOr<Parameter> {
    let mut schema = ObjectBuilder::new().schema_type(kind.clone());
    if kind == Type::Integer {
        schema = schema.format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64))).minimum(Some(1));
    }
    let parameter = ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema));
    RefOr::T(parameter.build())
}
