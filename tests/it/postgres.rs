//! The whole product on PostgreSQL.

use serde_json::{Value, json};

use crate::cli::run;
use crate::support::postgres::{PASSWORD, connect, database};
use crate::support::{ADMIN_KEY, TestApp, settings};

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_uploaded_asked_for_and_deleted() {
    let url = database().await;
    let app = TestApp::start_with(&[("RAG_DATABASE_URL", &url)]).await;
    let key = app.create_key("ann", &["finance"], &["query", "ingest"]).await;
    let document = json!({ "text": "Invoices are kept for ten years.", "title": "Retention" });
    let id = app.index(&key, &document).await;
    let question = json!({ "query": "How long are invoices kept?" });
    let (status, answer) = app.post(&key, "/v1/query", &question).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["sources"][0]["document_id"], id.as_str(), "{answer}");
    assert!(answer["answer"].as_str().unwrap().contains("ten years"), "{answer}");
    let stored: i64 =
        sqlx::query_scalar("SELECT count(*) FROM documents").fetch_one(&mut connect(&url).await).await.unwrap();
    assert_eq!(stored, 1);

    // What is kept outlives the process.
    let data = app.stop().await;
    let app = TestApp::start_in(data, &[("RAG_DATABASE_URL", &url)]).await;
    let path = format!("/v1/documents/{id}");
    assert_eq!(app.get(&key, &path).await.1["status"], "indexed");
    assert_eq!(app.send(&key, reqwest::Method::DELETE, &path, &Value::Null).await.0, 204);
    assert_eq!(app.get(&key, &path).await.0, 404);
    let (_, answer) = app.post(&key, "/v1/query", &question).await;
    assert_eq!(answer["sources"], json!([]), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_migrates_and_makes_keys_and_shows_no_password() {
    let url = database().await;
    let dir = tempfile::tempdir().unwrap();
    let mut variables = settings(dir.path());
    variables.push(("RAG_DATABASE_URL".to_owned(), url.clone()));
    let migrated = run(&["migrate"], &variables).await;
    assert_eq!((migrated.code, migrated.out.as_str()), (Some(0), "the database's schema is up to date\n"));
    let made = run(&["keys", "create", "--user", "ann"], &variables).await;
    assert_eq!(made.code, Some(0), "{}", made.err);
    let app = TestApp::start_with(&[("RAG_DATABASE_URL", &url)]).await;
    assert_eq!(app.get(made.out.trim(), "/v1/documents").await.0, 200);

    let shown = run(&["config"], &variables).await;
    assert!(shown.out.contains("postgres://[redacted]"), "{}", shown.out);
    let last = variables.len() - 1;
    variables[last].1 = url.replace(PASSWORD, "wrong-swordfish");
    let refused = run(&["migrate"], &variables).await;
    assert_eq!(refused.code.map(|code| code != 0), Some(true));
    for text in [&shown.out, &shown.err, &migrated.err, &made.err, &refused.out, &refused.err] {
        assert!(!text.contains(PASSWORD) && !text.contains(ADMIN_KEY), "{text}");
    }
}
