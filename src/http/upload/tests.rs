use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use futures::TryStreamExt;

use super::*;
use crate::ingest::validate::{MAX_READERS, MAX_TITLE};

const LIMIT: u64 = 100;

fn json_request(json: &str) -> Request {
    Request::builder().header(CONTENT_TYPE, "application/json").body(Body::from(json.to_owned())).unwrap()
}

/// A form of (name, file name, content).
fn form(parts: &[(&str, Option<&str>, &str)]) -> Request {
    let mut body = String::new();
    for (name, filename, content) in parts {
        let filename =
            filename.map_or_else(String::new, |name| format!("; filename=\"{name}\"\r\nContent-Type: text/x"));
        body.push_str(&format!(
            "--B\r\nContent-Disposition: form-data; name=\"{name}\"{filename}\r\n\r\n{content}\r\n"
        ));
    }
    body.push_str("--B--\r\n");
    Request::builder().header(CONTENT_TYPE, "multipart/form-data; boundary=B").body(Body::from(body)).unwrap()
}

async fn content(upload: &Upload) -> String {
    let pieces: Vec<Bytes> = upload.content.stream().try_collect().await.unwrap();
    String::from_utf8(pieces.concat()).unwrap()
}

async fn wrong_at(request: Request) -> String {
    match read(request, LIMIT).await {
        Err(Refusal::Failed(error)) => error.pointer().unwrap_or("none").to_owned(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_text_is_an_upload() {
    let mut request = json_request(r#"{"text": "ä", "document_id": "d-1", "readers": ["group:x"]}"#);
    request.headers_mut().insert(IDEMPOTENCY_KEY, HeaderValue::from_static("once"));
    let Uploads { uploads, idempotency_key } = read(request, LIMIT).await.unwrap();
    assert_eq!((uploads.len(), idempotency_key.as_deref()), (1, Some("once")));
    assert_eq!(content(&uploads[0]).await, "ä");
    assert_eq!(uploads[0].document_id.as_ref().unwrap().as_str(), "d-1");
    assert_eq!(uploads[0].readers.as_ref().unwrap()[0].as_str(), "group:x");
}

#[tokio::test]
async fn a_wrong_text_names_its_field() {
    assert_eq!(wrong_at(json_request(r#"{"text": "a", "document_id": "a b"}"#)).await, "/document_id");
    assert_eq!(wrong_at(json_request(r#"{"text": "a", "readers": ["public", "x"]}"#)).await, "/readers/1");
    assert_eq!(wrong_at(json_request(r#"{"text": " \n"}"#)).await, "/text");
    assert_eq!(wrong_at(json_request(r#"{"txt": "a"}"#)).await, "/txt");
    assert_eq!(wrong_at(json_request(r#"{"title": "a"}"#)).await, "/text");
}

#[tokio::test]
async fn a_form_holds_files_and_their_fields() {
    let request = form(&[
        ("file", Some("a.txt"), "one"),
        ("title", None, "T"),
        ("file", Some("b.txt"), "two"),
        ("metadata", None, r#"{"year": 2024}"#),
        ("readers", None, "group:a, public"),
        ("readers", None, r#"["user:b"]"#),
    ]);
    let uploads = read(request, LIMIT).await.unwrap().uploads;
    let names: Vec<_> = uploads.iter().map(|upload| upload.filename.as_deref().unwrap()).collect();
    assert_eq!(names, ["a.txt", "b.txt"]);
    assert_eq!(content(&uploads[1]).await, "two");
    for upload in &uploads {
        assert_eq!(upload.title.as_deref(), Some("T"));
        assert_eq!(upload.media_type.as_deref(), Some("text/x"));
        assert_eq!(upload.metadata.as_ref().unwrap()["year"], 2024);
        let readers: Vec<_> = upload.readers.as_ref().unwrap().iter().map(Principal::as_str).collect();
        assert_eq!(readers, ["group:a", "public", "user:b"]);
    }
}

#[tokio::test]
async fn a_wrong_form_names_its_field() {
    let file = ("file", Some("a"), "x");
    assert_eq!(wrong_at(form(&[("title", None, "t")])).await, "/file");
    assert_eq!(wrong_at(form(&[file, ("colour", None, "red")])).await, "/colour");
    assert_eq!(wrong_at(form(&[file, ("metadata", None, "[1]")])).await, "/metadata");
    assert_eq!(wrong_at(form(&[file, ("title", None, "a"), ("title", None, "b")])).await, "/title");
    assert_eq!(wrong_at(form(&[file, ("readers", None, "nobody")])).await, "/readers");
    let names = "public,".repeat(MAX_READERS / 2 + 1);
    let many = ("readers", None, names.as_str());
    assert_eq!(wrong_at(form(&[file, many, many])).await, "/readers");
    assert_eq!(wrong_at(form(&[file, ("document_id", None, "a/b")])).await, "/document_id");
    assert_eq!(wrong_at(form(&[file, file, ("document_id", None, "d")])).await, "/document_id");
}

#[tokio::test]
async fn too_large_is_413() {
    let large = "x".repeat(LIMIT as usize + 1);
    assert!(matches!(
        read(form(&[("file", Some("a"), "fits"), ("file", Some("b"), &large)]), LIMIT).await,
        Err(Refusal::BodyTooLarge(LIMIT))
    ));
    let json = format!(r#"{{"text": "{large}"}}"#);
    assert!(matches!(read(json_request(&json), LIMIT).await, Err(Refusal::BodyTooLarge(LIMIT))));
}

#[tokio::test]
async fn other_bodies_are_refused() {
    let request = |kind: &str, body: &str| {
        Request::builder().header(CONTENT_TYPE, kind).body(Body::from(body.to_owned())).unwrap()
    };
    for kind in ["text/plain", "application/pdf", "multipart/mixed; boundary=B", ""] {
        let refused = read(request(kind, "x"), LIMIT).await;
        assert!(matches!(refused, Err(Refusal::UnsupportedMediaType(_))), "{kind}: {refused:?}");
    }
    let cut = "--B\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nx";
    let refused = read(request("multipart/form-data; boundary=B", cut), LIMIT).await;
    assert!(matches!(refused, Err(Refusal::Malformed(_))), "{refused:?}");
    let refused = read(request("multipart/form-data", "x"), LIMIT).await;
    assert!(matches!(refused, Err(Refusal::Malformed(_))), "{refused:?}");
}

#[test]
fn a_file_name_is_only_ever_shown() {
    assert_eq!(display_name("report.pdf").as_deref(), Some("report.pdf"));
    assert_eq!(display_name("../../etc/passwd").as_deref(), Some("passwd"));
    assert_eq!(display_name("C:\\docs\\a.docx").as_deref(), Some("a.docx"));
    assert_eq!(display_name("in\u{202e}fdp.exe\r\n").as_deref(), Some("infdp.exe"));
    assert_eq!(display_name("报告.pdf").as_deref(), Some("报告.pdf"));
    assert_eq!(display_name(&"ä".repeat(300)).unwrap().len(), 254);
    for nothing in ["", "..", "a/", " ", "\u{0}"] {
        assert_eq!(display_name(nothing), None, "{nothing:?}");
    }
}

#[test]
fn a_declared_type_must_be_one() {
    assert_eq!(declared_type("Application/PDF; x=y").as_deref(), Some("application/pdf"));
    for nothing in ["", "pdf", "application/octet-stream", "text/ht ml", "a/b/c"] {
        assert_eq!(declared_type(nothing), None, "{nothing}");
    }
}

#[test]
fn the_description_names_the_limits_that_hold() {
    let described: serde_json::Value = serde_json::from_str(&crate::http::openapi_json()).unwrap();
    for schema in ["TextUpload", "DocumentPatch"] {
        let fields = &described["components"]["schemas"][schema]["properties"];
        assert_eq!(fields["readers"]["maxItems"], MAX_READERS, "{schema}");
        assert_eq!(fields["title"]["maxLength"], MAX_TITLE, "{schema}");
    }
}
