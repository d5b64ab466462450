use std::sync::mpsc;

use futures::poll;

use super::*;

/// What the gate lets a job do.
enum Let {
    Pass,
    Fail,
    Panic,
}

/// A session that reports each job it was given, and then waits at a gate.
struct Gated {
    given: mpsc::Sender<String>,
    gate: mpsc::Receiver<Let>,
}

impl Session for Gated {
    type Job = String;
    type Output = String;

    fn run(&mut self, job: &String) -> Result<String> {
        self.given.send(job.clone()).unwrap();
        match self.gate.recv().unwrap_or(Let::Pass) {
            Let::Pass => Ok(job.to_uppercase()),
            Let::Fail => Err(Error::new(ErrorKind::Invalid, "no")),
            Let::Panic => panic!("the session panicked, as the test wants"),
        }
    }
}

/// (Dropped in this order: without a gate the session passes, so that a test that fails does not hang.)
struct Bench {
    gate: mpsc::Sender<Let>,
    pool: SessionPool<Gated>,
    given: mpsc::Receiver<String>,
}

impl Bench {
    fn new() -> Self {
        let (given_sender, given) = mpsc::channel();
        let (gate, gate_receiver) = mpsc::channel();
        let session = Gated { given: given_sender, gate: gate_receiver };
        Self { gate, pool: SessionPool::start("test", vec![session], 0).unwrap(), given }
    }

    fn run(&self, jobs: &[&str], priority: Priority) -> Pinned<'_> {
        Box::pin(self.pool.run(jobs.iter().map(|&job| job.to_owned()).collect(), priority))
    }

    /// Occupies the session: what is run next waits in the queue.
    async fn occupy(&self) -> Pinned<'_> {
        let mut first = self.run(&["first"], Priority::Bulk);
        assert!(poll!(&mut first).is_pending());
        assert_eq!(self.given.recv().unwrap(), "first");
        first
    }

    fn open(&self, jobs: usize) {
        (0..jobs).for_each(|_| self.gate.send(Let::Pass).unwrap());
    }

    fn waiting(&self) -> usize {
        self.pool.shared.queue().len()
    }
}

type Pinned<'a> = std::pin::Pin<Box<dyn Future<Output = Result<Vec<String>>> + 'a>>;

#[tokio::test]
async fn a_question_goes_before_waiting_bulk_work() {
    let bench = Bench::new();
    let first = bench.occupy().await;
    let mut bulk = bench.run(&["bulk 1", "bulk 2"], Priority::Bulk);
    assert!(poll!(&mut bulk).is_pending());
    let mut question = bench.run(&["question"], Priority::Interactive);
    assert!(poll!(&mut question).is_pending());

    bench.open(4);
    assert_eq!(question.await.unwrap(), ["QUESTION"]);
    assert_eq!(bulk.await.unwrap(), ["BULK 1", "BULK 2"]);
    assert_eq!(first.await.unwrap(), ["FIRST"]);
    assert_eq!(bench.given.try_iter().collect::<Vec<_>>(), ["question", "bulk 1", "bulk 2"]);
}

#[tokio::test]
async fn a_session_for_questions_takes_nothing_else() {
    let (given_sender, given) = mpsc::channel();
    let session = || {
        let (gate, gate_receiver) = mpsc::channel();
        (gate, Gated { given: given_sender.clone(), gate: gate_receiver })
    };
    let ((bulk_gate, shared), (question_gate, for_questions)) = (session(), session());
    let pool = SessionPool::start("test", vec![shared, for_questions], 1).unwrap();
    let run = |job: &str, priority| Box::pin(pool.run(vec![job.to_owned()], priority));

    let mut first = run("bulk 1", Priority::Bulk);
    let mut second = run("bulk 2", Priority::Bulk);
    assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
    assert_eq!(given.recv().unwrap(), "bulk 1");
    // The shared session is at its gate, and one bulk job waits: the question is answered nevertheless.
    question_gate.send(Let::Pass).unwrap();
    assert_eq!(run("question", Priority::Interactive).await.unwrap(), ["QUESTION"]);
    assert_eq!(given.recv().unwrap(), "question");
    assert_eq!(pool.shared.queue().len(), 1, "bulk 2 waits for the shared session");

    (0..2).for_each(|_| bulk_gate.send(Let::Pass).unwrap());
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (vec!["BULK 1".to_owned()], vec!["BULK 2".to_owned()]));
}

#[tokio::test]
async fn what_nobody_waits_for_never_runs() {
    let bench = Bench::new();
    let first = bench.occupy().await;
    let mut gone = bench.run(&["gone 1", "gone 2"], Priority::Interactive);
    assert!(poll!(&mut gone).is_pending());
    let mut kept = bench.run(&["kept"], Priority::Bulk);
    assert!(poll!(&mut kept).is_pending());
    assert_eq!(bench.waiting(), 3);
    drop(gone);
    assert_eq!(bench.waiting(), 1);

    bench.open(2);
    first.await.unwrap();
    assert_eq!(kept.await.unwrap(), ["KEPT"]);
    assert_eq!(bench.given.try_iter().collect::<Vec<_>>(), ["kept"]);
}

#[tokio::test]
async fn a_full_queue_makes_callers_wait_and_leaves_room_for_questions() {
    let bench = Bench::new();
    let first = bench.occupy().await;
    let many = vec!["bulk"; QUEUE_LIMIT + 20];
    // (Unconstrained: else tokio ends a poll after 128 steps, before the queue is full.)
    let mut bulk = tokio::task::unconstrained(bench.run(&many, Priority::Bulk));
    assert!(poll!(&mut bulk).is_pending());
    // (The job that runs holds no place any more.)
    assert_eq!(bench.waiting(), QUEUE_LIMIT);
    let mut question = bench.run(&["question"], Priority::Interactive);
    assert!(poll!(&mut question).is_pending());
    assert_eq!(bench.waiting(), QUEUE_LIMIT + 1);

    bench.open(many.len());
    first.await.unwrap();
    assert_eq!(question.await.unwrap(), ["QUESTION"]);
    assert_eq!(bulk.await.unwrap().len(), many.len());
}

#[tokio::test]
async fn an_error_or_a_panic_fails_its_job_alone() {
    let bench = Bench::new();
    bench.gate.send(Let::Fail).unwrap();
    let error = bench.run(&["one"], Priority::Bulk).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Invalid, "no"));

    bench.gate.send(Let::Panic).unwrap();
    let error = bench.run(&["two"], Priority::Bulk).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Internal, "the model panicked"));

    bench.open(1);
    assert_eq!(bench.run(&["three"], Priority::Bulk).await.unwrap(), ["THREE"]);
}

#[tokio::test]
async fn the_end_fails_what_waits_and_joins_the_threads() {
    let Bench { pool, given, gate } = Bench::new();
    let push = |job: &str| {
        let permit = pool.room[queue::index(Priority::Bulk)].clone().try_acquire_owned().unwrap();
        pool.push(job.to_owned(), Priority::Bulk, permit)
    };
    let running = push("running");
    assert_eq!(given.recv().unwrap(), "running");
    let waiting = push("waiting");

    let shared = pool.shared.clone();
    let dropping = std::thread::spawn(move || drop(pool));
    assert!(waiting.await.is_err(), "its sender was dropped with the queue");
    assert!(shared.queue().has_ended());
    gate.send(Let::Pass).unwrap();
    assert_eq!(running.await.unwrap().unwrap(), "RUNNING", "a pass that runs is finished");
    dropping.join().unwrap();
    assert!(given.recv().is_err(), "the session is gone with its thread");
}
