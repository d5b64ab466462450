//! Documents in: uploads, replacements, changes and deletions, through the whole product.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::support::{ADMIN_KEY, TestApp, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn an_uploaded_document_is_found_with_its_place() {
    let app = TestApp::start().await;
    let text = "# Retention\n\nInvoices are kept for ten years.\n\n# Travel\n\nTrains are booked by the office.";
    let document = json!({ "text": text, "title": "Handbook", "metadata": { "year": 2024 } });
    let id = app.index(ADMIN_KEY, &document).await;
    let body = json!({ "query": "how long are invoices kept?", "filters": { "year": { "$gte": 2024 } } });
    let (status, found) = app.post(ADMIN_KEY, "/v1/search", &body).await;
    assert_eq!(status, 200, "{found}");
    let source = &found["sources"][0];
    assert_eq!(source["document_id"], id.as_str());
    let (start, end) = (source["start"].as_u64().unwrap() as usize, source["end"].as_u64().unwrap() as usize);
    let slice: String = text.chars().skip(start).take(end - start).collect();
    assert_eq!(source["text"], slice.as_str(), "the offsets are the text's");
    let other_year = json!({ "query": "how long are invoices kept?", "filters": { "year": 2020 } });
    let (_, found) = app.post(ADMIN_KEY, "/v1/search", &other_year).await;
    assert_eq!(found["sources"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_bytes_are_unchanged_and_other_bytes_are_a_new_version() {
    let app = TestApp::start().await;
    let put = |text: &str| {
        let body = json!({ "text": text, "title": "Note" });
        let app = &app;
        async move { app.send(ADMIN_KEY, Method::PUT, "/v1/documents/note", &body).await }
    };
    let (status, first) = put("The lamp is green.").await;
    assert_eq!((status, &first["version"]), (202, &json!(1)));
    app.settled(ADMIN_KEY, "note").await;
    assert_eq!(put("The lamp is green.").await.0, 200);
    let (status, second) = put("The lamp is red.").await;
    assert_eq!((status, &second["version"]), (202, &json!(2)));
    let record = app.settled(ADMIN_KEY, "note").await;
    assert_eq!((record["status"].as_str(), record["version"].as_u64()), (Some("indexed"), Some(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_a_document_that_is_replaced_see_one_version_and_never_a_gap() {
    let app = Arc::new(TestApp::start().await);
    let text = |edition: usize| format!("The password of the edition is zebra{edition}zebra. ").repeat(30);
    let body = json!({ "text": text(0), "document_id": "rule", "title": "Rule" });
    app.index(ADMIN_KEY, &body).await;
    let done = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn({
        let (app, done) = (app.clone(), done.clone());
        async move {
            let mut asked = 0;
            while !done.load(Ordering::SeqCst) {
                let body = json!({ "query": "password of the edition", "rerank": false, "top_k": 50 });
                let (status, found) = app.post(ADMIN_KEY, "/v1/search", &body).await;
                assert_eq!(status, 200, "{found}");
                let sources = found["sources"].as_array().unwrap();
                assert!(!sources.is_empty(), "a gap: the document is not found while it is replaced");
                let editions: std::collections::BTreeSet<&str> =
                    sources.iter().filter_map(|source| source["text"].as_str()?.split("zebra").nth(1)).collect();
                assert_eq!(editions.len(), 1, "a mix of versions: {editions:?}");
                asked += 1;
            }
            asked
        }
    });
    for edition in 1..=15 {
        let body = json!({ "text": text(edition) });
        let (status, answer) = app.send(ADMIN_KEY, Method::PUT, "/v1/documents/rule", &body).await;
        assert_eq!(status, 202, "{answer}");
        let record = app.settled(ADMIN_KEY, "rule").await;
        assert_eq!(record["version"], edition + 1, "{record}");
    }
    done.store(true, Ordering::SeqCst);
    assert!(reader.await.unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_leaves_nothing() {
    let app = TestApp::start().await;
    let secret = "xylophonezebra";
    let document = json!({ "text": format!("The code of the vault is {secret}."), "title": format!("About {secret}"),
                           "metadata": { "note": secret } });
    let id = app.index(ADMIN_KEY, &document).await;
    let question = json!({ "query": "What is the code of the vault?" });
    let (_, answer) = app.post(ADMIN_KEY, "/v1/query", &question).await;
    assert!(answer["answer"].as_str().unwrap().contains(secret), "{answer}");
    let (_, cached) = app.post(ADMIN_KEY, "/v1/query", &question).await;
    assert_eq!(cached["cached"], true, "{cached}");

    let path = format!("/v1/documents/{id}");
    assert_eq!(app.send(ADMIN_KEY, Method::DELETE, &path, &Value::Null).await.0, 204);
    for gone in [path.clone(), format!("{path}/content"), format!("{path}/chunks")] {
        assert_eq!(app.get(ADMIN_KEY, &gone).await.0, 404, "{gone}");
    }
    let (_, answer) = app.post(ADMIN_KEY, "/v1/query", &question).await;
    assert_eq!((&answer["answerable"], &answer["cached"]), (&json!(false), &json!(false)), "{answer}");
    assert_eq!(app.send(ADMIN_KEY, Method::DELETE, &path, &Value::Null).await.0, 404);

    let data = app.stop().await;
    let left = files_with(data.path(), secret.as_bytes());
    // The engine's segments and log keep deleted points until it rewrites them; no search reaches them.
    let left: Vec<&String> = left.iter().filter(|path| !path.contains("/vectors/")).collect();
    assert_eq!(left, Vec::<&String>::new());
}

/// Files at or below `path` whose bytes hold `needle`.
fn files_with(path: &Path, needle: &[u8]) -> Vec<String> {
    let files = walkdir::WalkDir::new(path).into_iter().filter_map(Result::ok).filter(|e| e.file_type().is_file());
    let holds = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        bytes.windows(needle.len()).any(|window| window == needle)
    };
    files.filter(|file| holds(file.path())).map(|file| file.path().display().to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_attributes_hold_for_the_next_question() {
    let app = TestApp::start().await;
    let owner = app.create_key("olga", &[], &["query", "ingest"]).await;
    let other = app.create_key("pete", &["staff"], &["query", "ingest"]).await;
    let id = app.index(&owner, &json!({ "text": "The canteen opens at seven.", "title": "Canteen" })).await;
    let path = format!("/v1/documents/{id}");
    let search = json!({ "query": "when does the canteen open" });
    assert_eq!(app.post(&other, "/v1/search", &search).await.1["sources"], json!([]));
    assert_eq!(app.get(&other, &path).await.0, 404);

    let patch = json!({ "readers": ["group:staff"], "title": "Opening hours", "metadata": { "floor": 2 } });
    assert_eq!(app.send(&owner, Method::PATCH, &path, &patch).await.0, 200);
    let filtered = json!({ "query": "when does the canteen open", "filters": { "floor": 2 } });
    let (_, found) = app.post(&other, "/v1/search", &filtered).await;
    assert_eq!(found["sources"][0]["title"], "Opening hours", "{found}");

    assert_eq!(app.send(&owner, Method::PATCH, &path, &json!({ "readers": [] })).await.0, 200);
    assert_eq!(app.post(&other, "/v1/search", &filtered).await.1["sources"], json!([]));
    // Who may not read it does not learn that it is there; who may read it may not change it.
    assert_eq!(app.send(&other, Method::DELETE, &path, &Value::Null).await.0, 404);
    assert_eq!(app.send(&owner, Method::PATCH, &path, &json!({ "readers": ["public"] })).await.0, 200);
    assert_eq!(app.get(&other, &path).await.0, 200);
    assert_eq!(app.send(&other, Method::DELETE, &path, &Value::Null).await.0, 404);
    let asker = app.create_key("pete", &[], &["query"]).await;
    assert_eq!(app.send(&asker, Method::DELETE, &path, &Value::Null).await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_makes_one_document() {
    let app = TestApp::start().await;
    let send = |text: &str| {
        let body = json!({ "text": text });
        let request = app.request(ADMIN_KEY, Method::POST, "/v1/documents").header("idempotency-key", "order-17");
        async move {
            let response = request.json(&body).send().await.unwrap();
            (response.status().as_u16(), response.json::<Value>().await.unwrap())
        }
    };
    let (status, first) = send("One.").await;
    assert_eq!(status, 202, "{first}");
    let (status, again) = send("One.").await;
    assert_eq!(status, 202, "{again}");
    assert_eq!(first["document_id"], again["document_id"]);
    assert_eq!(send("Two.").await.0, 409);
    let (_, list) = app.get(ADMIN_KEY, "/v1/documents").await;
    assert_eq!(list["documents"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_fails_with_its_reason_and_can_be_retried() {
    let app = TestApp::start().await;
    let cases: [(&str, &[u8], &str); 4] = [
        ("empty.txt", b"  \n ", "no_text"),
        ("broken.pdf", b"%PDF-1.7\n1 0 obj <<", "malformed"),
        ("noise.bin", &[0, 159, 146, 150, 1, 2, 3, 255, 254, 0, 17, 201, 0, 3], "unsupported"),
        ("no.zip", b"PK\x03\x04\x00\x00", "malformed"),
    ];
    for (name, bytes, reason) in cases {
        let form = Form::new().part("file", Part::bytes(bytes.to_vec()).file_name(name));
        let response = app.request(ADMIN_KEY, Method::POST, "/v1/documents").multipart(form).send().await.unwrap();
        assert_eq!(response.status(), 202);
        let submitted: Value = response.json().await.unwrap();
        let id = submitted["document_id"].as_str().unwrap();
        let record = app.settled(ADMIN_KEY, id).await;
        let detail = record["error"]["detail"].as_str().unwrap();
        assert_eq!(record["error"]["reason"], reason, "{name}: {record}");
        assert!(detail.len() > 15, "{name}: {detail}");
        assert_eq!(reason == "no_text", detail.contains("run text recognition"), "{name}: {detail}");
        let retry = format!("/v1/documents/{id}/retry");
        assert_eq!(app.post(ADMIN_KEY, &retry, &Value::Null).await.0, 202);
        assert_eq!(app.settled(ADMIN_KEY, id).await["error"]["reason"], reason);
    }
    let id = app.index(ADMIN_KEY, &json!({ "text": "Fine." })).await;
    let (status, _) = app.post(ADMIN_KEY, &format!("/v1/documents/{id}/retry"), &Value::Null).await;
    assert_eq!(status, 409, "only a failed document can be tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_replacement_leaves_the_old_version_served() {
    let app = TestApp::start().await;
    let body = json!({ "text": "The gate closes at nine.", "document_id": "gate" });
    app.index(ADMIN_KEY, &body).await;
    let form = Form::new().part("file", Part::bytes(b"%PDF-1.4 nothing".to_vec()).file_name("gate.pdf"));
    let request = app.request(ADMIN_KEY, Method::PUT, "/v1/documents/gate").multipart(form);
    assert_eq!(request.send().await.unwrap().status(), 202);
    assert_eq!(app.settled(ADMIN_KEY, "gate").await["status"], "failed");
    let (_, found) = app.post(ADMIN_KEY, "/v1/search", &json!({ "query": "when does the gate close" })).await;
    assert_eq!(found["sources"][0]["text"], "The gate closes at nine.", "{found}");
    let content = app.request(ADMIN_KEY, Method::GET, "/v1/documents/gate/content").send().await.unwrap();
    assert_eq!(content.text().await.unwrap(), "The gate closes at nine.");
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_survive_a_restart() {
    let app = TestApp::start().await;
    let id = app.index(ADMIN_KEY, &json!({ "text": "The well is on the hill." })).await;
    let data = app.stop().await;
    let app = TestApp::start_in(data, &[]).await;
    let body = json!({ "query": "where is the well" });
    eventually("the document is found", || async {
        app.post(ADMIN_KEY, "/v1/search", &body).await.1["sources"][0]["document_id"] == id.as_str()
    })
    .await;
}
