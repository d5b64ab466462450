//! Backups and rebuilds, by the real binary: the same answers for the same readers on both sides.
#![cfg(feature = "edge")]

use std::path::{Path, PathBuf};
use std::process::Stdio;

use reqwest::{Method, multipart};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::cli::run;
use crate::support::qdrant_server::{Options, QdrantServer};
use crate::support::{ADMIN_KEY, PATIENCE, TestApp, binary, postgres, redis, s3, settings};

/// Serves and leaves documents that wait as they are.
const NO_WORKER: (&str, &str) = ("RAG_WORKER_CONCURRENCY", "0");

/// An installation with documents of all kinds: public, a group's, failed, deleted, waiting, and replaced by one that
/// waits.
struct Library {
    data: TempDir,
    /// Of Ann, who is in the group, and of Ben, who is not.
    keys: [String; 2],
    /// What both are told.
    answers: Vec<Value>,
}

impl Library {
    async fn new() -> Self {
        let app = TestApp::start().await;
        let ann = app.create_key("ann", &["finance"], &["query", "ingest"]).await;
        let ben = app.create_key("ben", &[], &["query", "ingest"]).await;
        let retention =
            "# Retention\n\nInvoices are kept for ten years.\n\n# Payroll\n\nPayslips are kept for six years.";
        let documents = [
            json!({ "document_id": "retention", "text": retention, "readers": ["group:finance"],
                    "metadata": { "year": 2023 } }),
            json!({ "document_id": "trains", "title": "Travel", "text": "Trains are booked by the office.",
                    "readers": ["public"] }),
            json!({ "document_id": "gone", "text": "Invoices are never kept.", "readers": ["public"] }),
        ];
        for document in &documents {
            app.index(&ann, document).await;
        }
        let broken = multipart::Part::bytes(b"%PDF-1.7 nothing else".to_vec()).file_name("broken.pdf");
        let form = multipart::Form::new().part("file", broken).text("document_id", "broken");
        let sent = app.request(&ann, Method::POST, "/v1/documents").multipart(form).send().await.unwrap();
        assert_eq!(sent.status(), 202);
        assert_eq!(app.settled(&ann, "broken").await["status"], "failed");
        let deleted = app.send(&ann, Method::DELETE, "/v1/documents/gone", &Value::Null).await;
        assert_eq!(deleted.0, 204);

        let app = TestApp::start_in(app.stop().await, &[NO_WORKER]).await;
        for (id, text) in [("waiting", "Parking is free on Sundays."), ("trains", "Trains are booked by yourself.")] {
            let body = json!({ "text": text, "readers": ["public"] });
            assert_eq!(app.send(&ann, Method::PUT, &format!("/v1/documents/{id}"), &body).await.0, 202);
        }
        let keys = [ann, ben];
        let answers = answers(&app, &keys).await;
        Self { data: app.stop().await, keys, answers }
    }

    /// Exports it; the file.
    async fn export(&self) -> PathBuf {
        let file = self.data.path().join("backup.ndjson");
        let exported = run(&["export", &file.display().to_string()], &settings(self.data.path())).await;
        assert_eq!(exported.code, Some(0), "{}", exported.err);
        assert!(exported.err.contains("2 keys, 4 documents, 5 originals, "), "{}", exported.err);
        assert_eq!(exported.out, "");
        file
    }

    /// The other side tells the same, and what waited is done there.
    async fn is_at(&self, data: TempDir, changes: &[(&str, &str)]) -> TempDir {
        let waiting = [changes, &[NO_WORKER]].concat();
        let app = TestApp::start_in(data, &waiting).await;
        assert_eq!(answers(&app, &self.keys).await, self.answers);
        let app = TestApp::start_in(app.stop().await, changes).await;
        let [ann, ben] = &self.keys;
        assert_eq!(app.settled(ann, "waiting").await["status"], "indexed");
        let trains = app.settled(ben, "trains").await;
        assert_eq!((&trains["status"], &trains["version"]), (&json!("indexed"), &json!(2)), "{trains}");
        let (_, answer) = app.post(ben, "/v1/query", &json!({ "query": "Who books trains?" })).await;
        assert!(answer["answer"].as_str().unwrap().contains("yourself"), "{answer}");
        app.stop().await
    }
}

