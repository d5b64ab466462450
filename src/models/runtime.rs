//! The native libraries: ONNX Runtime, loaded once per process, and pdfium's path.

use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::ep::ExecutionProviderDispatch;
use ort::logging::LogLevel;

use super::{Config, SETUP_COMMAND};
use crate::error::{Error, Result};

/// Options of every session. Threads of ONNX Runtime that wait for work would burn a core each without them.
pub(super) const SESSION_OPTIONS: [(&str, &str); 2] =
    [("session.intra_op.allow_spinning", "0"), ("session.inter_op.allow_spinning", "0")];

/// ONNX Runtime allows one environment per process and errors on the next, so this is the process's, not an object's.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// Where every session computes: on the CPU, without an arena. The arena would keep the memory of the largest shape that
/// it ever saw.
pub(super) fn execution_providers() -> Vec<ExecutionProviderDispatch> {
    vec![ort::ep::CPU::default().with_arena_allocator(false).build()]
}

/// Loads ONNX Runtime and gives its environment: the same one however often it is called. It has no global thread pool
/// (under one, a session's own number of threads is ignored), sends no telemetry, and logs through `tracing`.
pub fn init_runtime(config: &Config) -> Result<Environment> {
    let mut environment = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = &*environment {
        return Ok(environment.clone());
    }
    let library = find_onnx_runtime(config)?;
    let unusable = |error: Box<dyn std::error::Error + Send + Sync>| {
        let message = format!("cannot load ONNX Runtime from {} ({error})", library.display());
        Error::config(format!("{message}: set RAG_ONNX_RUNTIME or run {SETUP_COMMAND}")).with_source(error)
    };
    let loaded = ort::init_from(&library)
        .map_err(|error| unusable(error.into()))?
        .with_name("rag-api")
        .with_telemetry(false)
        .with_logger(Arc::new(|level, category: &str, _: &str, _: &str, message: &str| match level {
            LogLevel::Error | LogLevel::Fatal => tracing::warn!(category, message, "onnx runtime"),
            _ => tracing::debug!(category, message, "onnx runtime"),
        }))
        .build()
        .map_err(|error| unusable(error.into()))?;
    // A custom logger is sent everything unless told otherwise, each line of it formatted first.
    loaded.set_log_level(LogLevel::Error);
    tracing::info!(library = %library.display(), "loaded onnx runtime");
    *environment = Some(loaded.clone());
    Ok(loaded)
}

/// Sessions to run where `configured` are wanted; 0: one per core (or per core of the container's share).
pub(crate) fn session_count(configured: usize) -> usize {
    match configured {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        count => count,
    }
}

/// pdfium's shared library: the one that is set, else the one in the cache.
pub fn pdfium_library(config: &Config) -> Result<PathBuf> {
    let library = match &config.pdfium {
        Some(path) => path.clone(),
        None => config.cache.join("pdfium").join(format!("{DLL_PREFIX}pdfium{DLL_SUFFIX}")),
    };
    if !library.is_file() {
        return Err(Error::config(format!("no pdfium at {}: run {SETUP_COMMAND}", library.display())));
    }
    Ok(library)
}

fn find_onnx_runtime(config: &Config) -> Result<PathBuf> {
    if let Some(path) = &config.onnx_runtime {
        let missing = || Error::config(format!("RAG_ONNX_RUNTIME: no file at {}", path.display()));
        return if path.is_file() { Ok(path.clone()) } else { Err(missing()) };
    }
    let dir = config.cache.join("onnxruntime");
    newest_library(&dir, "onnxruntime").ok_or_else(|| {
        let name = format!("{DLL_PREFIX}onnxruntime{DLL_SUFFIX}");
        Error::config(format!("no {name} in {}: set RAG_ONNX_RUNTIME or run {SETUP_COMMAND}", dir.display()))
    })
}

/// The library of the highest version in `dir`: `libNAME.so.1.9.0` is older than `libNAME.so.1.31.1`.
fn newest_library(dir: &Path, name: &str) -> Option<PathBuf> {
    let prefix = format!("{DLL_PREFIX}{name}");
    let suffix = DLL_SUFFIX.trim_start_matches('.');
    let version = |path: &Path| -> Option<Vec<u64>> {
        let rest = path.file_name()?.to_str()?.strip_prefix(&prefix)?;
        let is_library = rest.starts_with('.') && rest.split('.').any(|part| part == suffix);
        is_library.then(|| rest.split('.').filter_map(|part| part.parse().ok()).collect())
    };
    let entries = std::fs::read_dir(dir).ok()?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_file());
    paths.filter_map(|path| Some((version(&path)?, path))).max().map(|(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_newest_library_wins() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(newest_library(dir.path(), "onnxruntime"), None);
        for name in ["libonnxruntime.so.1.9.0", "libonnxruntime.so.1.31.1", "libonnxruntime_providers_shared.so"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let newest = newest_library(dir.path(), "onnxruntime").unwrap();
        assert_eq!(newest, dir.path().join("libonnxruntime.so.1.31.1"));
    }

    #[test]
    fn missing_libraries_name_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { cache: dir.path().to_owned(), hub: String::new(), onnx_runtime: None, pdfium: None };
        let error = find_onnx_runtime(&config).unwrap_err();
        assert!(error.message().contains("RAG_ONNX_RUNTIME") && error.message().contains(SETUP_COMMAND), "{error}");
        let error = pdfium_library(&config).unwrap_err();
        assert!(error.message().contains(SETUP_COMMAND), "{error}");
        let config = Config { onnx_runtime: Some(dir.path().join("none.so")), ..config };
        assert!(find_onnx_runtime(&config).unwrap_err().message().contains("RAG_ONNX_RUNTIME"));
    }
}
