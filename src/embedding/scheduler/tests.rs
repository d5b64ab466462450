use std::sync::mpsc;

use futures::poll;

use super::*;

/// What the gate lets a batch do.
enum Let {
    Pass,
    Fail,
    Panic,
}

/// A session that reports each batch it was given, and then waits at a gate.
struct Gated {
    given: mpsc::Sender<Vec<String>>,
    gate: mpsc::Receiver<Let>,
}

impl Session for Gated {
    type Job = String;
    type Output = String;

    fn batch_kind(&self, job: &String) -> Option<BatchKind> {
        BatchKind::of(job)
    }

    fn run(&mut self, jobs: &[String]) -> Result<Vec<String>> {
        self.given.send(jobs.to_vec()).unwrap();
        match self.gate.recv().unwrap_or(Let::Pass) {
            Let::Pass => Ok(jobs.iter().map(|job| job.to_uppercase()).collect()),
            Let::Fail => Err(Error::new(ErrorKind::Invalid, "no")),
            Let::Panic => panic!("the session panicked, as the test wants"),
        }
    }
}

/// (Dropped in this order: without a gate the session passes, so that a test that fails does not hang.)
struct Bench {
    gate: mpsc::Sender<Let>,
    pool: SessionPool<Gated>,
    given: mpsc::Receiver<Vec<String>>,
}

impl Bench {
    fn new() -> Self {
        let (given_sender, given) = mpsc::channel();
        let (gate, gate_receiver) = mpsc::channel();
        let session = Gated { given: given_sender, gate: gate_receiver };
        Self { gate, pool: SessionPool::start("test", vec![session]).unwrap(), given }
    }

    fn run(&self, jobs: &[&str], priority: Priority) -> Pinned<'_> {
        Box::pin(self.pool.run(jobs.iter().map(|&job| job.to_owned()).collect(), priority))
    }

    /// Occupies the session: what is run next waits in the queue.
    async fn occupy(&self) -> Pinned<'_> {
        let mut first = self.run(&["first"], Priority::Bulk);
        assert!(poll!(&mut first).is_pending());
        assert_eq!(self.given.recv().unwrap(), ["first"]);
        first
    }

    fn open(&self, batches: usize) {
        (0..batches).for_each(|_| self.gate.send(Let::Pass).unwrap());
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

    bench.open(3);
    assert_eq!(question.await.unwrap(), ["QUESTION"]);
    assert_eq!(bulk.await.unwrap(), ["BULK 1", "BULK 2"]);
    assert_eq!(first.await.unwrap(), ["FIRST"]);
    assert_eq!(bench.given.try_iter().collect::<Vec<_>>(), [vec!["question"], vec!["bulk 1", "bulk 2"]]);
}

#[tokio::test]
async fn a_batch_holds_texts_of_like_length() {
    let bench = Bench::new();
    let first = bench.occupy().await;
    let (middle, long) = ("m".repeat(200), "l".repeat(2000));
    let jobs = ["a", &long, "b", &middle, &middle, &middle, "c", &long];
    let mut all = bench.run(&jobs, Priority::Bulk);
    assert!(poll!(&mut all).is_pending());

    bench.open(6);
    first.await.unwrap();
    let outputs = all.await.unwrap();
    assert_eq!(outputs, jobs.map(str::to_uppercase), "outputs keep the order of the jobs");
    let lengths = |batch: Vec<String>| batch.iter().map(String::len).collect::<Vec<_>>();
    let batches: Vec<_> = bench.given.try_iter().map(lengths).collect();
    assert_eq!(batches, [vec![1, 1, 1], vec![2000], vec![200, 200], vec![200], vec![2000]]);
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
    assert_eq!(bench.given.try_iter().collect::<Vec<_>>(), [vec!["kept"]]);
}

#[tokio::test]
async fn a_full_queue_makes_callers_wait_and_leaves_room_for_questions() {
    let bench = Bench::new();
    let first = bench.occupy().await;
    let many = vec!["bulk"; QUEUE_LIMIT + 20];
    // (Unconstrained: else tokio ends a poll after 128 steps, before the queue is full.)
    let mut bulk = tokio::task::unconstrained(bench.run(&many, Priority::Bulk));
    assert!(poll!(&mut bulk).is_pending());
    // (The first batch holds no place any more.)
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
async fn an_error_or_a_panic_fails_its_batch_alone() {
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
    assert_eq!(given.recv().unwrap(), ["running"]);
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

#[test]
fn length_classes() {
    assert_eq!(BatchKind::of("").map(BatchKind::max_jobs), Some(8));
    assert_eq!(BatchKind::of(&"a".repeat(64)), BatchKind::of("a"));
    assert_eq!(BatchKind::of(&"a".repeat(65)).map(BatchKind::max_jobs), Some(4));
    assert_eq!(BatchKind::of(&"a".repeat(256)).map(BatchKind::max_jobs), Some(2));
    assert_eq!(BatchKind::of(&"a".repeat(257)), None);
}
