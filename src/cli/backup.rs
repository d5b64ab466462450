//! `rag-api export` and `rag-api import`: everything that an installation keeps, in one file.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use rag_api::backup::{self, Import, Present, Source, Target};
use rag_api::config::Config;
use rag_api::embedding::EmbeddingModel;
use rag_api::error::{Error, ErrorKind, Result};
use rag_api::vector_store::Identity;
use rag_api::{blob, cache, catalog, embedding, models, vector_store};
use tokio::io::{AsyncBufRead, AsyncWriteExt, BufReader, BufWriter};

use super::progress::bar;

/// Bytes that are read or written at once.
const BUFFER: usize = 1 << 20;

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The file, which is written whole or not at all; `-`: standard output
    #[arg(default_value = "-", value_name = "FILE")]
    file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The export; `-`: standard input
    #[arg(default_value = "-", value_name = "FILE")]
    file: PathBuf,
    /// Replace documents whose ids are there already
    #[arg(long)]
    replace: bool,
    /// Keep documents whose ids are there already as they are
    #[arg(long, conflicts_with = "replace")]
    skip_existing: bool,
    /// Leave the export's vectors out, and let workers embed every document anew (for another embedding model)
    #[arg(long)]
    reindex: bool,
}

pub(crate) async fn export(config: Config, arguments: ExportArgs) -> Result<ExitCode> {
    if is_standard(&arguments.file) {
        let source = source(&config).await?;
        write(&source, standard(std::io::stdout().as_fd())?).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let path = &arguments.file;
    let unwritten = |error: std::io::Error| {
        Error::invalid("/file", format!("{} cannot be written: {error}", path.display())).with_source(error)
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The file first: that it cannot be written is known before models are loaded.
    let file = tempfile::NamedTempFile::new_in(folder).map_err(unwritten)?;
    let source = source(&config).await?;
    write(&source, tokio::fs::File::from_std(file.reopen().map_err(unwritten)?)).await?;
    file.as_file().sync_all().map_err(unwritten)?;
    file.persist(path).map_err(|error| unwritten(error.error))?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(unwritten)?;
    Ok(ExitCode::SUCCESS)
}

async fn write(source: &Source, out: impl tokio::io::AsyncWrite + Unpin + Send) -> Result<()> {
    let bar = bar(0, "exporting");
    let mut out = BufWriter::with_capacity(BUFFER, out);
    let exported = backup::export(source, &mut out, |counts, documents| {
        bar.set_length(documents.max(counts.documents));
        bar.set_position(counts.documents);
    })
    .await?;
    out.shutdown().await.map_err(|error| Error::unavailable("the export cannot be written", error))?;
    bar.finish_and_clear();
    let counts = exported.counts;
    super::complain(&format!(
        "{} keys, {} documents, {} originals, {} points exported",
        counts.keys, counts.documents, counts.originals, counts.points
    ));
    if exported.incomplete > 0 {
        super::complain(&format!(
            "{} documents have not all of their points in the vector store: an import embeds them again",
            exported.incomplete
        ));
    }
    Ok(())
}

pub(crate) async fn import(config: Config, arguments: ImportArgs) -> Result<ExitCode> {
    if is_standard(&arguments.file) {
        let input = BufReader::with_capacity(BUFFER, standard(std::io::stdin().as_fd())?);
        return read(&config, &arguments, Import::open(input).await?).await;
    }
    let path = &arguments.file;
    let unread = |error: std::io::Error| {
        Error::invalid("/file", format!("{} cannot be read: {error}", path.display())).with_source(error)
    };
    let file = tokio::fs::File::open(path).await.map_err(unread)?;
    // A pipe has no end to look at.
    let is_file = file.metadata().await.map_err(unread)?.is_file();
    let import = Import::open(BufReader::with_capacity(BUFFER, file)).await?;
    if is_file && !backup::ends_whole(&mut std::fs::File::open(path).map_err(unread)?).map_err(unread)? {
        let message = format!("{} is cut off: its last line, with the counts, is not there", path.display());
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    read(&config, &arguments, import).await
}

async fn read(
    config: &Config,
    arguments: &ImportArgs,
    import: Import<impl AsyncBufRead + Unpin + Send>,
) -> Result<ExitCode> {
    super::arm_hold()?;
    let store = if arguments.reindex {
        None
    } else {
        let model = model(config)?;
        import.check(&Identity::of(&model))?;
        Some(vector_store::build(&config.vector_store, &model).await?)
    };
    let target = Target {
        catalog: catalog::build(&config.catalog).await?,
        blobs: blob::build(&config.blob).await?,
        store,
        cache: cache::build(&config.cache).await?,
        lease: config.ingest.lease,
    };
    let present = match (arguments.replace, arguments.skip_existing) {
        (true, _) => Present::Replace,
        (_, true) => Present::Keep,
        _ => Present::Refuse,
    };
    let bar = bar(import.documents(), "importing");
    let imported = import.run(&target, present, |counts| bar.set_position(counts.documents)).await;
    bar.finish_and_clear();
    let imported = imported?;
    let waiting = match imported.waiting {
        0 => String::new(),
        waiting => format!("; {waiting} of them wait for a worker"),
    };
    let (keys, documents, kept) = (imported.keys, imported.documents, imported.kept);
    super::say(&format!("{keys} keys and {documents} documents imported, {kept} documents kept{waiting}"))
}

fn is_standard(file: &Path) -> bool {
    file == Path::new("-")
}

/// Standard input or output as a file.
fn standard(stream: BorrowedFd<'_>) -> Result<tokio::fs::File> {
    let stream = stream.try_clone_to_owned();
    let stream = stream.map_err(|error| Error::unavailable("standard input or output cannot be used", error))?;
    Ok(tokio::fs::File::from_std(stream.into()))
}

async fn source(config: &Config) -> Result<Source> {
    let model = model(config)?;
    Ok(Source {
        store: vector_store::build(&config.vector_store, &model).await?,
        catalog: catalog::build(&config.catalog).await?,
        blobs: blob::build(&config.blob).await?,
        identity: Identity::of(&model),
    })
}

/// What the configured embedding model is.
fn model(config: &Config) -> Result<EmbeddingModel> {
    models::init_runtime(&config.models)?;
    let mut wanted = config.embedding.clone();
    // Nothing is embedded here: one session says what the model is.
    if let embedding::Config::Local { sessions, .. } = &mut wanted {
        *sessions = 1;
    }
    Ok(embedding::build(&wanted, &config.models)?.model().clone())
}
