//! Reads every document that a table lists, each in a child process as the server does, and prints how many hold
//! what they should: `cargo run --example extract_folder -- folder FOLDER [--pdfium PATH] [--jobs N] [--show FILE]`.
//!
//! `FOLDER/manifest.tsv` has the columns file, type, expected, phrase, must_not (others are passed over). `expected`
//! is `ok` or `ok-hard` (the phrase is found), `ok-or-…` (either way), or the kind of failure.
#![allow(clippy::print_stdout, reason = "a command that prints a table")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use futures::StreamExt;
use rag_api::document::{Failure, FailureReason};
use rag_api::ingest::extract::{ExtractRequest, Extracted, Extractor, Limits, child};
use unicode_normalization::UnicodeNormalization;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Reads a folder of documents
    Folder(Folder),
    /// Reads one document within limits (what the server runs)
    #[command(hide = true)]
    Extract(child::Args),
}

#[derive(clap::Args)]
struct Folder {
    /// The folder with manifest.tsv
    folder: PathBuf,
    /// pdfium's shared library
    #[arg(long)]
    pdfium: Option<PathBuf>,
    /// Documents read at once
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Prints this file's text instead of the table
    #[arg(long)]
    show: Option<String>,
}

struct Row {
    file: String,
    kind: String,
    expected: String,
    phrase: String,
    must_not: String,
}

struct Outcome {
    row: Row,
    result: Result<Extracted, Failure>,
    took: Duration,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Extract(args) => child::main(args),
        Command::Folder(folder) => {
            tokio::runtime::Runtime::new().expect("a runtime").block_on(measure(&folder)).expect("the documents are read")
        }
    }
}

async fn measure(args: &Folder) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let extractor = Extractor::new(std::env::current_exe()?, args.pdfium.clone(), Limits::default());
    let rows = read_manifest(&args.folder.join("manifest.tsv"))?;
    if let Some(file) = &args.show {
        match read(&extractor, &args.folder, file).await? {
            Ok(extracted) => {
                println!("{} {:?} pages {:?}\n{}", extracted.media_type, extracted.title, extracted.pages, extracted.text);
            }
            Err(failure) => println!("{}: {}", failure.reason.as_str(), failure.detail),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let outcomes = futures::stream::iter(rows.into_iter().map(async |row| {
        let begun = Instant::now();
        let result = read(&extractor, &args.folder, &row.file).await?;
        Ok::<_, rag_api::error::Error>(Outcome { row, result, took: begun.elapsed() })
    }))
    .buffered(args.jobs)
    .collect::<Vec<_>>()
    .await;
    let outcomes = outcomes.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(if print(&outcomes) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn read(
    extractor: &Extractor,
    folder: &Path,
    file: &str,
) -> rag_api::error::Result<Result<Extracted, Failure>> {
    let filename = file.rsplit('/').next().map(str::to_owned);
    extractor.extract(&ExtractRequest { path: folder.join(file), filename, media_type: None }).await
}

fn read_manifest(path: &Path) -> Result<Vec<Row>, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string(path)?;
    let mut lines = text.lines();
    let columns = lines.next().unwrap_or_default().split('\t').map(str::to_owned).collect::<Vec<_>>();
    let rows = lines.filter(|line| !line.is_empty()).map(|line| {
        let cells = line.split('\t').collect::<Vec<_>>();
        let cell = |name: &str| {
            let place = columns.iter().position(|column| column == name);
            place.and_then(|place| cells.get(place)).map(|cell| (*cell).to_owned()).unwrap_or_default()
        };
        Row {
            file: cell("file"),
            kind: cell("type"),
            expected: cell("expected"),
            phrase: cell("phrase"),
            must_not: cell("must_not"),
        }
    });
    Ok(rows.collect())
}

/// Prints the table, the rows that failed as they should, and the misses; whether there were none.
fn print(outcomes: &[Outcome]) -> bool {
    let mut table = BTreeMap::<(&str, &str), (usize, usize)>::new();
    for outcome in outcomes {
        let group = if outcome.row.expected.starts_with("ok") { "ok" } else { "refused" };
        let entry = table.entry((outcome.row.kind.as_str(), group)).or_default();
        entry.0 += 1;
        entry.1 += usize::from(miss(outcome).is_none());
    }
    println!("type\tgroup\trows\tas expected");
    for ((kind, group), (rows, found)) in &table {
        println!("{kind}\t{group}\t{rows}\t{found}");
    }
    println!("\nfile\texpected\toutcome\tseconds\tdetail");
    for outcome in outcomes.iter().filter(|outcome| !matches!(outcome.row.expected.as_str(), "ok" | "ok-hard")) {
        let (reason, detail) = match &outcome.result {
            Ok(extracted) => ("ok", format!("{} characters", extracted.text.chars().count())),
            Err(failure) => (failure.reason.as_str(), failure.detail.clone()),
        };
        let (row, took) = (&outcome.row, outcome.took.as_secs_f64());
        println!("{}\t{}\t{reason}\t{took:.2}\t{detail}", row.file, row.expected);
    }
    let misses = outcomes.iter().filter_map(|outcome| Some((outcome, miss(outcome)?))).collect::<Vec<_>>();
    println!("\n{} misses", misses.len());
    for (outcome, why) in &misses {
        println!("{}\t{}\t{why}", outcome.row.file, outcome.row.expected);
    }
    let slowest = outcomes.iter().max_by_key(|outcome| outcome.took);
    if let Some(slowest) = slowest {
        println!("slowest: {} {:.2} s", slowest.row.file, slowest.took.as_secs_f64());
    }
    misses.is_empty()
}

/// Why an outcome is not what was expected.
fn miss(outcome: &Outcome) -> Option<String> {
    use FailureReason::{Encrypted, Internal, Malformed, NoText, Timeout, TooLarge, Unsupported};
    let row = &outcome.row;
    let reason = match &outcome.result {
        Ok(extracted) => {
            let text = folded(&extracted.text);
            if !row.must_not.is_empty() && text.contains(&folded(&row.must_not)) {
                return Some(format!("holds {:?}", row.must_not));
            }
            let found = text.contains(&folded(&row.phrase));
            return match row.expected.as_str() {
                "ok" | "ok-hard" if found => None,
                "ok" | "ok-hard" => Some(format!("lacks {:?}", row.phrase)),
                expected if expected.starts_with("ok-or-") => None,
                "bomb" | "no-text" => Some("was read".to_owned()),
                _ => Some("was read".to_owned()),
            };
        }
        Err(failure) => failure.reason,
    };
    let fits = match row.expected.as_str() {
        "encrypted" => reason == Encrypted,
        "malformed" => matches!(reason, Malformed | Unsupported),
        "no-text" => reason == NoText,
        "bomb" => matches!(reason, TooLarge | Timeout | NoText),
        "unsupported" => reason == Unsupported,
        "ok-or-encrypted" => reason == Encrypted,
        "ok-or-unsupported" => reason == Unsupported,
        expected if expected.starts_with("ok-or-") => reason != Internal,
        _ => false,
    };
    (!fits).then(|| format!("failed as {}", reason.as_str()))
}

/// As text is compared: compatibility forms and white space do not matter.
fn folded(text: &str) -> String {
    let text = text.nfkc().collect::<String>();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
