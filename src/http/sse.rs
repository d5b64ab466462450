//! A streamed answer as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse, Response, Sse};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tracing::Instrument;

use crate::answer::{Answer, AnswerEvent, Answerer, Caller};
use crate::error::{Error, ErrorKind};
use crate::http::extract::Call;
use crate::http::guard::GRACE;
use crate::http::query::{DoneEvent, SourceView, SourcesEvent, TokenEvent};
use crate::retrieve::filter::Filter;

/// How often a comment is sent while there is nothing else: proxies cut silent connections, often after 30 s or 60 s.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Events that may wait for a client that reads slowly.
const BUFFER: usize = 64;

/// Proxies (nginx) must not gather the events into one response.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Sends the events of an answer as they come.
///
/// A task of its own moves them, because a body that its client does not read is not polled: so a stalled client
/// cannot hold the work, nor its place, past the deadline, and a client that goes away ends both at once.
pub(super) fn respond(
    events: BoxStream<'static, AnswerEvent>,
    call: Call,
    explain: Option<Option<Filter>>,
) -> Response {
    let (sender, receiver) = mpsc::channel(BUFFER);
    tokio::spawn(pump(events, sender, call, explain).in_current_span());
    let stream = ReceiverStream::new(receiver).map(Ok::<Event, Infallible>);
    let sse = Sse::new(stream).keep_alive(KeepAlive::new().interval(HEARTBEAT));
    ([(ACCEL_BUFFERING, HeaderValue::from_static("no"))], sse).into_response()
}

async fn pump(
    events: BoxStream<'static, AnswerEvent>,
    sender: mpsc::Sender<Event>,
    call: Call,
    explain: Option<Option<Filter>>,
) {
    let limit = call.deadline.remaining() + GRACE;
    let work = tokio::time::timeout(limit, forward(events, &sender, &call, explain.clone()));
    let error = tokio::select! {
        () = sender.closed() => return,
        outcome = work => match outcome {
            Ok(true) => return,
            Ok(false) => Error::new(ErrorKind::Internal, "the answer broke off"),
            Err(_) => Error::new(ErrorKind::Timeout, "the answer took too long"),
        },
    };
    let caller = Caller { request_id: call.context.id.to_string(), user_id: call.identity.user.clone() };
    let answer = Answerer::broke_off(&caller, &error);
    // Whoever does not read gets no last word.
    let _ = sender.try_send(last_event(answer, &call, explain));
}

/// Forwards events up to the last one; false if there was no last one.
async fn forward(
    mut events: BoxStream<'static, AnswerEvent>,
    sender: &mpsc::Sender<Event>,
    call: &Call,
    explain: Option<Option<Filter>>,
) -> bool {
    while let Some(event) = events.next().await {
        let event = match event {
            AnswerEvent::Sources(sources) => {
                let sources = sources.into_iter().map(SourceView::from).collect();
                json_event("sources", &SourcesEvent { sources })
            }
            AnswerEvent::Token(text) => json_event("token", &TokenEvent { text }),
            AnswerEvent::Done(answer) => {
                let _ = sender.send(last_event(*answer, call, explain)).await;
                return true;
            }
        };
        if sender.send(event).await.is_err() {
            return true;
        }
    }
    false
}

/// `done`, or `error` if something went wrong.
fn last_event(answer: Answer, call: &Call, explain: Option<Option<Filter>>) -> Event {
    let name = if answer.code.is_some() { "error" } else { "done" };
    json_event(name, &DoneEvent::new(answer, call, explain))
}

fn json_event(name: &str, data: &impl Serialize) -> Event {
    // Structs of text and numbers always serialise, and JSON has no line breaks.
    let data = serde_json::to_string(data).unwrap_or_default();
    Event::default().event(name).data(data)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use futures::stream;
    use http_body_util::BodyExt;

    use super::*;
    use crate::answer::FailureCode;
    use crate::auth::Identity;
    use crate::catalog::KeyScope;
    use crate::http::admission::Gates;
    use crate::http::observe::RequestContext;
    use crate::http::routes::LimitClass;
    use crate::resilience::Deadline;

    async fn call(deadline: Duration) -> (Call, Gates) {
        let gates = Gates::new(&crate::http::server::tests::config());
        let call = Call {
            context: RequestContext { id: "req-1".into(), started: Instant::now() },
            identity: Arc::new(Identity {
                key_id: "k".into(),
                tenant: "t".parse().unwrap(),
                user: "u".into(),
                groups: vec![],
                scopes: vec![KeyScope::Query],
            }),
            deadline: Deadline::after(deadline),
            _admission: gates.admit(LimitClass::Query).await.unwrap(),
        };
        (call, gates)
    }

    async fn text(response: Response) -> String {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn events_come_in_order() {
        let (call, _gates) = call(Duration::from_secs(30)).await;
        let events = stream::iter([
            AnswerEvent::Sources(vec![]),
            AnswerEvent::Token("Ten\nyears".into()),
            AnswerEvent::Done(Box::new(Answer { answer: "Ten\nyears".into(), ..Answer::default() })),
        ]);
        let text = text(respond(events.boxed(), call, None)).await;
        let events: Vec<_> = text.trim_end().split("\n\n").collect();
        assert_eq!(events[0], "event: sources\ndata: {\"sources\":[]}");
        assert_eq!(events[1], "event: token\ndata: {\"text\":\"Ten\\nyears\"}");
        assert!(events[2].starts_with("event: done\ndata: {\"answer\":\"Ten\\nyears\""), "{}", events[2]);
        assert!(events[2].contains("\"request_id\":\"req-1\"") && !events[2].contains("\"sources\""));
        assert_eq!(events.len(), 3);
    }

    #[tokio::test]
    async fn a_failure_is_an_error_event() {
        let (call, _gates) = call(Duration::from_secs(30)).await;
        let done = AnswerEvent::Done(Box::new(Answer::failed(FailureCode::RetrievalFailed)));
        let text = text(respond(stream::iter([done]).boxed(), call, None)).await;
        assert!(text.starts_with("event: error\n") && text.contains("\"code\":\"retrieval_failed\""), "{text}");
    }

    #[tokio::test]
    async fn a_stream_that_breaks_off_says_so() {
        let (call, _gates) = call(Duration::from_secs(30)).await;
        let text = text(respond(stream::iter([AnswerEvent::Token("Te".into())]).boxed(), call, None)).await;
        assert!(text.contains("event: error\n") && text.contains("\"code\":\"internal\""), "{text}");
    }

    #[tokio::test]
    async fn the_deadline_ends_a_stream_that_does_not() {
        let (call, _gates) = call(Duration::ZERO).await;
        let text = text(respond(stream::pending().boxed(), call, None)).await;
        assert!(text.contains("event: error\n") && text.contains("\"code\":\"timeout\""), "{text}");
    }

    #[tokio::test]
    async fn a_client_that_goes_away_stops_the_work() {
        struct Work(Option<tokio::sync::oneshot::Sender<()>>);
        impl Drop for Work {
            fn drop(&mut self) {
                let _ = self.0.take().map(|stopped| stopped.send(()));
            }
        }
        let (call, _gates) = call(Duration::from_secs(3600)).await;
        let (stopped, wait) = tokio::sync::oneshot::channel();
        let work = Work(Some(stopped));
        let events = stream::pending().inspect(move |_: &AnswerEvent| _ = &work);
        drop(respond(events.boxed(), call, None));
        wait.await.expect("the work is dropped");
    }
}
