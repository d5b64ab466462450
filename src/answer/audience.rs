//! Who gets the pieces of an answer while it is made.

use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::AnswerEvent;
use crate::llm::ScoredPassage;
use crate::resilience::Deadline;

/// Pieces that wait for a slow reader before the work waits too.
const BUFFER: usize = 16;

/// Whoever reads along, or nobody.
#[derive(Debug)]
pub(super) struct Audience {
    sender: Option<mpsc::Sender<AnswerEvent>>,
    shown: bool,
}

impl Audience {
    /// Nobody reads along: the answer is wanted whole.
    pub(super) fn nobody() -> Self {
        Self { sender: None, shown: false }
    }

    /// Whether something was shown that cannot be taken back.
    pub(super) fn has_seen(&self) -> bool {
        self.shown
    }

    /// Shows the sources, the first time.
    pub(super) async fn sources(&mut self, sources: &[ScoredPassage], deadline: Deadline) {
        if !self.shown {
            self.show(|| AnswerEvent::Sources(sources.to_vec()), deadline).await;
        }
    }

    /// Shows text.
    pub(super) async fn text(&mut self, text: &str, deadline: Deadline) {
        if !text.is_empty() {
            self.show(|| AnswerEvent::Token(text.to_owned()), deadline).await;
        }
    }

    /// A reader that stalls does not hold the work longer than its deadline, which then ends it.
    async fn show(&mut self, event: impl FnOnce() -> AnswerEvent, deadline: Deadline) {
        if let Some(sender) = &self.sender {
            self.shown = true;
            let event = event();
            let send = async {
                // A reader that went away is noticed where the work is driven.
                let _ = sender.send(event).await;
                Ok(())
            };
            let _ = deadline.run("the reader", send).await;
        }
    }
}

/// The events of a piece of work that shows its progress to an [`Audience`] and ends in a last event. The stream drives
/// the work: dropping it stops it.
pub(super) fn stream<W>(start: impl FnOnce(Audience) -> W) -> BoxStream<'static, AnswerEvent>
where
    W: Future<Output = AnswerEvent> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(BUFFER);
    let work = start(Audience { sender: Some(sender), shown: false });
    // The last event must not overtake those that wait in the channel, so it is kept until they are out.
    let (last, finished) = tokio::sync::oneshot::channel();
    let work = stream::once(async move { drop(last.send(work.await)) }).filter_map(|()| async { None });
    let pieces = stream::select(ReceiverStream::new(receiver), work);
    pieces.chain(stream::once(finished).filter_map(|event| async { event.ok() })).boxed()
}
