//! A breaker: after some failures in a row a dependency is left alone for a while, so that its callers fail at once
//! instead of each waiting for it; then one probe finds out whether it is back.
//!
//! ```text
//!             failures in a row                  open_for passed
//!   closed ───────────────────────▶ open ───────────────────────────▶ half-open (one probe)
//!     ▲                              ▲                                   │         │
//!     │                              └───────────── it failed ───────────┘         │
//!     └──────────────────────────────────────────── it succeeded ──────────────────┘
//! ```

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::telemetry::metrics;

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it stays open before a probe.
    pub open_for: Duration,
    /// A call that its caller gave up on after this long counts as a failure, for that is what a dependency that
    /// hangs looks like. Giving up sooner (a client that went away) counts as nothing.
    pub patience: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { failures: 5, open_for: Duration::from_secs(30), patience: Duration::from_secs(4) }
    }
}

/// What a breaker does with the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// Lets it through.
    Closed,
    /// A probe is on its way, or the next call will be one.
    HalfOpen,
    /// Refuses it.
    Open,
}

impl BreakerState {
    /// The name in `/ready`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }

    fn metric(self) -> f64 {
        match self {
            Self::Closed => 0.0,
            Self::HalfOpen => 1.0,
            Self::Open => 2.0,
        }
    }
}

/// A breaker of one dependency; clones share it.
#[derive(Clone)]
pub struct Breaker {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    policy: Policy,
    machine: Mutex<Machine>,
}

impl Breaker {
    /// A closed breaker for the dependency `name`, as errors, metrics and `/ready` call it.
    pub fn new(name: impl Into<String>, policy: Policy) -> Self {
        let shared = Shared { name: name.into(), policy, machine: Mutex::new(Machine::default()) };
        let breaker = Self { shared: Arc::new(shared) };
        breaker.shared.publish(BreakerState::Closed);
        breaker
    }

    /// The dependency's name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// What it does with the next call.
    pub fn state(&self) -> BreakerState {
        self.shared.machine().state(Instant::now())
    }

    /// The right to make one call, or [`ErrorKind::Unavailable`] at once.
    pub fn admit(&self) -> Result<Permit> {
        let now = Instant::now();
        let ticket = self.shared.step(|machine, _| machine.admit(now));
        match ticket {
            Some(ticket) => {
                let shared = Arc::clone(&self.shared);
                Ok(Permit { shared, ticket, since: now, on_drop: Outcome::GivenUp, settled: false })
            }
            None => Err(Error::new(ErrorKind::Unavailable, format!("{} is not available just now", self.shared.name))),
        }
    }

    /// Makes a call through the breaker. Transient and internal errors count as failures; a dependency that says
    /// "invalid" or "not found" works.
    pub async fn run<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let permit = self.admit()?;
        let result = call.await;
        permit.settle(&result);
        result
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("name", &self.shared.name).field("state", &self.state()).finish()
    }
}

impl Shared {
    fn machine(&self) -> MutexGuard<'_, Machine> {
        // The machine is valid after every statement, so a panic elsewhere does not spoil it.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the machine, and shows what changed.
    fn step<T>(&self, change: impl FnOnce(&mut Machine, &Policy) -> T) -> T {
        let (result, before, after) = {
            let mut machine = self.machine();
            let before = machine.phase_state();
            let result = change(&mut machine, &self.policy);
            (result, before, machine.phase_state())
        };
        if before != after {
            self.publish(after);
            if after == BreakerState::Open {
                metrics::BREAKER_OPENED.add(1, &[("breaker", self.name.clone())]);
            }
            tracing::warn!(breaker = self.name, from = before.as_str(), to = after.as_str(), "breaker changed");
        }
        result
    }

    fn publish(&self, state: BreakerState) {
        metrics::BREAKER_STATE.set(state.metric(), &[("breaker", self.name.clone())]);
    }
}

/// The right to make one call. It must be told how the call went; dropped without, the call was given up.
pub struct Permit {
    shared: Arc<Shared>,
    ticket: Ticket,
    since: Instant,
    on_drop: Outcome,
    settled: bool,
}

impl Permit {
    /// The call ended so.
    pub fn settle<T>(mut self, result: &Result<T>) {
        self.finish(match result {
            Err(error) if error.is_transient() || error.kind() == ErrorKind::Internal => Outcome::Failed,
            _ => Outcome::Succeeded,
        });
    }

    /// The dependency has begun to answer: giving up from now on says nothing against it.
    pub fn progressed(&mut self) {
        self.on_drop = Outcome::Succeeded;
    }

    fn finish(&mut self, outcome: Outcome) {
        self.settled = true;
        let (ticket, now) = (self.ticket, Instant::now());
        self.shared.step(|machine, policy| machine.finish(ticket, outcome, now, policy));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let hung = self.on_drop == Outcome::GivenUp && self.since.elapsed() >= self.shared.policy.patience;
        self.finish(if hung { Outcome::Failed } else { self.on_drop });
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("breaker", &self.shared.name).field("ticket", &self.ticket).finish()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Succeeded,
    Failed,
    /// The caller went away; the dependency may be well or not.
    GivenUp,
}

/// Which call, and of which phase: what a call of an earlier phase finds out is old news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticket {
    phase: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed { failures: u32 },
    Open { until: Instant },
    Probing,
}

