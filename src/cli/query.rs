//! `rag-api query "…"`.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use futures::StreamExt;
use rag_api::error::{Error, Result};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{self, Client, ServerArgs};

#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    /// The question
    question: String,
    /// Passages to answer from
    #[arg(long, value_name = "N")]
    top_k: Option<u32>,
    /// A filter over metadata, as JSON: '{"year": {"$gte": 2023}}'
    #[arg(long, value_name = "JSON")]
    filters: Option<String>,
    /// Only find passages; write no answer
    #[arg(long)]
    search: bool,
    /// Print the server's JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn query(arguments: QueryArgs) -> Result<ExitCode> {
    let client = Client::new(&arguments.server)?;
    let mut request = json!({ "query": arguments.question });
    if let Some(top_k) = arguments.top_k {
        request["top_k"] = json!(top_k);
    }
    if let Some(filters) = &arguments.filters {
        request["filters"] = serde_json::from_str(filters)
            .map_err(|error| Error::invalid("/filters", "--filters is not JSON").with_source(error))?;
    }
    if arguments.search || arguments.json {
        let path = if arguments.search { "/v1/search" } else { "/v1/query" };
        let response = client.send(|| Ok(client.request(Method::POST, path).json(&request))).await?;
        let answer = client::body(response).await?;
        if arguments.json {
            return super::say(&format!("{answer:#}"));
        }
        return super::say(&sources(&answer["sources"]));
    }
    request["stream"] = json!(true);
    stream(&client, &request).await
}

/// Prints the answer as it comes, then its sources.
async fn stream(client: &Client, request: &Value) -> Result<ExitCode> {
    let response = client.send(|| Ok(client.request(Method::POST, "/v1/query").json(request))).await?;
    if !response.status().is_success() {
        return Err(client::body(response).await.err().unwrap_or_else(|| Error::not_found("answer")));
    }
    let mut bytes = response.bytes_stream();
    let (mut buffer, mut found) = (Vec::new(), Value::Null);
    while let Some(piece) = bytes.next().await {
        buffer.extend_from_slice(&piece.map_err(|error| Error::unavailable("the answer was cut off", error))?);
        while let Some(end) = buffer.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = buffer.drain(..end + 2).collect();
            let Some((name, data)) = parse(&event) else { continue };
            match name.as_str() {
                "sources" => found = data,
                "token" => print(data["text"].as_str().unwrap_or_default()),
                "done" | "error" => return finish(&data, &found),
                _ => {}
            }
        }
    }
    Err(Error::unavailable("the answer was cut off", std::io::Error::from(std::io::ErrorKind::UnexpectedEof)))
}

fn finish(done: &Value, found: &Value) -> Result<ExitCode> {
    print("\n");
    if done["error"].as_bool() == Some(true) {
        super::complain(done["answer"].as_str().unwrap_or("no answer"));
        return Ok(ExitCode::FAILURE);
    }
    for warning in
        done["warnings"].as_array().into_iter().flatten().chain(done["degraded"].as_array().into_iter().flatten())
    {
        super::complain(warning.as_str().unwrap_or_default());
    }
    let found = if found.is_array() { found } else { &found["sources"] };
    if found.as_array().is_some_and(|found| !found.is_empty()) {
        super::say(&format!("\n{}", sources(found)))
    } else {
        Ok(ExitCode::SUCCESS)
    }
}

/// One server-sent event: its name and its data.
fn parse(event: &[u8]) -> Option<(String, Value)> {
    let event = std::str::from_utf8(event).ok()?;
    let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    Some((field("event:")?.to_owned(), serde_json::from_str(field("data:")?).ok()?))
}

/// A numbered line for each source.
fn sources(found: &Value) -> String {
    let lines = found.as_array().into_iter().flatten().enumerate().map(|(i, source)| {
        let title = source["title"].as_str().filter(|title| !title.is_empty()).or(source["document_id"].as_str());
        let page = source["page"].as_u64().map(|page| format!(", page {page}")).unwrap_or_default();
        let text: String = source["text"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        let start: String = text.chars().take(120).collect();
        format!("[{}] {}{page}: {start}…", i + 1, title.unwrap_or_default())
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    // A closed pipe: nobody reads on, and the last write says so.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