/// All that people are told of documents, without what differs from call to call.
async fn answers(app: &TestApp, keys: &[String]) -> Vec<Value> {
    let mut all = Vec::new();
    for key in keys {
        for query in ["How long are invoices kept?", "Who books trains?", "Is parking free?", "payslips"] {
            for path in ["/v1/query", "/v1/search"] {
                let (status, mut answer) = app.post(key, path, &json!({ "query": query, "top_k": 10 })).await;
                assert_eq!(status, 200, "{answer}");
                for source in answer["sources"].as_array_mut().unwrap() {
                    // The last digits are the store's.
                    source["score"] = json!((source["score"].as_f64().unwrap() * 1000.0).round() / 1000.0);
                }
                let told = ["answer", "answerable", "citations", "sources"];
                all.push(told.iter().map(|name| answer[*name].clone()).collect());
            }
        }
        for id in ["retention", "trains", "broken", "gone", "waiting"] {
            let (status, mut record) = app.get(key, &format!("/v1/documents/{id}")).await;
            if let Some(fields) = record.as_object_mut() {
                for name in ["updated_at", "attempts", "stage", "progress", "request_id"] {
                    fields.remove(name);
                }
            }
            let content = app.request(key, Method::GET, &format!("/v1/documents/{id}/content")).send().await.unwrap();
            let content = if content.status() == 200 { content.text().await.unwrap() } else { String::new() };
            all.push(json!([status, record, content]));
        }
    }
    all
}

async fn import(file: &Path, data: &Path, arguments: &[&str]) -> crate::cli::Run {
    let file = file.display().to_string();
    run(&[&["import", &file], arguments].concat(), &settings(data)).await
}

