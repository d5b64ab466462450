//! Language models behind the OpenAI protocol, against a server that misbehaves as it is told.

use std::time::Duration;

use futures::StreamExt;
use rag_api::config::Secret;
use rag_api::error::{Error, ErrorKind, Result};
use rag_api::llm::openai::{OpenAi, Timeouts};
use rag_api::llm::{self, Config, GenerationEvent, GenerationRequest, Llm, Usage};

use crate::support::llm_server::{LlmServer, Script};

const KEY: &str = "sk-test-0123456789";

/// So long that only a defect reaches it.
const NEVER: Timeouts = Timeouts {
    connect: Duration::from_secs(60),
    first_token: Duration::from_secs(60),
    between_tokens: Duration::from_secs(60),
    total: Duration::from_secs(60),
};

fn request() -> GenerationRequest {
    GenerationRequest {
        question: "a private question".to_owned(),
        passages: Vec::new(),
        system: "instructions".to_owned(),
        user: "a private question".to_owned(),
        max_tokens: 50,
    }
}

fn model(server: &LlmServer, timeouts: Timeouts) -> OpenAi {
    OpenAi::new("test-model", &server.base_url, Some(Secret::new(KEY)), timeouts).unwrap()
}

/// All events of a generation, and the error that ended it.
async fn run(model: &OpenAi) -> (Vec<GenerationEvent>, Option<Error>) {
    let mut events = Vec::new();
    match model.generate(&request()).await {
        Ok(mut generation) => {
            while let Some(event) = generation.next().await {
                match event {
                    Ok(event) => events.push(event),
                    Err(error) => {
                        assert!(generation.next().await.is_none(), "an error is the end");
                        return (events, Some(error));
                    }
                }
            }
            (events, None)
        }
        Err(error) => (events, Some(error)),
    }
}

async fn against(script: Script) -> (Vec<GenerationEvent>, Option<Error>) {
    run(&model(&LlmServer::start([script]).await, NEVER)).await
}

fn text(text: &str) -> GenerationEvent {
    GenerationEvent::Text(text.to_owned())
}

#[tokio::test]
async fn text_and_usage_are_streamed() {
    let server = LlmServer::start([Script::Say(vec!["Ten", " years"])]).await;
    let (events, error) = run(&model(&server, NEVER)).await;
    assert!(error.is_none(), "{error:?}");
    let usage = GenerationEvent::Usage(Usage { input_tokens: 7, output_tokens: 3 });
    assert_eq!(events, [text("Ten"), text(" years"), usage]);

    let body = server.requests().remove(0);
    assert_eq!(body["model"], "test-model");
    assert_eq!(body["max_tokens"], 50);
    assert_eq!(body["stream_options"]["include_usage"], true);
    assert_eq!(body["messages"][0]["content"], "instructions");
    assert_eq!(server.authorizations(), [format!("Bearer {KEY}")]);
}

#[tokio::test]
async fn odd_but_right_streams_are_read() {
    let (events, error) = against(Script::SayOddly(vec!["Zehn", " Jahre – 十年"])).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(events, [text("Zehn"), text(" Jahre – 十年")]);
}

#[tokio::test]
async fn the_limit_of_tokens_is_told() {
    let (events, error) = against(Script::SayUntilLimit(vec!["Ten"])).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(events[..2], [text("Ten"), GenerationEvent::Truncated]);
}

#[tokio::test]
async fn refusals_have_their_kind_and_leak_nothing() {
    for (status, kind) in [
        (429, ErrorKind::Unavailable),
        (500, ErrorKind::Unavailable),
        (502, ErrorKind::Unavailable),
        (503, ErrorKind::Unavailable),
        (401, ErrorKind::Config),
        (403, ErrorKind::Config),
        (404, ErrorKind::Config),
        (307, ErrorKind::Config),
        (400, ErrorKind::Invalid),
    ] {
        let server = LlmServer::start([Script::Status(status, None)]).await;
        let error = run(&model(&server, NEVER)).await.1.expect("an error");
        assert_eq!(error.kind(), kind, "{status}");
        let chain = error.chain();
        assert!(chain.contains(&status.to_string()) && chain.contains("some_code"), "{chain}");
        assert!(!chain.contains(KEY) && !chain.contains("private"), "{chain}");
        assert_eq!(server.requests().len(), 1, "{status} is not asked again");
    }
}

