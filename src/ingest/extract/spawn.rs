//! The parent's side: starts the child, bounds what it takes and says, and tells its ways of dying apart.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::child::{self, Reply};
use super::{ExtractRequest, Extracted, Extractor, Limits, failure};
use crate::document::Failure;
use crate::error::{Error, ErrorKind, Result};

/// Most bytes of the child's standard error that are kept (its last words are what matters for a crash).
const MAX_STDERR: u64 = 16 << 10;

pub(super) async fn run(extractor: &Extractor, request: &ExtractRequest) -> Result<Result<Extracted, Failure>> {
    let mut command = Command::new(&extractor.program);
    command.arg("extract").args(child::arguments(extractor, request));
    hear(command, extractor.limits).await
}

/// Runs a child to its end, or to the end of its time.
///
/// The limit of CPU time says that a document takes too long. Wall-clock time is only a guard round it: a child that has
/// had twice its CPU time by the clock without using it up did not get a core, or hangs. That is no property of the
/// document, so it is an error of ours, which the worker tries again a few times.
async fn hear(mut command: Command, limits: Limits) -> Result<Result<Extracted, Failure>> {
    confine(&mut command);
    let child =
        command.spawn().map_err(|error| Error::unavailable("the reader of documents could not be started", error))?;
    let wall = Duration::from_secs(limits.cpu_seconds().saturating_mul(2));
    match tokio::time::timeout(wall, finish(child, limits)).await {
        Ok(outcome) => outcome,
        // The child went down with the future that owned it.
        Err(elapsed) => {
            Err(Error::internal(format!("the reader of documents was not done after {} s", wall.as_secs()), elapsed))
        }
    }
}

fn confine(command: &mut Command) {
    command
        .env_clear()
        // Each of glibc's arenas reserves 64 MiB of the address space that the child is limited in.
        .env("MALLOC_ARENA_MAX", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // What a terminal sends to the server's group (Ctrl-C) is the server's to act on.
        .process_group(0)
        .kill_on_drop(true);
}

async fn finish(mut child: Child, limits: Limits) -> Result<Result<Extracted, Failure>> {
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(Error::new(ErrorKind::Internal, "the reader of documents has no pipes"));
    };
    // JSON writes a line break or a quotation mark as two bytes.
    let most = limits.max_text_bytes.saturating_mul(2).saturating_add(1 << 20);
    let read = async {
        let (said, complained) = tokio::join!(read_up_to(stdout, most), read_up_to(stderr, MAX_STDERR));
        let status = child.wait().await;
        (said, complained, status)
    };
    let (said, complained, status) = read.await;
    let internal = |error: std::io::Error| Error::internal("the reader of documents could not be heard", error);
    let (said, complained, status) =
        (said.map_err(internal)?, complained.map_err(internal)?, status.map_err(internal)?);
    if said.cut {
        return Ok(Err(failure::too_large("it holds more text than the limit")));
    }
    if !status.success() {
        return died(status, &String::from_utf8_lossy(&complained.bytes), limits);
    }
    let reply = tokio::task::spawn_blocking(move || serde_json::from_slice::<Reply>(&said.bytes))
        .await
        .map_err(|error| Error::internal("the reader's answer could not be parsed", error))?
        .map_err(|error| Error::internal("the reader's answer is not what it should be", error))?;
    match reply {
        Reply::Extracted(extracted) => Ok(Ok(extracted)),
        Reply::Failed(failure) => Ok(Err(failure)),
        Reply::Broken(message) => Err(Error::new(ErrorKind::Internal, message)),
    }
}

struct Said {
    bytes: Vec<u8>,
    cut: bool,
}

/// Reads to the end, keeping at most `most` bytes; the rest is read too, so that the child does not block on a full pipe.
async fn read_up_to(mut pipe: impl AsyncRead + Unpin, most: u64) -> std::io::Result<Said> {
    let mut bytes = Vec::new();
    (&mut pipe).take(most).read_to_end(&mut bytes).await?;
    let rest = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    Ok(Said { bytes, cut: rest > 0 })
}

