//! `rag-api serve | worker | ingest | query | keys | export | import | reindex | eval | migrate | config | openapi |
//! health`.

mod backup;
mod client;
mod eval;
mod ingest;
mod keys;
mod progress;
mod query;
mod reindex;
mod serve;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rag_api::config::{self, LoadOptions, Loaded};
use rag_api::error::{Error, Result};
use rag_api::telemetry::Logs;

/// Answers questions over your documents, with citations, and shows only what the caller may read.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    /// Settings of `config/<PROFILE>.toml`, over the defaults and under `.env` and the environment
    #[arg(long, global = true, value_name = "PROFILE")]
    profile: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API, and work on documents in the same process
    Serve(serve::ServeArgs),
    /// Work on documents without serving the API (not beside a server: the embedded vector store has one process)
    Worker,
    /// Upload files and folders to a running server, and wait until they can be asked about
    Ingest(ingest::IngestArgs),
    /// Ask a running server a question
    Query(query::QueryArgs),
    /// Create, list and revoke API keys, in the configured database
    Keys {
        #[command(subcommand)]
        command: keys::KeysCommand,
    },
    /// Write everything (keys, documents, originals, vectors) to a file, to back it up or to move it
    ///
    /// It holds every text and the hashes of keys: keep it as safe as the documents. With the embedded vector store the
    /// server must be stopped first.
    Export(backup::ExportArgs),
    /// Read an export into this installation, which may be of another kind (local, production)
    ///
    /// May be run again if it was interrupted. Keys keep working; one whose id is there is left as it is. With the
    /// embedded vector store the server must be stopped first.
    Import(backup::ImportArgs),
    /// Make the vectors of every document anew from its original
    ///
    /// For a vector store that was lost, or another embedding model. Questions find what is done so far. With the
    /// embedded vector store the server must be stopped first, unless `--no-wait` leaves the work to it.
    Reindex(reindex::ReindexArgs),
    /// Measure retrieval, chunking and answers, on collections with judgements
    Eval {
        #[command(subcommand)]
        command: eval::EvalCommand,
    },
    /// Bring the database's schema up to date
    Migrate,
    /// Print the effective configuration, with where each value comes from; secrets are redacted
    Config,
    /// Print the OpenAPI description of the HTTP API
    Openapi,
    /// Ask a running server whether it lives; exit 0 if it does (for container health checks)
    Health(client::ServerArgs),
    /// Read the text out of one file (the server starts this for every document)
    #[command(hide = true)]
    Extract(rag_api::ingest::extract::child::Args),
}

/// Runs the command line; an error is one line on standard error and exit code 1.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    // The child that reads files has its own limits, and needs no settings and no runtime.
    if let Command::Extract(arguments) = cli.command {
        return rag_api::ingest::extract::child::main(arguments);
    }
    // Two TLS providers may be linked in; without a choice the first connection would panic. It fails only if one is
    // installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            complain(&error.chain());
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    let load = || config::load(LoadOptions { profile: cli.profile.clone(), ..LoadOptions::default() });
    match cli.command {
        Command::Serve(arguments) => {
            let (config, _logs) = loaded(load)?;
            serve::serve(config, &arguments).map(|()| ExitCode::SUCCESS)
        }
        Command::Worker => {
            let (config, _logs) = loaded(load)?;
            serve::work(config).map(|()| ExitCode::SUCCESS)
        }
        Command::Ingest(arguments) => runtime()?.block_on(ingest::ingest(arguments)),
        Command::Query(arguments) => runtime()?.block_on(query::query(arguments)),
        Command::Keys { command } => runtime()?.block_on(keys::keys(load()?.config, command)),
        Command::Export(arguments) => runtime()?.block_on(backup::export(load()?.config, arguments)),
        Command::Import(arguments) => runtime()?.block_on(backup::import(load()?.config, arguments)),
        Command::Reindex(arguments) => {
            let (config, _logs) = loaded(load)?;
            serve::run(reindex::reindex(config, &arguments))
        }
        Command::Eval { command } => {
            let profile = cli.profile.clone();
            let load = |arguments: &[(&str, &str)]| {
                let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
                let arguments = arguments.iter().map(owned).collect();
                config::load(LoadOptions { profile: profile.clone(), arguments, ..LoadOptions::default() })
            };
            runtime()?.block_on(eval::eval(load, command))
        }
        Command::Migrate => runtime()?.block_on(migrate(load()?)),
        Command::Config => say(&config::render(&load()?)),
        Command::Openapi => say(&rag_api::http::openapi_json()),
        Command::Health(arguments) => runtime()?.block_on(client::health(&arguments)),
        Command::Extract(_) => Ok(ExitCode::FAILURE),
    }
}

/// The configuration of a process that logs, and its log.
fn loaded(load: impl Fn() -> Result<Loaded>) -> Result<(rag_api::config::Config, Logs)> {
    let loaded = load()?;
    let logs = rag_api::telemetry::init_logs(&loaded.config.telemetry)?;
    arm_hold()?;
    Ok((loaded.config, logs))
}

/// Arms the point at which a crash test stops this process, if one does.
fn arm_hold() -> Result<()> {
    if let Some(hold) = config::test_hold()? {
        rag_api::hold::arm(hold);
    }
    Ok(())
}

async fn migrate(loaded: Loaded) -> Result<ExitCode> {
    rag_api::catalog::build(&loaded.config.catalog).await?;
    say("the database's schema is up to date")
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::internal("the runtime cannot start", error))
}

/// Prints for a person or a pipe; a closed pipe ends quietly.
fn say(text: &str) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{}", text.trim_end()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::internal("cannot print", error)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// One line on standard error.
fn complain(text: &str) {
    // Where standard error is closed nobody can be told.
    let _ = writeln!(std::io::stderr(), "rag-api: {text}");
}
