//! The command line, as the real binary.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{ADMIN_KEY, TestApp, binary, settings};

pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs `rag-api` with these arguments and variables alone.
pub(crate) async fn run(arguments: &[&str], variables: &[(String, String)]) -> Run {
    let mut command = Command::new(binary());
    let dir = tempfile::tempdir().unwrap();
    command.args(arguments).env_clear().envs(variables.iter().cloned()).current_dir(dir.path());
    let output = command.stdin(Stdio::null()).output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn client(app: &TestApp) -> Vec<(String, String)> {
    vec![("RAG_URL".to_owned(), app.base.clone()), ("RAG_API_KEY".to_owned(), ADMIN_KEY.to_owned())]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_uploaded_once_and_failures_are_listed() {
    let app = TestApp::start().await;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("handbook");
    std::fs::create_dir_all(root.join("travel and more")).unwrap();
    std::fs::write(root.join("retention.md"), "# Retention\n\nInvoices are kept for ten years.").unwrap();
    std::fs::write(root.join("travel and more/trains.txt"), "Trains are booked by the office.").unwrap();
    std::fs::write(root.join("broken.pdf"), "%PDF-1.7 nothing else").unwrap();
    std::fs::write(root.join(".hidden"), "not this").unwrap();
    let path = root.display().to_string();

    let first = run(&["ingest", &path], &client(&app)).await;
    assert_eq!(first.code, Some(1), "{}{}", first.out, first.err);
    assert!(first.out.contains("3 uploaded, 0 unchanged, 2 indexed, 1 failed"), "{}", first.out);
    assert!(first.out.contains("failed: handbook/broken.pdf: malformed: "), "{}", first.out);

    std::fs::remove_file(root.join("broken.pdf")).unwrap();
    std::fs::write(root.join("retention.md"), "# Retention\n\nInvoices are kept for eleven years.").unwrap();
    let second = run(&["ingest", &path], &client(&app)).await;
    assert_eq!(second.code, Some(0), "{}{}", second.out, second.err);
    assert!(second.out.contains("1 uploaded, 1 unchanged, 1 indexed, 0 failed"), "{}", second.out);

    let asked = run(&["query", "How long are invoices kept?"], &client(&app)).await;
    assert_eq!(asked.code, Some(0), "{}", asked.err);
    assert!(asked.out.contains("eleven years") && asked.out.contains("[1] "), "{}", asked.out);
    let json = run(&["query", "--json", "How long are invoices kept?"], &client(&app)).await;
    let answer: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(answer["sources"][0]["metadata"]["path"], "handbook/retention.md");
    let searched = run(&["query", "--search", "trains"], &client(&app)).await;
    assert!(searched.out.contains("trains.txt"), "{}", searched.out);
    assert_eq!(run(&["health"], &client(&app)).await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_a_missing_path_and_a_missing_server_are_one_line_each() {
    let app = TestApp::start().await;
    let mut wrong = client(&app);
    wrong[1].1 = "rag_nobody_knows".to_owned();
    for (arguments, variables, says) in [
        (vec!["query", "anything"], wrong, "403"),
        (vec!["ingest", "/no/such/folder"], client(&app), "/no/such/folder"),
        (
            vec!["query", "anything"],
            vec![("RAG_URL".to_owned(), "http://127.0.0.1:1".to_owned())],
            "is the server running",
        ),
        (vec!["query", "--filters", "{", "anything"], client(&app), "--filters"),
    ] {
        let run = run(&arguments, &variables).await;
        assert_eq!(run.code, Some(1), "{arguments:?}");
        assert_eq!(run.err.lines().count(), 1, "{}", run.err);
        assert!(run.err.contains(says), "{arguments:?}: {}", run.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_created_listed_and_revoked_in_the_database() {
    let app = TestApp::start().await;
    let database = settings(app.data());
    let created = run(&["keys", "create", "--user", "ida", "--scopes", "query", "--groups", "a,b"], &database).await;
    assert_eq!(created.code, Some(0), "{}", created.err);
    let key = created.out.trim();
    assert!(key.starts_with("rag_") && created.out.lines().count() == 1, "{}", created.out);
    let question = json!({ "query": "anything at all" });
    assert_eq!(app.post(key, "/v1/search", &question).await.0, 200);
    assert_eq!(app.post(key, "/v1/documents", &json!({ "text": "x" })).await.0, 403);

    let listed = run(&["keys", "list"], &database).await;
    assert!(listed.out.contains("\tida\ta,b\tquery\tyes\tnever"), "{}", listed.out);
    assert!(!listed.out.contains(key));
    let id = key.split('_').nth(1).unwrap();
    assert_eq!(run(&["keys", "revoke", id], &database).await.code, Some(0));
    crate::support::eventually("the key is refused", || async {
        app.post(key, "/v1/search", &question).await.0 == 403
    })
    .await;
    let unknown = run(&["keys", "revoke", "nosuchkey"], &database).await;
    assert_eq!((unknown.code, unknown.err.lines().count()), (Some(1), 1), "{}", unknown.err);
}

#[tokio::test]
async fn a_wrong_or_unknown_setting_stops_the_start_with_one_line() {
    for (name, value, says) in [
        ("RAG_LISTN", "127.0.0.1:0", "RAG_LISTEN"),
        ("RAG_RERANK_TOP_K", "many", "RAG_RERANK_TOP_K"),
        ("RAG_REDIS_URL", "memcached://localhost", "expected redis://"),
        ("RAG_ADMIN_API_KEY", "short", "24"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut variables = settings(dir.path());
        variables.retain(|(known, _)| known != name);
        variables.push((name.to_owned(), value.to_owned()));
        let run = run(&["serve"], &variables).await;
        assert_eq!(run.code, Some(1), "{name}");
        assert_eq!(run.err.lines().count(), 1, "{}", run.err);
        assert!(run.err.contains(name) && run.err.contains(says), "{}", run.err);
    }
}

#[tokio::test]
async fn the_effective_configuration_has_sources_and_no_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let run = run(&["config"], &settings(dir.path())).await;
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(!run.out.contains(ADMIN_KEY), "{}", run.out);
    let listen = run.out.lines().find(|line| line.starts_with("RAG_LISTEN ")).unwrap();
    assert!(listen.contains("127.0.0.1:0") && listen.contains("environment"), "{listen}");
    let top_k = run.out.lines().find(|line| line.starts_with("RAG_RERANK_TOP_K ")).unwrap();
    assert!(top_k.contains('5') && top_k.contains("default"), "{top_k}");
}

#[tokio::test]
async fn a_taken_port_is_one_line() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let run = run(&["serve", "--listen", &address], &settings(dir.path())).await;
    assert_eq!(run.code, Some(1));
    assert!(run.err.contains(&address) && run.err.contains("another server"), "{}", run.err);
}