/// Imports what comes by standard input; its exit code and what it complains of.
async fn import_stream(file: &Path, data: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(binary());
    command.arg("import").env_clear().envs(settings(data)).current_dir(data);
    let output = command.stdin(std::fs::File::open(file).unwrap()).output().await.unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// A changed copy of an export.
fn changed(file: &Path, change: impl Fn(String) -> String) -> PathBuf {
    let copy = file.with_extension("changed");
    std::fs::write(&copy, change(std::fs::read_to_string(file).unwrap())).unwrap();
    copy
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_brings_everything_back() {
    let library = Library::new().await;
    let file = library.export().await;
    let there = tempfile::tempdir().unwrap();
    let imported = import(&file, there.path(), &[]).await;
    assert_eq!(imported.code, Some(0), "{}", imported.err);
    let said = "2 keys and 4 documents imported, 0 documents kept; 2 of them wait for a worker\n";
    assert_eq!(imported.out, said);
    // Again: nothing changes.
    let again = import(&file, there.path(), &[]).await;
    assert_eq!(again.out, "0 keys and 0 documents imported, 4 documents kept\n", "{}", again.err);
    let there = library.is_at(there, &[]).await;

    // And again, when what waited is done.
    let again = import(&file, there.path(), &[]).await;
    assert_eq!(again.out, "0 keys and 0 documents imported, 4 documents kept\n", "{}", again.err);

    // A document is another one.
    let app = TestApp::start_in(there, &[]).await;
    let body = json!({ "document_id": "trains", "text": "Trains are not booked any more." });
    app.index(&library.keys[0], &body).await;
    let there = app.stop().await;
    let refused = import(&file, there.path(), &[]).await;
    assert_eq!((refused.code, refused.err.lines().count()), (Some(1), 1), "{}", refused.err);
    assert!(refused.err.contains("document trains of tenant default is there already: give --replace"));
    let kept = import(&file, there.path(), &["--skip-existing"]).await;
    assert_eq!(kept.out, "0 keys and 0 documents imported, 4 documents kept\n", "{}", kept.err);
    let replaced = import(&file, there.path(), &["--replace"]).await;
    assert_eq!(replaced.out, said.replace("2 keys", "0 keys"), "{}", replaced.err);
    let app = TestApp::start_in(there, &[NO_WORKER]).await;
    let (_, answer) = app.post(&library.keys[1], "/v1/query", &json!({ "query": "Who books trains?" })).await;
    assert!(answer["answer"].as_str().unwrap().contains("the office"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_import_gives_no_reader_back_what_was_taken() {
    let library = Library::new().await;
    let [ann, ben] = &library.keys;
    let file = library.export().await;
    let there = tempfile::tempdir().unwrap();
    assert_eq!(import(&file, there.path(), &[]).await.code, Some(0));
    let app = TestApp::start_in(there, &[NO_WORKER]).await;
    assert_eq!(app.get(ben, "/v1/documents/waiting").await.0, 200);
    let taken = app.send(ann, Method::PATCH, "/v1/documents/waiting", &json!({ "readers": [] })).await;
    assert_eq!(taken.0, 200, "{}", taken.1);
    let there = app.stop().await;

    let refused = import(&file, there.path(), &[]).await;
    assert!(refused.err.contains("document waiting of tenant default is there already"), "{}", refused.err);
    let kept = import(&file, there.path(), &["--skip-existing"]).await;
    assert_eq!(kept.out, "0 keys and 0 documents imported, 4 documents kept\n", "{}", kept.err);
    let app = TestApp::start_in(there, &[NO_WORKER]).await;
    assert_eq!(app.get(ben, "/v1/documents/waiting").await.0, 404);
    assert_eq!(app.get(ann, "/v1/documents/waiting").await.1["readers"], json!(["user:ann"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_installation_moves_to_production_and_back() {
    let library = Library::new().await;
    let file = library.export().await;
    let qdrant = QdrantServer::start(Options::default());
    let (database, cache) = (postgres::database().await, format!("{}/9", redis::SHARED.url()));
    let bucket = format!("s3://{}/rag", s3::SHARED.make_bucket());
    let environment = s3::SHARED.environment();
    let mut changes = vec![
        ("RAG_VECTOR_DB_URL", qdrant.url.as_str()),
        ("RAG_DATABASE_URL", database.as_str()),
        ("RAG_REDIS_URL", cache.as_str()),
        ("RAG_STORAGE_URL", bucket.as_str()),
    ];
    changes.extend(environment.iter().map(|(name, value)| (*name, value.as_str())));
    let there = tempfile::tempdir().unwrap();
    let mut variables = settings(there.path());
    variables.retain(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
    variables.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let imported = run(&["import", &file.display().to_string()], &variables).await;
    assert_eq!(imported.code, Some(0), "{}", imported.err);

    // And back, before what waits is done, by a pipe.
    let exported = run(&["export"], &variables).await;
    assert_eq!(exported.code, Some(0), "{}", exported.err);
    let back = tempfile::tempdir().unwrap();
    let copy = back.path().join("copy.ndjson");
    std::fs::write(&copy, exported.out).unwrap();
    assert_eq!(import_stream(&copy, back.path()).await, (Some(0), String::new()));
    library.is_at(there, &changes).await;
    library.is_at(back, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_off_foreign_or_damaged_is_refused() {
    let library = Library::new().await;
    let file = library.export().await;
    let there = tempfile::tempdir().unwrap();
    let refused = async |copy: PathBuf, says: &str| {
        let run = import(&copy, there.path(), &[]).await;
        assert_eq!((run.code, run.err.lines().count()), (Some(1), 1), "{}", run.err);
        assert!(run.err.contains(says), "{says}: {}", run.err);
    };
    let without_end = |text: String| text.trim_end().rsplit_once('\n').unwrap().0.to_owned() + "\n";
    refused(changed(&file, without_end), "is cut off: its last line").await;
    refused(changed(&file, |text| text[..text.len() / 2].to_owned()), "is cut off").await;
    refused(changed(&file, |_| "hello\n".to_owned()), "this is not an export of rag-api").await;
    refused(changed(&file, |_| String::new()), "this is not an export of rag-api").await;
    let newer = |text: String| text.replacen("\"rag_api_export\":1", "\"rag_api_export\":99", 1);
    refused(changed(&file, newer), "in a format unknown to this one").await;
    let other_model = |text: String| text.replacen("\"embedding_model\":\"", "\"embedding_model\":\"other-", 1);
    refused(changed(&file, other_model), "--reindex").await;
    let listed = run(&["keys", "list"], &settings(there.path())).await;
    assert_eq!(listed.out.lines().count(), 1, "nothing was imported: {}", listed.out);

    let fewer = |text: String| text.replacen("\"documents\":4,\"originals\"", "\"documents\":3,\"originals\"", 1);
    refused(changed(&file, fewer), "its counts are others").await;
    let hash = |text: String| {
        let at = text.rfind("\"sha256\":\"").unwrap() + 10;
        format!("{}00000000{}", &text[..at], &text[at + 8..])
    };
    let elsewhere = tempfile::tempdir().unwrap();
    let damaged = import(&changed(&file, hash), elsewhere.path(), &[]).await;
    assert!(damaged.err.contains("an original has not its SHA-256"), "{}", damaged.err);

    // Whose end cannot be looked at before: what came whole stays, and the same again goes on.
    let elsewhere = tempfile::tempdir().unwrap();
    let (code, complaint) = import_stream(&changed(&file, without_end), elsewhere.path()).await;
    assert!(code == Some(1) && complaint.contains("is cut off after line "), "{complaint}");
    assert_eq!(import_stream(&file, elsewhere.path()).await, (Some(0), String::new()));

    // Vectors of another model are left out, and made here.
    let fresh = tempfile::tempdir().unwrap();
    let imported = import(&changed(&file, other_model), fresh.path(), &["--reindex"]).await;
    assert!(imported.out.contains("4 documents imported, 0 documents kept; 3 of them wait"), "{}", imported.err);
    let app = TestApp::start_in(fresh, &[]).await;
    assert_eq!(app.settled(&library.keys[0], "retention").await["status"], "indexed");
    let (_, answer) = app.post(&library.keys[0], "/v1/query", &json!({ "query": "How long are invoices kept?" })).await;
    assert!(answer["answer"].as_str().unwrap().contains("ten years"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_import_is_run_again() {
    let library = Library::new().await;
    let file = library.export().await;
    let there = tempfile::tempdir().unwrap();
    // Before a document is published, and between the two contents of another.
    for arrival in ["import:1", "import:2"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut command = Command::new(binary());
        command.arg("import").arg(&file).env_clear().envs(settings(there.path())).current_dir(there.path());
        command.env("RAG_TEST_HOLD", arrival).kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null());
        command.env("RAG_TEST_HOLD_ADDRESS", listener.local_addr().unwrap().to_string());
        let mut child = command.spawn().unwrap();
        tokio::time::timeout(PATIENCE, listener.accept()).await.expect("it is held").unwrap();
        child.kill().await.unwrap();
    }
    let imported = import(&file, there.path(), &[]).await;
    assert_eq!(imported.code, Some(0), "{}", imported.err);
    assert!(imported.out.starts_with("0 keys and "), "{}", imported.out);
    let app = TestApp::start_in(there, &[]).await;
    for id in ["retention", "trains", "waiting"] {
        assert_eq!(app.settled(ADMIN_KEY, id).await["status"], "indexed");
    }
    let there = app.stop().await;
    let again = run(&["export"], &settings(there.path())).await;
    assert!(again.err.contains("2 keys, 4 documents, 4 originals, "), "{}", again.err);
    assert!(!again.err.contains("not all of their points"), "{}", again.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_are_made_anew_from_originals() {
    let app = TestApp::start().await;
    let document = json!({ "document_id": "retention", "text": "Invoices are kept for ten years.", "title": "Rules",
                           "readers": ["public"], "metadata": { "year": 2023 } });
    app.index(ADMIN_KEY, &document).await;
    let told = async |app: &TestApp| {
        let (_, answer) = app.post(ADMIN_KEY, "/v1/query", &json!({ "query": "How long are invoices kept?" })).await;
        let source = &answer["sources"][0];
        (answer["answer"].clone(), source["id"].clone(), source["title"].clone(), source["metadata"].clone())
    };
    let before = told(&app).await;
    let variables = settings(app.data());
    for arguments in [&["reindex"][..], &["export"]] {
        let refused = run(arguments, &variables).await;
        assert_eq!(refused.code, Some(1), "{}", refused.out);
        assert!(refused.err.contains("another process uses the vector store"), "{}", refused.err);
        assert!(refused.err.contains("stop it"), "{}", refused.err);
    }
    // A server that runs does the work itself.
    let queued = run(&["reindex", "--no-wait"], &variables).await;
    assert_eq!(queued.out, "1 documents queued, 0 were waiting already\n", "{}", queued.err);
    let record = app.settled(ADMIN_KEY, "retention").await;
    assert_eq!((&record["status"], &record["version"]), (&json!("indexed"), &json!(2)), "{record}");
    assert_eq!(told(&app).await, before);

    // The store is lost.
    let data = app.stop().await;
    std::fs::remove_dir_all(data.path().join("vectors")).unwrap();
    let rebuilt = run(&["reindex"], &settings(data.path())).await;
    assert_eq!(
        (rebuilt.code, rebuilt.out.as_str()),
        (Some(0), "1 documents indexed anew, 0 failed\n"),
        "{}",
        rebuilt.err
    );
    let app = TestApp::start_in(data, &[]).await;
    assert_eq!(told(&app).await, before);

    // The model was another one.
    let data = app.stop().await;
    let identity = data.path().join("vectors/documents/collection.json");
    let text = std::fs::read_to_string(&identity).unwrap();
    std::fs::write(&identity, text.replace("all-MiniLM", "other-model")).unwrap();
    let refused = run(&["reindex"], &settings(data.path())).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("set another RAG_VECTOR_DB_COLLECTION or remove"), "{}", refused.err);
    let other = ("RAG_VECTOR_DB_COLLECTION", "other");
    let mut variables = settings(data.path());
    variables.push((other.0.to_owned(), other.1.to_owned()));
    let rebuilt = run(&["reindex"], &variables).await;
    assert_eq!(rebuilt.code, Some(0), "{}{}", rebuilt.out, rebuilt.err);
    let app = TestApp::start_in(data, &[other]).await;
    assert_eq!(told(&app).await, before);
}
