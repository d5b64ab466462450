//! `/v1/documents`.

use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use super::{problem, raw};
use crate::support::TestApp;

fn file(name: &str, text: &str) -> Part {
    Part::bytes(text.as_bytes().to_vec()).file_name(name.to_owned()).mime_str("text/plain").expect("a media type")
}

async fn upload(app: &TestApp, form: Form) -> (u16, Value) {
    let request = app.request(&app.admin_key, Method::POST, "/v1/documents").multipart(form);
    let response = request.send().await.expect("a response");
    (response.status().as_u16(), response.json().await.expect("JSON"))
}

#[tokio::test]
async fn a_document_goes_in_is_shown_and_goes() {
    let app = TestApp::start().await;
    let body = json!({
        "text": "Invoices are kept for ten years.", "title": "Retention", "metadata": {"year": 2024},
        "readers": ["group:finance"], "document_id": "retention"
    });
    let (status, submitted) = app.post(&app.admin_key, "/v1/documents", &body).await;
    assert_eq!(status, 202);
    assert_eq!(submitted, json!({"document_id": "retention", "status": "processing", "version": 1}));
    let record = app.settled(&app.admin_key, "retention").await;
    assert_eq!(record["status"], "indexed", "{record}");
    assert_eq!((&record["title"], &record["metadata"]["year"]), (&json!("Retention"), &json!(2024)));
    assert_eq!((&record["version"], &record["chunks"], &record["error"]), (&json!(1), &json!(1), &Value::Null));
    assert_eq!(record["bytes"], 32);
    assert!(record["readers"].as_array().expect("readers").contains(&json!("group:finance")), "{record}");
    for field in ["filename", "media_type", "sha256", "stage", "progress", "attempts", "created_at", "updated_at"] {
        assert!(record.get(field).is_some(), "{field}");
    }

    let (_, chunks) = app.get(&app.admin_key, "/v1/documents/retention/chunks").await;
    let expected = json!({"id": "retention_0", "chunk_idx": 0, "text": "Invoices are kept for ten years.",
        "page": null, "start": 0, "end": 32});
    assert_eq!(chunks, json!({"chunks": [expected], "next_cursor": null}));

    let patch = json!({"title": "Retention policy"});
    let (status, changed) = app.send(&app.admin_key, Method::PATCH, "/v1/documents/retention", &patch).await;
    assert_eq!((status, &changed["title"]), (200, &json!("Retention policy")));

    assert_eq!(app.send(&app.admin_key, Method::DELETE, "/v1/documents/retention", &Value::Null).await.0, 204);
    assert_eq!(app.get(&app.admin_key, "/v1/documents/retention").await.0, 404);
}

#[tokio::test]
async fn a_form_of_several_files_makes_several_documents() {
    let app = TestApp::start().await;
    let form = Form::new()
        .part("file", file("a.txt", "First."))
        .part("file", file("b.txt", "Second."))
        .text("readers", "public");
    let (status, submitted) = upload(&app, form).await;
    assert_eq!(status, 202, "{submitted}");
    let ids: Vec<&str> = submitted["documents"]
        .as_array()
        .expect("documents")
        .iter()
        .map(|d| d["document_id"].as_str().expect("an id"))
        .collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(app.get(&app.admin_key, &format!("/v1/documents/{}", ids[1])).await.1["filename"], "b.txt");
    let (status, one) = upload(&app, Form::new().part("file", file("../../c.txt", "Third."))).await;
    assert_eq!(status, 202, "{one}");
    let path = format!("/v1/documents/{}", one["document_id"].as_str().expect("an id"));
    assert_eq!(app.get(&app.admin_key, &path).await.1["filename"], "c.txt");
}

#[tokio::test]
async fn putting_the_same_again_changes_nothing() {
    let app = TestApp::start().await;
    let put =
        async |text: &str| app.send(&app.admin_key, Method::PUT, "/v1/documents/policy", &json!({"text": text})).await;
    let (status, first) = put("Ten years.").await;
    assert_eq!((status, &first["version"]), (202, &json!(1)));
    app.settled(&app.admin_key, "policy").await;
    let (status, same) = put("Ten years.").await;
    assert_eq!((status, &same["status"], &same["version"]), (200, &json!("indexed"), &json!(1)));
    let (status, second) = put("Twelve years.").await;
    assert_eq!((status, &second["version"]), (202, &json!(2)));
    let other = json!({"text": "x", "document_id": "other"});
    assert_eq!(app.send(&app.admin_key, Method::PUT, "/v1/documents/policy", &other).await.0, 422);
    let twice = Form::new().part("file", file("a", "1")).part("file", file("b", "2"));
    let request = app.request(&app.admin_key, Method::PUT, "/v1/documents/policy").multipart(twice);
    assert_eq!(problem(request.send().await.expect("a response"), 422).await.as_deref(), Some("/file"));
}