/// The breaker without clock, lock and metrics.
#[derive(Debug)]
struct Machine {
    phase: Phase,
    number: u64,
}

impl Default for Machine {
    fn default() -> Self {
        Self { phase: Phase::Closed { failures: 0 }, number: 0 }
    }
}

impl Machine {
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.number += 1;
    }

    fn phase_state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed { .. } => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::Probing => BreakerState::HalfOpen,
        }
    }

    fn state(&self, now: Instant) -> BreakerState {
        match self.phase {
            Phase::Open { until } if now >= until => BreakerState::HalfOpen,
            _ => self.phase_state(),
        }
    }

    fn admit(&mut self, now: Instant) -> Option<Ticket> {
        match self.phase {
            Phase::Closed { .. } => {}
            Phase::Open { until } if now >= until => self.enter(Phase::Probing),
            Phase::Open { .. } | Phase::Probing => return None,
        }
        Some(Ticket { phase: self.number })
    }

    fn finish(&mut self, ticket: Ticket, outcome: Outcome, now: Instant, policy: &Policy) {
        if ticket.phase != self.number {
            return;
        }
        let open = Phase::Open { until: now + policy.open_for };
        match (self.phase, outcome) {
            (Phase::Closed { failures }, Outcome::Failed) if failures + 1 >= policy.failures => self.enter(open),
            (Phase::Closed { failures }, Outcome::Failed) => self.phase = Phase::Closed { failures: failures + 1 },
            (Phase::Closed { .. }, Outcome::Succeeded) => self.phase = Phase::Closed { failures: 0 },
            (Phase::Probing, Outcome::Failed) => self.enter(open),
            (Phase::Probing, Outcome::Succeeded) => self.enter(Phase::Closed { failures: 0 }),
            // The next call is the probe then: a probe that was given up must not leave the breaker shut for good.
            (Phase::Probing, Outcome::GivenUp) => self.enter(Phase::Open { until: now }),
            (Phase::Closed { .. }, Outcome::GivenUp) | (Phase::Open { .. }, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy { failures: 5, open_for: Duration::from_secs(30), patience: Duration::from_secs(4) };

    fn fail(machine: &mut Machine, times: u32, now: Instant) {
        for _ in 0..times {
            let ticket = machine.admit(now).expect("admitted");
            machine.finish(ticket, Outcome::Failed, now, &POLICY);
        }
    }

    #[test]
    fn closed_lets_calls_through_until_five_failures_in_a_row() {
        let (mut machine, now) = (Machine::default(), Instant::now());
        fail(&mut machine, 4, now);
        let ticket = machine.admit(now).unwrap();
        machine.finish(ticket, Outcome::Succeeded, now, &POLICY);
        fail(&mut machine, 4, now);
        assert_eq!(machine.state(now), BreakerState::Closed);
        fail(&mut machine, 1, now);
        assert_eq!(machine.state(now), BreakerState::Open);
    }

    #[test]
    fn open_refuses_for_thirty_seconds_then_one_probe_decides() {
        let (mut machine, start) = (Machine::default(), Instant::now());
        fail(&mut machine, 5, start);
        assert_eq!(machine.admit(start + Duration::from_millis(29_999)), None);

        let later = start + POLICY.open_for;
        assert_eq!(machine.state(later), BreakerState::HalfOpen);
        let probe = machine.admit(later).expect("a probe");
        assert_eq!(machine.admit(later), None, "one probe at a time");
        machine.finish(probe, Outcome::Failed, later, &POLICY);
        assert_eq!(machine.state(later), BreakerState::Open);

        let later = later + POLICY.open_for;
        let probe = machine.admit(later).expect("another probe");
        machine.finish(probe, Outcome::Succeeded, later, &POLICY);
        assert_eq!(machine.state(later), BreakerState::Closed);
    }

    #[test]
    fn a_probe_that_was_given_up_is_followed_by_another() {
        let (mut machine, start) = (Machine::default(), Instant::now());
        fail(&mut machine, 5, start);
        let later = start + POLICY.open_for;
        let probe = machine.admit(later).unwrap();
        machine.finish(probe, Outcome::GivenUp, later, &POLICY);
        assert_eq!(machine.state(later), BreakerState::HalfOpen);
        assert!(machine.admit(later).is_some());
    }

    #[test]
    fn calls_of_an_earlier_phase_decide_nothing() {
        let (mut machine, start) = (Machine::default(), Instant::now());
        let slow = machine.admit(start).unwrap();
        fail(&mut machine, 5, start);
        machine.finish(slow, Outcome::Succeeded, start, &POLICY);
        assert_eq!(machine.state(start), BreakerState::Open);
    }
}
