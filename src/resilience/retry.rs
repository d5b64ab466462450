//! Trying again: a few times, with growing and random waits, and never so often that retries become the load.

use std::time::Duration;

use rand::Rng;
use tower::retry::budget::{Budget, TpsBudget};

use super::Deadline;
use crate::error::Result;
use crate::telemetry::metrics;

/// How often and how long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Tries in all, the first included.
    pub tries: u32,
    /// The longest wait before the second try; each later one doubles it.
    pub base: Duration,
    /// The longest wait of all.
    pub cap: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { tries: 3, base: Duration::from_secs(1), cap: Duration::from_secs(10) }
    }
}

impl Policy {
    /// The longest wait before try number `next` (the first is 1).
    fn step(&self, next: u32) -> Duration {
        let doublings = next.saturating_sub(2).min(16);
        self.base.saturating_mul(1 << doublings).min(self.cap)
    }
}

/// Retries beyond 20 % of the successful calls of the last ten seconds are only made up to ten per second, so that a
/// dependency that is down is not kept down by us.
const BUDGET_WINDOW: Duration = Duration::from_secs(10);
const BUDGET_PER_SECOND: u32 = 10;
const BUDGET_SHARE: f32 = 0.2;

/// Tries again what failed for the moment ([`crate::error::Error::is_transient`]). One per dependency: its budget is
/// shared by all calls.
#[derive(Debug)]
pub struct Retry {
    target: &'static str,
    policy: Policy,
    budget: TpsBudget,
}

impl Retry {
    /// Retries for `target`, the name of the dependency in the metrics.
    pub fn new(target: &'static str, policy: Policy) -> Self {
        Self { target, policy, budget: TpsBudget::new(BUDGET_WINDOW, BUDGET_PER_SECOND, BUDGET_SHARE) }
    }

    /// Runs `attempt` until it succeeds, fails for good, or a further try is not worth it: tries or budget are used
    /// up, or the wait would reach past the deadline. The error is the last try's.
    ///
    /// The wait is random between half of the step and the step (equal jitter), so that callers that failed together
    /// do not come back together; longer where the dependency asks for it ([`crate::error::Error::retry_after`]).
    pub async fn run<T, F, W>(&self, deadline: Deadline, mut attempt: F) -> Result<T>
    where
        F: FnMut() -> W,
        W: Future<Output = Result<T>>,
    {
        let mut tries = 1;
        loop {
            let error = match attempt().await {
                Ok(value) => {
                    self.budget.deposit();
                    return Ok(value);
                }
                Err(error) => error,
            };
            let wait = self.policy.step(tries + 1).mul_f64(0.5 + rand::rng().random::<f64>() / 2.0);
            let wait = wait.max(error.retry_after().unwrap_or_default());
            let hopeless = !error.is_transient() || tries >= self.policy.tries || wait >= deadline.remaining();
            if hopeless || !self.budget.withdraw() {
                return Err(error);
            }
            tracing::debug!(target = self.target, tries, error = error.chain(), "trying again");
            tokio::time::sleep(wait).await;
            tries += 1;
            metrics::RETRIES.add(1, &[("target", self.target.to_owned())]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::error::{Error, ErrorKind};

    const SOON: Policy = Policy { tries: 3, base: Duration::ZERO, cap: Duration::ZERO };

    fn far() -> Deadline {
        Deadline::after(Duration::from_secs(3600))
    }

    /// Runs an attempt that fails `failures` times; returns the number of tries and whether it succeeded.
    async fn tries(retry: &Retry, deadline: Deadline, failures: u32, kind: ErrorKind) -> (u32, bool) {
        let made = Cell::new(0);
        let result = retry
            .run(deadline, || async {
                made.set(made.get() + 1);
                if made.get() <= failures { Err(Error::new(kind, "no")) } else { Ok(()) }
            })
            .await;
        (made.get(), result.is_ok())
    }

    #[tokio::test]
    async fn transient_errors_are_tried_three_times() {
        let retry = Retry::new("test", SOON);
        assert_eq!(tries(&retry, far(), 0, ErrorKind::Unavailable).await, (1, true));
        assert_eq!(tries(&retry, far(), 2, ErrorKind::Unavailable).await, (3, true));
        assert_eq!(tries(&retry, far(), 9, ErrorKind::Timeout).await, (3, false));
    }

    #[tokio::test]
    async fn other_errors_are_final() {
        let retry = Retry::new("test", SOON);
        for kind in [ErrorKind::Invalid, ErrorKind::NotFound, ErrorKind::Conflict, ErrorKind::Internal] {
            assert_eq!(tries(&retry, far(), 9, kind).await, (1, false), "{kind:?}");
        }
    }

    #[tokio::test]
    async fn nothing_is_tried_past_the_deadline() {
        let retry = Retry::new("test", Policy::default());
        let over = Deadline::after(Duration::ZERO);
        assert_eq!(tries(&retry, over, 9, ErrorKind::Unavailable).await, (1, false));
    }

    #[tokio::test]
    async fn a_dependency_that_asks_to_be_left_alone_is_not_tried_before() {
        let (retry, pause, made) = (Retry::new("test", SOON), Duration::from_millis(20), Cell::new(0));
        let busy = || async {
            made.set(made.get() + 1);
            if made.get() > 1 { Ok(()) } else { Err(Error::unavailable("busy", "429").with_retry_after(pause)) }
        };
        let started = tokio::time::Instant::now();
        assert!(retry.run(far(), busy).await.is_ok() && started.elapsed() >= pause);
        made.set(0);
        assert!(retry.run(Deadline::after(pause / 2), busy).await.is_err(), "it would be too late");
        assert_eq!(made.get(), 1);
    }

    #[tokio::test]
    async fn the_budget_bounds_retries_of_a_dependency_that_is_down() {
        let retry = Retry::new("test", SOON);
        let mut made = 0;
        for _ in 0..1000 {
            made += tries(&retry, far(), 9, ErrorKind::Unavailable).await.0;
        }
        let reserve = BUDGET_PER_SECOND * u32::try_from(BUDGET_WINDOW.as_secs()).unwrap();
        assert!((1000..=1000 + 2 * reserve).contains(&made), "{made} tries for 1000 calls");
    }

    #[test]
    fn waits_double_up_to_the_cap() {
        let steps: Vec<u64> = (2..=7).map(|next| Policy::default().step(next).as_secs()).collect();
        assert_eq!(steps, [1, 2, 4, 8, 10, 10]);
    }
}
