//! Identical questions at the same time are answered once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

use super::Answer;

type Slot = tokio::sync::Mutex<State>;

#[derive(Debug)]
enum State {
    /// Nobody has finished yet; who holds the lock is at it.
    Waiting,
    /// The answer for all who wait.
    Landed(Box<Answer>),
    /// It could not be shared; each for themselves.
    Unshared,
}

/// Who is answering what.
#[derive(Debug, Default)]
pub(super) struct Flights {
    slots: Mutex<HashMap<String, Weak<Slot>>>,
}

/// What a question finds.
#[derive(Debug)]
pub(super) enum Joined {
    /// It is the first, or those before it went away: it must answer, and [`Leader::land`].
    Leader(Leader),
    /// An identical question was answered.
    Landed(Box<Answer>),
    /// An identical question was answered in a way that is not to be shared: answer it alone.
    Alone,
}

/// The one that answers. If it is dropped without landing, the next in line is the leader.
#[derive(Debug)]
pub(super) struct Leader {
    state: OwnedMutexGuard<State>,
}

impl Flights {
    /// Waits for an identical question that is being answered, if there is one.
    pub(super) async fn join(&self, key: &str) -> Joined {
        let state = self.slot(key).lock_owned().await;
        match &*state {
            State::Waiting => Joined::Leader(Leader { state }),
            State::Landed(answer) => Joined::Landed(answer.clone()),
            State::Unshared => Joined::Alone,
        }
    }

    fn slot(&self, key: &str) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(key).and_then(Weak::upgrade) {
            return slot;
        }
        // Those that nobody waits for any more; so there are never more than questions at work, and one.
        slots.retain(|_, slot| slot.strong_count() > 0);
        let slot = Arc::new(Slot::new(State::Waiting));
        slots.insert(key.to_owned(), Arc::downgrade(&slot));
        slot
    }
}

impl Leader {
    /// Gives the answer to those who wait; `None`: they answer for themselves, all at once.
    pub(super) fn land(mut self, answer: Option<&Answer>) {
        *self.state = answer.map_or(State::Unshared, |answer| State::Landed(Box::new(answer.clone())));
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    async fn lead(flights: &Flights) -> Leader {
        match flights.join("key").await {
            Joined::Leader(leader) => leader,
            other => panic!("not the leader: {other:?}"),
        }
    }

    #[tokio::test]
    async fn one_answers_for_all() {
        let flights = Flights::default();
        let leader = lead(&flights).await;
        let mut second = Box::pin(flights.join("key"));
        let mut third = Box::pin(flights.join("key"));
        assert!(second.as_mut().now_or_never().is_none() && third.as_mut().now_or_never().is_none());
        assert!(matches!(flights.join("other").await, Joined::Leader(_)), "other questions do not wait");

        let answer = Answer { answer: "ten".to_owned(), ..Answer::default() };
        leader.land(Some(&answer));
        for joined in [second.await, third.await] {
            assert!(matches!(joined, Joined::Landed(shared) if *shared == answer));
        }
        drop(lead(&flights).await);
        assert_eq!(flights.slots.lock().unwrap().len(), 1, "nothing is kept but the last");
    }

    #[tokio::test]
    async fn a_leader_that_goes_away_hands_over() {
        let flights = Flights::default();
        let leader = lead(&flights).await;
        let mut second = Box::pin(flights.join("key"));
        assert!(second.as_mut().now_or_never().is_none());
        drop(leader);
        assert!(matches!(second.await, Joined::Leader(_)));
    }

    #[tokio::test]
    async fn what_is_not_shared_is_answered_by_each() {
        let flights = Flights::default();
        let leader = lead(&flights).await;
        let mut second = Box::pin(flights.join("key"));
        assert!(second.as_mut().now_or_never().is_none());
        leader.land(None);
        assert!(matches!(second.await, Joined::Alone));
    }
}
