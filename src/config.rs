//! The configuration: one section per module; the only reader of the environment.
//!
//! Names are flat. `config/default.toml`, compiled in, has every setting with its default, and so is the list of known
//! names; over it lie `config/<profile>.toml`, `.env` and the environment (`RAG_` + the name in capitals).
//! [`load`] reads them once, at the start, and refuses with one line whatever is unknown, wrong or impossible:
//!
//! 1. `layers` reads each source, checks its names and merges them (figment);
//! 2. `settings` hands out one value at a time, parsed, with its source in every error;
//! 3. `sections` and `backends` make each module's `Config` of them.

mod aws;
mod backends;
mod layers;
mod redis_url;
mod sections;
mod settings;

use std::fmt;
use std::path::PathBuf;

use crate::error::{Error, Result};
use settings::Settings;

/// A secret: it never prints.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself; where it is called is where it leaves.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// HTTP.
    pub http: crate::http::Config,
    /// Keys.
    pub auth: crate::auth::Config,
    /// Limits per key.
    pub limit: crate::limit::Config,
    /// The answer cache.
    pub cache: crate::cache::Config,
    /// Answers.
    pub answer: crate::answer::Config,
    /// Retrieval.
    pub retrieve: crate::retrieve::Config,
    /// Document intake.
    pub ingest: crate::ingest::Config,
    /// Models and native libraries.
    pub models: crate::models::Config,
    /// The embedding model.
    pub embedding: crate::embedding::Config,
    /// The reranker.
    pub rerank: crate::rerank::Config,
    /// The chain of language models, never empty.
    pub llm: Vec<crate::llm::Config>,
    /// The vector store.
    pub vector_store: crate::vector_store::Config,
    /// The catalog.
    pub catalog: crate::catalog::Config,
    /// Originals.
    pub blob: crate::blob::Config,
    /// Logs.
    pub telemetry: crate::telemetry::Config,
}

/// Where to read the configuration from.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The profile of the command line, stronger than `RAG_PROFILE`.
    pub profile: Option<String>,
    /// The folder with `.env` and `config/`; `None`: the working directory.
    pub directory: Option<PathBuf>,
    /// Variables to read instead of the process's environment.
    pub environment: Option<Vec<(String, String)>>,
    /// Variables that the command line sets, stronger than all else.
    pub arguments: Vec<(String, String)>,
}

/// A setting as it is in force, for people: what is secret in it is redacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveSetting {
    /// The variable's name, such as `RAG_LISTEN`.
    pub name: String,
    /// The value, empty if it is not set.
    pub value: String,
    /// Where it comes from: `default`, `config/production.toml`, `.env`, `environment`, or one of them with the file
    /// that a `…_FILE` setting names.
    pub source: String,
}

/// A configuration and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What the modules are built from.
    pub config: Config,
    /// The profile in force.
    pub profile: String,
    /// Every setting by name.
    pub settings: Vec<EffectiveSetting>,
}

/// Reads the configuration. An unknown name, a wrong value and a combination that cannot work are
/// [`crate::error::ErrorKind::Config`] with one line that names the setting; no secret is in any of them.
pub fn load(options: LoadOptions) -> Result<Loaded> {
    let layers = layers::read(options)?;
    let settings = Settings::new(&layers)?;
    let config = sections::config(&settings)?;
    Ok(Loaded { config, profile: layers.profile, settings: settings.effective() })
}

/// Where the commands that talk to a running server find it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    /// `RAG_URL`.
    pub url: Option<String>,
    /// `RAG_API_KEY`.
    pub key: Option<Secret>,
}

/// Reads where the server is, from the environment.
pub fn client() -> Result<Client> {
    let environment = layers::process_environment()?;
    let variable = |name| layers::variable(&environment, name);
    Ok(Client { url: variable("RAG_URL"), key: variable("RAG_API_KEY").map(Secret::new) })
}

/// The point at which a crash test wants this process to stop, from the environment.
pub fn test_hold() -> Result<Option<crate::hold::Hold>> {
    let environment = layers::process_environment()?;
    let Some(point) = layers::variable(&environment, "RAG_TEST_HOLD") else { return Ok(None) };
    let address = layers::variable(&environment, "RAG_TEST_HOLD_ADDRESS").and_then(|address| address.parse().ok());
    let address = address.ok_or_else(|| Error::config("RAG_TEST_HOLD needs RAG_TEST_HOLD_ADDRESS=ADDRESS:PORT"))?;
    let (point, arrival) = match point.split_once(':') {
        Some((point, arrival)) => (point.to_owned(), arrival.parse().unwrap_or(1)),
        None => (point, 1),
    };
    Ok(Some(crate::hold::Hold { point, arrival, address }))
}

/// The configuration as a table of names, values and sources, secrets redacted.
pub fn render(loaded: &Loaded) -> String {
    let width = |text: fn(&EffectiveSetting) -> &str| {
        loaded.settings.iter().map(|setting| text(setting).chars().count()).max().unwrap_or(0)
    };
    let name = width(|setting| &setting.name);
    let value = width(|setting| &setting.value);
    let mut table = format!("profile: {}\n\n", loaded.profile);
    for setting in &loaded.settings {
        let shown = if setting.value.is_empty() { "-" } else { &setting.value };
        table.push_str(&format!("{:name$}  {shown:value$}  {}\n", setting.name, setting.source));
    }
    table
}