#[tokio::test]
async fn a_short_retry_after_is_waited_for_once() {
    let server = LlmServer::start([Script::Status(429, Some("0")), Script::Say(vec!["Ten"])]).await;
    let (events, error) = run(&model(&server, NEVER)).await;
    assert!(error.is_none() && events[0] == text("Ten"), "{error:?}");
    assert_eq!(server.requests().len(), 2);

    let server = LlmServer::start([Script::Status(503, Some("0"))]).await;
    assert_eq!(run(&model(&server, NEVER)).await.1.unwrap().kind(), ErrorKind::Unavailable);
    assert_eq!(server.requests().len(), 2);

    let server = LlmServer::start([Script::Status(429, Some("3600"))]).await;
    assert_eq!(run(&model(&server, NEVER)).await.1.unwrap().kind(), ErrorKind::Unavailable);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn the_dialect_of_newer_models_is_learnt_once() {
    let server = LlmServer::start([Script::Newer("Ten")]).await;
    let model = model(&server, NEVER);
    for asked in [3, 4] {
        let (events, error) = run(&model).await;
        assert!(error.is_none() && events[0] == text("Ten"), "{error:?}");
        assert_eq!(server.requests().len(), asked);
    }
    let last = server.requests().pop().unwrap();
    assert_eq!(last["max_completion_tokens"], 50);
    assert!(last.get("max_tokens").is_none() && last.get("temperature").is_none(), "{last}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error_after_its_text() {
    for script in [Script::Cut(vec!["Ten", " y"]), Script::Fail(vec!["Ten", " y"])] {
        let (events, error) = against(script).await;
        assert_eq!(events, [text("Ten"), text(" y")]);
        let error = error.expect("an error");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(!error.chain().contains("secret"), "{}", error.chain());
    }
}

#[tokio::test]
async fn nonsense_is_an_error() {
    for body in [
        &b"<html>not a stream</html>"[..],
        b"",
        b"data: {\"choices\": \n\n",
        b"data: 42\n\n",
        b"data: {\"choices\": [{\"delta\": {\"content\": 5}}]}\n\n",
        b"\x00\xff\xfe\x00",
    ] {
        let (events, error) = against(Script::Body(body)).await;
        assert!(events.is_empty());
        assert_eq!(error.expect("an error").kind(), ErrorKind::Unavailable, "{body:?}");
    }
}

#[tokio::test]
async fn every_wait_has_its_end() {
    let short = Duration::from_millis(50);
    let first = Timeouts { first_token: short, ..NEVER };
    let between = Timeouts { between_tokens: short, ..NEVER };
    let total = Timeouts { total: short, ..NEVER };
    for (script, timeouts) in [
        (Script::Silent, first),
        (Script::Stall(vec![]), first),
        (Script::Stall(vec!["Ten"]), between),
        (Script::Endless, total),
        (Script::Silent, total),
    ] {
        let server = LlmServer::start([script.clone()]).await;
        let error = run(&model(&server, timeouts)).await.1.expect("an error");
        assert_eq!(error.kind(), ErrorKind::Timeout, "{script:?}");
        server.reader_gone().await;
    }
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let server = LlmServer::start([]).await;
    let base_url = server.base_url.clone();
    drop(server);
    let model = OpenAi::new("test-model", &base_url, None, NEVER).unwrap();
    // The listener goes with its task; until then a connection is accepted, and closed without an answer.
    assert_eq!(run(&model).await.1.expect("an error").kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn dropping_the_generation_stops_the_server() -> Result<()> {
    let server = LlmServer::start([Script::Endless]).await;
    let mut generation = model(&server, NEVER).generate(&request()).await?;
    for _ in 0..3 {
        generation.next().await.expect("a token")?;
    }
    drop(generation);
    server.reader_gone().await;
    Ok(())
}

#[test]
fn what_cannot_be_set_up_stops_the_start() {
    let open_ai = |base_url: &str, key: &str| Config::OpenAi {
        model: "m".to_owned(),
        base_url: base_url.to_owned(),
        api_key: Some(Secret::new(key)),
    };
    for (chain, names) in [
        (vec![], "RAG_LLM_MODEL"),
        (vec![open_ai("localhost:8080", KEY)], "RAG_OPENAI_BASE_URL"),
        (vec![Config::Extractive, open_ai("http://localhost/v1", "sk\n")], "RAG_OPENAI_API_KEY"),
    ] {
        let error = llm::build(&chain).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.chain().contains(names) && !error.chain().contains("sk\n"), "{}", error.chain());
    }
    let chain = llm::build(&[open_ai("http://localhost/v1/", KEY), Config::Extractive]).unwrap();
    assert_eq!(chain.iter().map(|model| model.name()).collect::<Vec<_>>(), ["m", "extractive"]);
    assert!(!format!("{chain:?}").contains(KEY));
}
