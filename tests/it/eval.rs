//! `rag-api eval`, as the real binary on collections that the tests write.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::cli::{Run, run};
use crate::support::settings;

/// Documents about a company, questions with answers, and one that nothing answers.
fn collection() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "corpus.jsonl",
        "{\"_id\": \"d1\", \"title\": \"Travel\", \"text\": \"Trains are preferred to planes.\"}\n\
         {\"_id\": \"d2\", \"title\": \"Records\", \"text\": \"Invoices are kept for ten years.\"}\n\
         {\"_id\": \"d3\", \"text\": \"The canteen opens at noon.\"}\n",
    );
    write(
        "queries.jsonl",
        "{\"_id\": \"q1\", \"text\": \"How long are invoices kept?\", \"answers\": [\"ten years\", \"ten\"]}\n",
    );
    write("qrels.tsv", "query-id\tcorpus-id\tscore\nq1\td2\t1\n");
    folder
}

/// Runs an evaluation of a folder, with its cache beside the collection.
async fn eval(command: &str, folder: &Path, arguments: &[&str]) -> Run {
    let (path, cache) = (folder.display().to_string(), folder.join("cache").display().to_string());
    let mut all = vec!["eval", command, &path];
    if !arguments.contains(&"--no-cache") {
        all.extend(["--cache", &cache]);
    }
    all.extend(arguments);
    run(&all, &settings(folder)).await
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn retrieval_is_measured_on_a_folder_with_judgements() {
    let folder = collection();
    let (table, results) = (folder.path().join("table.tsv"), folder.path().join("results.json"));
    let files = ["--per-query", table.to_str().unwrap(), "--json", results.to_str().unwrap()];
    let rerankers = ["--reranker", "late-interaction", "--reranker", "none"];
    let first = eval("retrieval", folder.path(), &[&files[..], &rerankers].concat()).await;
    assert_eq!(first.code, Some(0), "{}", first.err);
    assert!(first.out.contains("3 documents, 3 chunks, 1 questions"), "{}", first.out);
    let rows = std::fs::read_to_string(&table).unwrap();
    for way in ["dense", "sparse", "hybrid", "hybrid, plain rrf", "hybrid + late-interaction"] {
        assert!(rows.contains(&format!("\t{way}\tq1\t1.0000\t1.0000\t1.0000\t1.0000\n")), "{way}: {rows}");
    }
    let all = json(&results);
    assert_eq!((&all["schema"], &all["command"]), (&Value::from(1), &Value::from("retrieval")));
    let last = &all["collections"][0]["rows"][4];
    assert_eq!((&last["name"], &last["metrics"]["ndcg@10"]), (&"hybrid + late-interaction".into(), &1.0.into()));

    // From the cache, from a cache that is damaged, and without one, the results are the same.
    let cache = folder.path().join("cache/cache.db");
    assert!(cache.is_file());
    let second = eval("retrieval", folder.path(), &rerankers).await;
    std::fs::write(&cache, "no database ".repeat(1000)).unwrap();
    let third = eval("retrieval", folder.path(), &rerankers).await;
    let fourth = eval("retrieval", folder.path(), &[&rerankers[..], &["--no-cache"]].concat()).await;
    for other in [second, third, fourth] {
        assert_eq!((other.code, &other.out), (Some(0), &first.out), "{}", other.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_folder_or_a_name_is_one_line() {
    let folder = collection();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let results = folder.path().join("none/results.json").display().to_string();
    for (command, arguments, says) in [
        ("retrieval", vec!["--reranker", "nonsense"], "RAG_RERANKER_MODEL (command line)"),
        ("retrieval", vec!["--json", &results], "results.json cannot be written"),
        ("spans", vec![], "spans.jsonl: cannot be read"),
    ] {
        let wrong = eval(command, folder.path(), &arguments).await;
        assert_eq!((wrong.code, wrong.err.lines().count()), (Some(1), 1), "{}", wrong.err);
        assert!(wrong.err.contains(says), "{}", wrong.err);
    }
    write("queries.jsonl", "{\"_id\": \"q1\", \"text\": \"How long are invoices kept?\"}\n");
    let wrong = eval("answers", folder.path(), &[]).await;
    assert!(wrong.err.contains("queries.jsonl: no question has `answers`"), "{}", wrong.err);
    write("qrels.tsv", "q1 d2 1\n");
    let wrong = eval("retrieval", folder.path(), &[]).await;
    assert!(wrong.err.contains("qrels.tsv: line 1"), "{}", wrong.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_judged() {
    let folder = collection();
    let unanswerable = "{\"_id\": \"u1\", \"text\": \"What colour is the moon of Endor?\"}\n";
    std::fs::write(folder.path().join("unanswerable.jsonl"), unanswerable).unwrap();
    let results = folder.path().join("results.json");
    let run = eval("answers", folder.path(), &["--json", results.to_str().unwrap()]).await;
    assert_eq!(run.code, Some(0), "{}", run.err);
    let all = json(&results);
    assert_eq!(all["collections"][0]["questions"], 2);
    let metrics = &all["collections"][0]["rows"][0]["metrics"];
    for metric in ["answered", "refused", "word recall", "contains", "quoted", "cites right"] {
        assert_eq!(metrics[metric], 1.0, "{metric}: {metrics}");
    }
    // "Invoices are kept for ten years." against "ten years".
    assert!((metrics["f1"].as_f64().unwrap() - 0.5).abs() < 1e-9, "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_are_found_in_documents_that_are_put_together_again() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let sentence =
        |n: usize| format!("Rule {n} says that desk {n} is cleaned by the team of floor {n} on day {n}.\n\n");
    let (head, tail): (String, String) = ((1..20).map(sentence).collect(), (20..40).map(sentence).collect());
    let middle = head.len();
    let passage = |id: &str, start: usize, text: &str| {
        let end = start + text.len();
        serde_json::json!({ "_id": id, "title": "rules", "text": text, "start": start, "end": end }).to_string()
    };
    write("corpus.jsonl", &[passage("p1", 0, &head), passage("p2", middle, &tail)].join("\n"));
    write("queries.jsonl", "{\"_id\": \"q1\", \"text\": \"What does rule 19 say of desk 19?\"}\n");
    write("qrels.tsv", "q1\tp1\t1\n");
    let content = sentence(19);
    let content = content.trim_end();
    let start = head.rfind(content).unwrap();
    let span = |start: usize| {
        let end = start + content.len();
        serde_json::json!({ "query-id": "q1", "corpus": "rules", "start": start, "end": end, "content": content })
    };
    write("spans.jsonl", &format!("{}\n{}\n", span(start), span(start + 1)));

    let results = folder.path().join("results.json");
    let to_json = ["--json", results.to_str().unwrap()];
    let run = eval("spans", folder.path(), &to_json).await;
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(run.out.contains("left out 1 of 2 spans") && run.out.contains("(lines 2)"), "{}", run.out);
    let metrics = &json(&results)["collections"][0]["rows"][1]["metrics"];
    assert_eq!((&metrics["recall@5"], &metrics["ndcg@10"]), (&1.0.into(), &1.0.into()), "{}", run.out);
    assert!(metrics["iou@5"].as_f64().unwrap() < 0.5, "{metrics}");

    let grid = ["--sweep", "--sizes", "40,200", "--overlaps", "0", "--reranker", "none"];
    let sweep = eval("spans", folder.path(), &[&grid[..], &to_json].concat()).await;
    assert_eq!(sweep.code, Some(0), "{}", sweep.err);
    let rows = json(&results)["collections"][0]["rows"].clone();
    let row = |name: &str| {
        let rows = rows.as_array().unwrap();
        rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name}: {rows:?}"))["metrics"].clone()
    };
    assert_eq!(row("200/40")["delta"], 0.0);
    let (small, large) = (row("40/0"), row("200/0"));
    assert!(small["chunks"].as_f64().unwrap() > large["chunks"].as_f64().unwrap(), "{rows}");
    assert!(small["precision@5"].as_f64().unwrap() > large["precision@5"].as_f64().unwrap(), "{rows}");
}