/// What a child's death says of the document.
fn died(status: ExitStatus, complained: &str, limits: Limits) -> Result<Result<Extracted, Failure>> {
    let memory = limits.memory >> 20;
    let out_of_memory = || failure::too_large(format!("reading it needs more than {memory} MiB of memory"));
    if status.code() == Some(child::EXIT_BAD_START) {
        return Err(Error::new(ErrorKind::Internal, "the reader of documents could not limit itself")
            .with_source(complained.trim().to_owned()));
    }
    if let Some(HUP | INT | TERM) = status.signal() {
        // The machine or the service is being stopped.
        return Err(Error::unavailable("the reader of documents was told to stop", status.to_string()));
    }
    tracing::debug!(%status, stderr = complained.trim(), "extraction child died");
    // Rust and C++ say so when an allocation fails; the kernel's own killer sends SIGKILL.
    let says_memory =
        ["memory allocation", "bad_alloc", "out of memory"].iter().any(|words| complained.contains(words));
    // pdfium aborts without a word; whatever else aborts says why.
    let is_silent = complained.trim().is_empty();
    Ok(Err(match status.signal() {
        Some(ABRT) if is_silent => out_of_memory(),
        Some(XCPU) => failure::timeout(limits.cpu_seconds()),
        Some(KILL) => out_of_memory(),
        _ if says_memory => out_of_memory(),
        _ => failure::malformed("it crashes the program that reads it"),
    }))
}

// Signal numbers that are the same on every Linux and BSD this runs on.
const HUP: i32 = 1;
const INT: i32 = 2;
const ABRT: i32 = 6;
const KILL: i32 = 9;
const TERM: i32 = 15;
const XCPU: i32 = 24;

/// The pieces of a command line, each `--name=value`, so that no value is taken for an option.
pub(super) fn option(name: &str, value: impl Into<OsString>) -> OsString {
    let mut argument = OsString::from(format!("--{name}="));
    argument.push(value.into());
    argument
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::FailureReason;

    fn reason(raw_status: i32, complained: &str) -> FailureReason {
        died(ExitStatus::from_raw(raw_status), complained, Limits::default()).unwrap().unwrap_err().reason
    }

    #[test]
    fn each_way_of_dying_is_told_apart() {
        assert_eq!(reason(XCPU, ""), FailureReason::Timeout);
        assert_eq!(reason(KILL, ""), FailureReason::TooLarge);
        assert_eq!(reason(ABRT, ""), FailureReason::TooLarge);
        assert_eq!(reason(ABRT, "memory allocation of 99 bytes failed"), FailureReason::TooLarge);
        assert_eq!(reason(ABRT, "thread has overflowed its stack"), FailureReason::Malformed);
        // SIGSEGV, and a plain exit.
        assert_eq!(reason(11, ""), FailureReason::Malformed);
        assert_eq!(reason(1 << 8, ""), FailureReason::Malformed);
        let unlimited = died(ExitStatus::from_raw(child::EXIT_BAD_START << 8), "no", Limits::default());
        assert_eq!(unlimited.unwrap_err().kind(), ErrorKind::Internal);
        for signal in [HUP, INT, TERM] {
            let stopped = died(ExitStatus::from_raw(signal), "", Limits::default());
            assert!(stopped.unwrap_err().is_transient(), "signal {signal}");
        }
    }

    async fn shell(script: &str, seconds: u64) -> Result<Result<Extracted, Failure>> {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script);
        hear(command, Limits { timeout: Duration::from_secs(seconds), ..Limits::default() }).await
    }

    #[tokio::test]
    async fn time_by_the_clock_alone_is_not_held_against_the_document() {
        let slow = shell("exec sleep 60", 1).await.unwrap_err();
        assert_eq!(slow.kind(), ErrorKind::Internal);
        let busy = shell("ulimit -S -t 1; while :; do :; done", 5).await.unwrap().unwrap_err();
        assert_eq!(busy.reason, FailureReason::Timeout);
    }

    #[tokio::test]
    async fn a_child_leads_a_group_of_its_own() {
        let failed = r#"{"failed":{"reason":"no_text","detail":"none"}}"#;
        let script = format!("read -r _ _ _ _ group _ < /proc/self/stat; [ $group = $$ ] && echo '{failed}'");
        assert_eq!(shell(&script, 5).await.unwrap().unwrap_err().reason, FailureReason::NoText);
    }
}