/// Posts files with an `Idempotency-Key`.
async fn post_once(app: &TestApp, key: &str, texts: &[&str]) -> reqwest::Response {
    let form = texts.iter().fold(Form::new(), |form, text| form.part("file", file("a.txt", text)));
    let request = app.request(&app.admin_key, Method::POST, "/v1/documents").header("idempotency-key", key);
    request.multipart(form).send().await.expect("a response")
}

#[tokio::test]
async fn an_idempotency_key_is_for_a_whole_body() {
    let app = TestApp::start().await;
    let post = async |key: &str, texts: &[&str]| post_once(&app, key, texts).await.json::<Value>().await.expect("JSON");
    let one = post("one", &["Ten years."]).await;
    assert_eq!(post("one", &["Ten years."]).await["document_id"], one["document_id"]);
    problem(post_once(&app, "one", &["Twelve years."]).await, 409).await;
    problem(post_once(&app, "one", &["Ten years.", "Twelve years."]).await, 409).await;

    let ids = |answer: &Value| -> Vec<String> {
        let documents = answer["documents"].as_array().expect("documents").iter();
        documents.map(|document| document["document_id"].as_str().expect("an id").to_owned()).collect()
    };
    let two = post("two", &["A.", "B."]).await;
    assert_eq!(ids(&post("two", &["A.", "B."]).await), ids(&two));
    problem(post_once(&app, "two", &["A."]).await, 409).await;
    problem(post_once(&app, "two", &["B.", "A."]).await, 409).await;
    // A key of the client's that looks like a part's name is a key of its own.
    let own = post("two#2", &["B."]).await;
    assert!(!ids(&two).contains(&own["document_id"].as_str().expect("an id").to_owned()), "{own}");
    let (_, list) = app.get(&app.admin_key, "/v1/documents").await;
    assert_eq!(list["documents"].as_array().expect("documents").len(), 4);
}

#[tokio::test]
async fn a_request_that_was_cut_off_goes_on_when_it_comes_again() {
    let app = TestApp::start().await;
    app.index(&app.admin_key, &json!({"text": "Ten years.", "document_id": "rule"})).await;
    let post = async || {
        let request = app.request(&app.admin_key, Method::POST, "/v1/documents").header("idempotency-key", "k");
        request.json(&json!({"text": "Twelve years.", "document_id": "rule"})).send().await.expect("a response")
    };
    // No original can be stored, so the request fails after its key was noted.
    let (originals, aside) = (app.data().join("originals"), app.data().join("aside"));
    std::fs::rename(&originals, &aside).expect("moved");
    std::fs::write(&originals, "no folder").expect("written");
    problem(post().await, 503).await;
    std::fs::remove_file(&originals).expect("removed");
    std::fs::rename(&aside, &originals).expect("moved back");

    let response = post().await;
    assert_eq!(response.status(), 202);
    assert_eq!(response.json::<Value>().await.expect("JSON")["version"], 2);
    app.settled(&app.admin_key, "rule").await;
    let content = app.request(&app.admin_key, Method::GET, "/v1/documents/rule/content").send().await;
    assert_eq!(content.expect("a response").text().await.expect("text"), "Twelve years.");
    // Once it is done it is not done again, whatever became of the document.
    app.send(&app.admin_key, Method::PUT, "/v1/documents/rule", &json!({"text": "Six years."})).await;
    assert_eq!(post().await.json::<Value>().await.expect("JSON")["version"], 3);
    assert_eq!(app.send(&app.admin_key, Method::DELETE, "/v1/documents/rule", &Value::Null).await.0, 204);
    problem(post().await, 404).await;
}

#[tokio::test]
async fn an_idempotency_key_opens_no_foreign_document() {
    let app = TestApp::start().await;
    let [ada, eve] = [app.create_key("ada", &[], &["ingest"]).await, app.create_key("eve", &[], &["ingest"]).await];
    app.index(&ada, &json!({"text": "Ada's secret.", "document_id": "hers"})).await;
    let body = json!({"text": "Mine.", "document_id": "hers"});
    for _ in 0..3 {
        let request = app.request(&eve, Method::POST, "/v1/documents").header("idempotency-key", "k").json(&body);
        problem(request.send().await.expect("a response"), 404).await;
    }
    let (_, record) = app.get(&ada, "/v1/documents/hers").await;
    assert_eq!(record["version"], 1);
}

