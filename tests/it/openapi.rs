//! The committed OpenAPI description is the one that is served.

use std::path::Path;

/// `UPDATE_OPENAPI=1 cargo test --test it openapi` writes it anew.
#[test]
#[allow(clippy::disallowed_methods, reason = "the switch is the test's own")]
fn the_committed_description_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/openapi.json");
    let current = rag_api::http::openapi_json();
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(&path, &current).expect("tests/it is writable");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = committed.lines().zip(current.lines()).position(|(old, new)| old != new);
    assert!(
        committed == current,
        "tests/it/openapi.json differs from line {:?} on; if that is meant: UPDATE_OPENAPI=1 cargo test --test it openapi",
        differs.map(|line| line + 1)
    );
}

/// Every reference leads somewhere, so that generators can read the description.
#[test]
fn every_reference_is_there() {
    let described: serde_json::Value = serde_json::from_str(&rag_api::http::openapi_json()).expect("it is JSON");
    assert_eq!(described["openapi"], "3.1.0");
    let mut open = vec![&described];
    while let Some(value) = open.pop() {
        match value {
            serde_json::Value::Object(fields) => {
                if let Some(reference) = fields.get("$ref").and_then(|reference| reference.as_str()) {
                    let pointer = reference.strip_prefix('#').expect("references stay in the file");
                    assert!(described.pointer(pointer).is_some(), "{reference}");
                }
                open.extend(fields.values());
            }
            serde_json::Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
}

#[test]
fn guarded_routes_say_which_keys_and_errors_they_have() {
    let described: serde_json::Value = serde_json::from_str(&rag_api::http::openapi_json()).expect("it is JSON");
    let mut names = std::collections::BTreeSet::new();
    for route in rag_api::http::route_table() {
        let operation = &described["paths"][route.path][route.method.as_str().to_lowercase()];
        let public = route.access == rag_api::http::Access::Public;
        assert_eq!(operation["security"].is_null(), public, "{} {}", route.method, route.path);
        for status in ["401", "403", "422", "429", "500", "503", "504"] {
            let described = operation["responses"][status].is_object();
            assert!(described || public, "{} {}: {status}", route.method, route.path);
        }
        assert!(operation["summary"].is_string(), "{} {}", route.method, route.path);
        // Generators name their methods so.
        assert!(names.insert(operation["operationId"].to_string()), "{}", operation["operationId"]);
    }
}
