//! A load generator that costs little beside the server: HTTP/1.1 over kept connections, bodies read and thrown away.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rag_api::error::{Error, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What is asked.
pub(crate) trait Target {
    /// `HOST:PORT`.
    fn address(&self) -> &str;

    /// Seconds of processor time so far.
    fn cpu_seconds(&self) -> f64;
}

/// A server in a process of its own, so that its processor time and its memory are its own.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
}

impl Server {
    /// Runs this program again with `arguments` and waits until it listens and is ready.
    pub(crate) async fn start(arguments: &[String]) -> Result<Self> {
        let program = std::env::current_exe().map_err(broken)?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(broken)?;
        let mut address = String::new();
        if let Some(output) = child.stdout.take() {
            std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut address).map_err(broken)?;
        }
        let server = Self { child, address: address.trim().to_owned() };
        let mut connection = Connection::open(&server.address).await?;
        while connection.send(&get("/ready")).await? != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(server)
    }

    /// Resident memory in MiB.
    pub(crate) fn memory(&self) -> f64 {
        resident(&self.child.id().to_string(), "VmRSS:")
    }
}

impl Target for Server {
    fn address(&self) -> &str {
        &self.address
    }

    fn cpu_seconds(&self) -> f64 {
        cpu_seconds(&self.child.id().to_string())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Seconds of processor time of a process so far, to a hundredth.
pub(crate) fn cpu_seconds(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) / 100.0
}

/// A field of a process's status in MiB.
pub(crate) fn resident(pid: &str, field: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()).and_then(|text| text.parse::<f64>().ok());
    kibibytes.unwrap_or_default() / 1024.0
}

/// One request, as it goes over the wire.
pub(crate) type Wire = Arc<[u8]>;

pub(crate) fn get(path: &str) -> Wire {
    format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n").into_bytes().into()
}

pub(crate) fn post(path: &str, key: &str, body: &serde_json::Value) -> Wire {
    let body = body.to_string();
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nhost: bench\r\nx-api-key: {key}\r\n");
    format!("{head}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes().into()
}

pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await.map_err(broken)?;
        stream.set_nodelay(true).map_err(broken)?;
        Ok(Self { stream, buffer: Vec::with_capacity(64 * 1024) })
    }

    /// Sends a request and reads its response; the status.
    pub(crate) async fn send(&mut self, request: &Wire) -> Result<u16> {
        self.stream.write_all(request).await.map_err(broken)?;
        self.buffer.clear();
        loop {
            if let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.and_then(|length| length.trim().parse().ok()).unwrap_or_default();
                if self.buffer.len() >= end + 4 + length {
                    let status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_default();
                    return Ok(status);
                }
            }
            if self.stream.read_buf(&mut self.buffer).await.map_err(broken)? == 0 {
                return Err(broken(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

/// What a run of requests gave.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Milliseconds of each request that was answered with 200.
    pub(crate) good: Vec<f64>,
    /// Milliseconds of each that was refused.
    pub(crate) refused: Vec<f64>,
    pub(crate) seconds: f64,
    /// The server's processor time.
    pub(crate) cpu_seconds: f64,
}

impl Outcome {
    fn note(&mut self, status: u16, started: Instant) {
        let milliseconds = started.elapsed().as_secs_f64() * 1e3;
        if status == 200 { self.good.push(milliseconds) } else { self.refused.push(milliseconds) }
    }

    fn add(&mut self, other: Self) {
        self.good.extend(other.good);
        self.refused.extend(other.refused);
    }

    /// Good answers per second.
    pub(crate) fn rate(&self) -> f64 {
        self.good.len() as f64 / self.seconds
    }

    /// Milliseconds of processor time of the server for each answer.
    pub(crate) fn cpu_each(&self) -> f64 {
        self.cpu_seconds * 1e3 / (self.good.len() + self.refused.len()).max(1) as f64
    }
}

/// Sends `total` requests over `connections`, each the next one as soon as its last one is answered.
pub(crate) async fn closed(
    server: &impl Target,
    connections: usize,
    total: usize,
    request: impl Fn(usize) -> Wire + Send + Sync + 'static,
) -> Result<Outcome> {
    let (request, next) = (Arc::new(request), Arc::new(AtomicUsize::new(0)));
    let (started, cpu) = (Instant::now(), server.cpu_seconds());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let (request, next) = (request.clone(), next.clone());
        let mut connection = Connection::open(server.address()).await?;
        tasks.spawn(async move {
            let mut outcome = Outcome::default();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= total {
                    return Ok::<_, Error>(outcome);
                }
                let wire = request(number);
                let started = Instant::now();
                outcome.note(connection.send(&wire).await?, started);
            }
        });
    }
    let mut whole = gathered(tasks).await?;
    whole.seconds = started.elapsed().as_secs_f64();
    whole.cpu_seconds = server.cpu_seconds() - cpu;
    Ok(whole)
}

/// Sends `rate` requests a second for so long, whatever the answers; each waits for a free connection of `connections`.
pub(crate) async fn open(
    server: &impl Target,
    connections: usize,
    rate: f64,
    lasting: Duration,
    request: impl Fn(usize) -> Wire + Send + Sync + 'static,
) -> Result<Outcome> {
    let request = Arc::new(request);
    let (started, cpu) = (Instant::now(), server.cpu_seconds());
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 0..connections {
        let request = request.clone();
        let mut connection = Connection::open(server.address()).await?;
        tasks.spawn(async move {
            let mut outcome = Outcome::default();
            let every = Duration::from_secs_f64(connections as f64 / rate);
            let mut due = tokio::time::Instant::from_std(started) + every.mul_f64(lane as f64 / connections as f64);
            let mut number = lane;
            while due.into_std() < started + lasting {
                tokio::time::sleep_until(due).await;
                let wire = request(number);
                let sent = Instant::now();
                outcome.note(connection.send(&wire).await?, sent);
                number += connections;
                due += every;
            }
            Ok::<_, Error>(outcome)
        });
    }
    let mut whole = gathered(tasks).await?;
    whole.seconds = started.elapsed().as_secs_f64();
    whole.cpu_seconds = server.cpu_seconds() - cpu;
    Ok(whole)
}

async fn gathered(mut tasks: tokio::task::JoinSet<Result<Outcome>>) -> Result<Outcome> {
    let mut whole = Outcome::default();
    while let Some(outcome) = tasks.join_next().await {
        whole.add(outcome.map_err(|error| Error::internal("a lane of the load generator failed", error))??);
    }
    Ok(whole)
}

fn broken(error: std::io::Error) -> Error {
    Error::internal("the benchmark's connection broke", error)
}

/// The share `p` of sorted values is at most this.
pub(crate) fn percentile(values: &[f64], p: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = ((sorted.len() as f64 * p).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}