#[tokio::test]
async fn the_same_bytes_with_other_attributes_are_no_new_version() {
    let app = TestApp::start().await;
    let bob = app.create_key("bob", &[], &["query", "ingest"]).await;
    let long = "x".repeat(500);
    let body = |readers: Value| json!({"text": "The gate closes at nine.", "title": long, "readers": readers});
    let put = async |readers| app.send(&app.admin_key, Method::PUT, "/v1/documents/gate", &body(readers)).await;
    assert_eq!(put(json!([])).await.0, 202);
    app.settled(&app.admin_key, "gate").await;
    let search = async || {
        let (status, found) = app.post(&bob, "/v1/search", &json!({"query": "when does the gate close"})).await;
        assert_eq!(status, 200, "{found}");
        found["sources"].clone()
    };
    assert_eq!(search().await, json!([]));
    let (status, same) = put(json!(["user:bob"])).await;
    assert_eq!((status, same), (200, json!({"document_id": "gate", "status": "indexed", "version": 1})));
    // The next question sees it, with the whole title.
    assert_eq!(search().await[0]["title"], long);
    assert_eq!(put(json!([])).await.0, 200);
    assert_eq!(search().await, json!([]));
    assert_eq!(app.get(&bob, "/v1/documents/gate").await.0, 404);
    let (_, record) = app.get(&app.admin_key, "/v1/documents/gate").await;
    assert_eq!((&record["version"], &record["attempts"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn a_document_has_so_many_readers() {
    let app = TestApp::start().await;
    let readers: Vec<String> = (0..257).map(|n| format!("user:u{n}")).collect();
    let post = async |readers: &[String]| {
        let body = json!({"text": "x", "readers": readers}).to_string();
        raw(&app, Method::POST, "/v1/documents", "application/json", body).await
    };
    assert_eq!(post(&readers[..256]).await.status(), 202);
    assert_eq!(problem(post(&readers).await, 422).await.as_deref(), Some("/readers"));
}

#[tokio::test]
async fn pages_of_chunks_are_of_one_version() {
    let app = TestApp::start().await;
    let text = |edition: u32| format!("Edition {edition} speaks of invoices and ledgers at length.\n\n").repeat(120);
    app.index(&app.admin_key, &json!({"text": text(1), "document_id": "a"})).await;
    let (_, first) = app.get(&app.admin_key, "/v1/documents/a/chunks?limit=1").await;
    let next = format!("/v1/documents/a/chunks?limit=1&cursor={}", first["next_cursor"].as_str().expect("a cursor"));
    // A change of attributes is no new version.
    let patch = json!({"title": "Ledgers"});
    assert_eq!(app.send(&app.admin_key, Method::PATCH, "/v1/documents/a", &patch).await.0, 200);
    assert_eq!(app.get(&app.admin_key, &next).await.1["chunks"][0]["chunk_idx"], 1);
    app.send(&app.admin_key, Method::PUT, "/v1/documents/a", &json!({"text": text(2)})).await;
    app.settled(&app.admin_key, "a").await;
    let response = app.request(&app.admin_key, Method::GET, &next).send().await.expect("a response");
    assert_eq!(problem(response, 422).await.as_deref(), Some("/cursor"));
}

#[tokio::test]
async fn the_original_comes_back_as_an_attachment() {
    let app = TestApp::start().await;
    let page = "<script>alert(1)</script><p>Ten years.</p>";
    let part = Part::text(page).file_name("Fälle.html").mime_str("text/html").expect("a media type");
    let (_, submitted) = upload(&app, Form::new().part("file", part).text("document_id", "page")).await;
    assert_eq!(submitted["document_id"], "page", "{submitted}");
    let response =
        app.request(&app.admin_key, Method::GET, "/v1/documents/page/content").send().await.expect("a response");
    assert_eq!(response.status(), 200);
    let headers = response.headers().clone();
    assert_eq!(headers["content-type"], "text/html");
    assert_eq!(headers["content-disposition"], "attachment; filename*=UTF-8''F%C3%A4lle.html");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["content-security-policy"], "default-src 'none'; sandbox");
    assert_eq!(headers["content-length"], page.len().to_string());
    assert_eq!(response.text().await.expect("text"), page);
}

#[tokio::test]
async fn foreign_and_missing_look_the_same() {
    let app = TestApp::start().await;
    let ada = app.create_key("ada", &[], &["query", "ingest"]).await;
    let eve = app.create_key("eve", &[], &["query", "ingest"]).await;
    app.index(&ada, &json!({"text": "Ada's secret.", "document_id": "hers"})).await;
    let tries = [
        (Method::GET, "", Value::Null),
        (Method::GET, "/content", Value::Null),
        (Method::GET, "/chunks", Value::Null),
        (Method::PATCH, "", json!({"title": "mine"})),
        (Method::DELETE, "", Value::Null),
        (Method::POST, "/retry", Value::Null),
    ];
    for (method, suffix, body) in tries {
        let ask = async |id: &str| app.send(&eve, method.clone(), &format!("/v1/documents/{id}{suffix}"), &body).await;
        let (foreign, missing) = (ask("hers").await, ask("nobodys").await);
        assert_eq!(foreign.0, 404, "{method} {suffix}");
        let strip = |mut answer: (u16, Value)| {
            answer.1["request_id"] = Value::Null;
            answer
        };
        assert_eq!(strip(foreign), strip(missing), "{method} {suffix}");
    }
    assert_eq!(app.get(&eve, "/v1/documents").await.1["documents"], json!([]));
}

#[tokio::test]
async fn documents_and_chunks_are_listed_page_by_page() {
    let app = TestApp::start().await;
    let text: String =
        (0..120).map(|n| format!("Paragraph {n} speaks of invoices, receipts and ledgers at length.\n\n")).collect();
    for id in ["a", "b", "c"] {
        app.index(&app.admin_key, &json!({"text": text, "document_id": id})).await;
    }
    let pages = async |path: &str, items: &str| {
        let mut all = Vec::new();
        let mut next = path.to_owned();
        loop {
            let (status, page) = app.get(&app.admin_key, &next).await;
            assert_eq!(status, 200, "{page}");
            all.extend(page[items].as_array().expect("a list").iter().cloned());
            match page["next_cursor"].as_str() {
                Some(cursor) => next = format!("{path}&cursor={cursor}"),
                None => return json!(all),
            }
        }
    };
    let (_, whole) = app.get(&app.admin_key, "/v1/documents?status=indexed").await;
    assert_eq!(whole["documents"].as_array().expect("documents").len(), 3);
    assert_eq!(pages("/v1/documents?status=indexed&limit=2", "documents").await, whole["documents"]);
    let (_, whole) = app.get(&app.admin_key, "/v1/documents/a/chunks").await;
    assert!(whole["chunks"].as_array().expect("chunks").len() > 2, "{whole}");
    assert_eq!(pages("/v1/documents/a/chunks?limit=1", "chunks").await, whole["chunks"]);
}

#[tokio::test]
async fn too_large_and_of_another_kind_are_refused() {
    let app = TestApp::start_with(&[("RAG_MAX_UPLOAD_BYTES", "1000")]).await;
    let large = "x".repeat(1001);
    let body = json!({"text": large}).to_string();
    problem(raw(&app, Method::POST, "/v1/documents", "application/json", body).await, 413).await;
    let form = Form::new().part("file", file("large.txt", &large));
    let request = app.request(&app.admin_key, Method::POST, "/v1/documents").multipart(form);
    problem(request.send().await.expect("a response"), 413).await;
    // Far more than the request may hold: it is still read to its end, so that the answer arrives.
    let huge = Form::new().part("file", file("huge.txt", &"x".repeat(3_000_000)));
    let request = app.request(&app.admin_key, Method::POST, "/v1/documents").multipart(huge);
    problem(request.send().await.expect("a response"), 413).await;
    problem(raw(&app, Method::POST, "/v1/documents", "application/pdf", "%PDF").await, 415).await;
    problem(raw(&app, Method::POST, "/v1/documents", "multipart/form-data; boundary=B", "--B\r\n").await, 400).await;
    assert_eq!(app.get(&app.admin_key, "/v1/documents").await.1["documents"], json!([]), "nothing was taken in");
}

#[tokio::test]
async fn only_a_failed_document_is_tried_again() {
    let app = TestApp::start().await;
    app.index(&app.admin_key, &json!({"text": "Ten years.", "document_id": "fine"})).await;
    let retry = async |id: &str| {
        let path = format!("/v1/documents/{id}/retry");
        app.request(&app.admin_key, Method::POST, &path).send().await.expect("a response")
    };
    problem(retry("fine").await, 409).await;
    let part = Part::bytes(b"%PDF-1.7 broken".to_vec()).file_name("broken.pdf");
    upload(&app, Form::new().part("file", part).text("document_id", "broken")).await;
    let record = app.settled(&app.admin_key, "broken").await;
    assert_eq!(record["status"], "failed", "{record}");
    assert!(record["error"]["reason"].is_string() && record["error"]["detail"].is_string(), "{record}");
    let response = retry("broken").await;
    assert_eq!(response.status(), 202);
    assert_eq!(response.json::<Value>().await.expect("JSON")["status"], "processing");
}
