//! The child's side: limits itself, reads one file on a thread with a large stack, answers on standard output.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use super::read::{self, Hints, Reader};
use super::spawn::option;
use super::{ExtractRequest, Extracted, Extractor, failure};
use crate::document::Failure;

/// Exit code of a child that could not limit itself: nothing was read.
pub(super) const EXIT_BAD_START: i32 = 70;

/// Stack of the reading thread. Parsers recurse with the nesting of a file; what overflows this is no document.
const STACK: usize = 64 << 20;

/// Files the child may have open: three pipes, the document, pdfium, and fonts.
const OPEN_FILES: u64 = 64;

/// Command line of the hidden `extract` command.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The file to read
    #[arg(long)]
    path: PathBuf,
    /// The name it was uploaded under
    #[arg(long)]
    filename: Option<String>,
    /// The media type it was declared as
    #[arg(long)]
    media_type: Option<String>,
    /// pdfium's shared library
    #[arg(long)]
    pdfium: Option<PathBuf>,
    /// Most bytes of address space
    #[arg(long)]
    memory: u64,
    /// Most seconds of CPU
    #[arg(long)]
    cpu_seconds: u64,
    /// Most bytes of text
    #[arg(long)]
    max_text_bytes: u64,
}

/// What the child says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    /// The text.
    Extracted(Extracted),
    /// The document's fault.
    Failed(Failure),
    /// Ours: the message for the log.
    Broken(String),
}

/// The arguments after `extract` for this request; [`Args`] reads them back.
pub(super) fn arguments(extractor: &Extractor, request: &ExtractRequest) -> Vec<OsString> {
    // A command line cannot hold NUL, and a hint of this length says nothing more.
    let hint = |text: &str| text.chars().filter(|c| *c != '\0').take(1_000).collect::<String>();
    let mut arguments = vec![
        option("path", &request.path),
        option("memory", extractor.limits.memory.to_string()),
        option("cpu-seconds", extractor.limits.cpu_seconds().to_string()),
        option("max-text-bytes", extractor.limits.max_text_bytes.to_string()),
    ];
    arguments.extend(request.filename.as_deref().map(|name| option("filename", hint(name))));
    arguments.extend(request.media_type.as_deref().map(|kind| option("media-type", hint(kind))));
    arguments.extend(extractor.pdfium.as_ref().map(|path| option("pdfium", path)));
    arguments
}

/// Runs the hidden `extract` command.
#[allow(clippy::print_stderr, reason = "standard error is the child's log: the parent reads it")]
pub fn main(args: Args) -> ExitCode {
    if let Err(error) = limit(&args) {
        eprintln!("no limit could be set: {error}");
        return ExitCode::from(EXIT_BAD_START as u8);
    }
    // Questions that are being answered go first.
    crate::process::lower_priority(crate::process::BULK_NICENESS);
    let reader = std::thread::Builder::new().stack_size(STACK).spawn(move || {
        // Threads count as processes, and the last one is running now. Root is not bound by it.
        let _ = rlimit::Resource::NPROC.set(0, 0);
        answer(&args)
    });
    let reply = match reader.map(std::thread::JoinHandle::join) {
        Ok(Ok(reply)) => reply,
        Ok(Err(_panic)) => Reply::Failed(failure::malformed("it crashes the program that reads it")),
        Err(error) => Reply::Broken(format!("no thread to read on: {error}")),
    };
    let mut stdout = std::io::BufWriter::new(std::io::stdout().lock());
    match serde_json::to_writer(&mut stdout, &reply).map_err(std::io::Error::from).and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_parent_is_gone) => ExitCode::FAILURE,
    }
}

fn limit(args: &Args) -> std::io::Result<()> {
    use rlimit::Resource;
    let set = |resource: Resource, soft: u64, hard: u64| {
        let (_, ceiling) = resource.get()?;
        resource.set(soft.min(ceiling), hard.min(ceiling))
    };
    set(Resource::CORE, 0, 0)?;
    set(Resource::FSIZE, 0, 0)?;
    set(Resource::NOFILE, OPEN_FILES, OPEN_FILES)?;
    // SIGXCPU at the soft limit, SIGKILL at the hard one.
    set(Resource::CPU, args.cpu_seconds, args.cpu_seconds + 1)?;
    set(Resource::AS, args.memory, args.memory)
}

fn answer(args: &Args) -> Reply {
    let bytes = match std::fs::read(&args.path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::OutOfMemory => {
            return Reply::Failed(failure::too_large("it does not fit into the memory a reader may use"));
        }
        Err(error) => return Reply::Broken(format!("the original could not be opened: {error}")),
    };
    let reader = Reader { pdfium: args.pdfium.as_deref().map(Path::to_owned), max_text_bytes: args.max_text_bytes };
    let hints = Hints { filename: args.filename.clone(), media_type: args.media_type.clone() };
    match read::extract(&reader, &bytes, &hints) {
        Ok(extracted) => Reply::Extracted(extracted),
        Err(read::Problem::Document(failure)) => Reply::Failed(failure),
        Err(read::Problem::Ours(message)) => Reply::Broken(message),
    }
}
