//! The sources of settings, weakest first, each checked for unknown names, merged by figment.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::{LoadOptions, aws};
use crate::error::{Error, Result};

/// The reference of all settings.
const DEFAULT: &str = include_str!("../../config/default.toml");
/// The profile that is there without a file.
const PRODUCTION: &str = include_str!("../../config/production.toml");
/// The profile that nobody chose; its file need not be there.
const LOCAL_PROFILE: &str = "local";
/// What the names of variables begin with.
const PREFIX: &str = "RAG_";
/// Variables that look like settings of the server and are not: the tests', the scripts', what Kubernetes injects for a
/// Service that is called rag-api, and what the command line reads to find a server ([`super::client`]).
const FOREIGN: [&str; 3] = ["RAG_BIN", "RAG_API_KEY", "RAG_URL"];
/// What the names of such variables begin with.
const FOREIGN_PREFIXES: [&str; 3] = ["RAG_TEST_", "RAG_API_SERVICE_", "RAG_API_PORT"];

/// Settings that never print.
pub(super) const SECRETS: [&str; 4] = ["admin_api_key", "cohere_api_key", "openai_api_key", "vector_db_api_key"];
/// Settings that may hold a password beside what may print; these, too, can come from a file.
pub(super) const WITH_PASSWORDS: [&str; 2] = ["database_url", "redis_url"];

/// All sources, merged.
#[derive(Debug)]
pub(super) struct Layers {
    /// The profile in force.
    pub(super) profile: String,
    /// The merged values.
    pub(super) figment: Figment,
    /// Every known name, sorted.
    pub(super) names: Vec<String>,
    /// Variables of [`aws`] that are set, with their source, weakest first.
    pub(super) foreign: Vec<(&'static str, String, String)>,
    /// The models cache, if no setting says where it is.
    pub(super) default_models_dir: Option<PathBuf>,
}

/// One source.
struct Layer {
    source: String,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

/// Reads all sources.
pub(super) fn read(options: LoadOptions) -> Result<Layers> {
    let directory = options.directory.unwrap_or_default();
    let environment = match options.environment {
        Some(environment) => environment,
        None => process_environment()?,
    };
    let dotenv = dotenv(&directory.join(".env"))?;
    let profile = options
        .profile
        .or_else(|| variable(&environment, "RAG_PROFILE"))
        .or_else(|| variable(&dotenv, "RAG_PROFILE"))
        .unwrap_or_else(|| LOCAL_PROFILE.to_owned());

    let defaults = toml_layer("default", DEFAULT)?;
    let names: Vec<String> = defaults.values.keys().cloned().collect();
    let mut figment = Figment::new();
    let layers = [
        Some(defaults),
        profile_layer(&directory, &profile)?,
        Some(variables_layer(".env", &dotenv)),
        Some(variables_layer("environment", &environment)),
        Some(variables_layer("command line", &options.arguments)),
    ];
    for mut layer in layers.into_iter().flatten() {
        check_names(&layer, &names)?;
        pair_files(&mut layer)?;
        figment = figment.merge(layer);
    }
    let foreign = [foreign(".env", &dotenv), foreign("environment", &environment)].concat();
    Ok(Layers { profile, figment, names, foreign, default_models_dir: default_models_dir(&environment) })
}

/// The name of a setting's variable.
pub(super) fn variable_name(name: &str) -> String {
    format!("{PREFIX}{}", name.to_uppercase())
}

/// Whether a file may hold the setting.
pub(super) fn may_be_in_file(name: &str) -> bool {
    SECRETS.contains(&name) || WITH_PASSWORDS.contains(&name)
}

/// The process's variables that matter here.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub(super) fn process_environment() -> Result<Vec<(String, String)>> {
    let mut variables = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        if name.starts_with(PREFIX) || name == "HOME" || name == "XDG_CACHE_HOME" || aws::is_name(name) {
            variables.push((name.to_owned(), utf8(name, value)?));
        }
    }
    Ok(variables)
}

fn utf8(name: &str, value: OsString) -> Result<String> {
    value.into_string().map_err(|_| Error::config(format!("{name} (environment): not valid UTF-8")))
}

/// A variable that is set and not empty.
pub(super) fn variable(variables: &[(String, String)], name: &str) -> Option<String> {
    variables.iter().rev().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.clone())
}

/// The variables of [`aws`], and those that name a file with one.
fn foreign(source: &'static str, variables: &[(String, String)]) -> Vec<(&'static str, String, String)> {
    let known = variables.iter().filter(|(name, value)| aws::is_name(name) && !value.is_empty());
    known.map(|(name, value)| (source, name.clone(), value.clone())).collect()
}

fn default_models_dir(environment: &[(String, String)]) -> Option<PathBuf> {
    let cache = variable(environment, "XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| variable(environment, "HOME").map(|home| PathBuf::from(home).join(".cache")))?;
    Some(cache.join("rag-api"))
}

/// The variables of a `.env` file; none if there is no such file.
fn dotenv(path: &Path) -> Result<Vec<(String, String)>> {
    let Some(text) = read_if_there(path)? else { return Ok(Vec::new()) };
    dotenvy::from_read_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        // The library's own message quotes the line, which may hold a secret.
        .map_err(|error| match error {
            dotenvy::Error::LineParse(line, _) => {
                let number = text.lines().position(|candidate| line.starts_with(candidate) && !candidate.is_empty());
                let place = number.map_or(String::new(), |index| format!(" line {}", index + 1));
                Error::config(format!("{}{place}: expected NAME=VALUE", path.display()))
            }
            error => Error::config(format!("{}: cannot be read: {error}", path.display())),
        })
}

/// `config/<profile>.toml`, else what is compiled in for the profile.
fn profile_layer(directory: &Path, profile: &str) -> Result<Option<Layer>> {
    let sane = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if profile.is_empty() || !profile.chars().all(sane) {
        return Err(Error::config(format!("RAG_PROFILE: {profile:?} is not a name of letters, digits, - and _")));
    }
    let source = format!("config/{profile}.toml");
    let path = directory.join(&source);
    match read_if_there(&path)? {
        Some(text) => toml_layer(&source, &text).map(Some),
        None if profile == "production" => toml_layer(&source, PRODUCTION).map(Some),
        None if profile == LOCAL_PROFILE => Ok(None),
        None => Err(Error::config(format!("RAG_PROFILE: there is no {} for the profile {profile}", path.display()))),
    }
}

fn read_if_there(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::config(format!("{}: cannot be read: {error}", path.display()))),
    }
}

fn toml_layer(source: &str, text: &str) -> Result<Layer> {
    let values = Toml::string(text).data().map_err(|error| {
        // First line: where. Last line: what. Between them is a picture of the line, which may hold a secret.
        let error = error.to_string();
        let mut lines = error.lines().map(str::trim).filter(|line| !line.is_empty());
        let place = lines.next().unwrap_or_default();
        let what = lines.next_back().unwrap_or_default();
        Error::config(format!("{source}: {place}: {what}"))
    })?;
    let values = values.into_values().next().unwrap_or_default();
    Ok(Layer { source: source.to_owned(), values })
}

/// Values stay strings until our own types parse them: a secret `00123` is not the number 123.
fn variables_layer(source: &str, variables: &[(String, String)]) -> Layer {
    let values = variables
        .iter()
        .filter(|(name, _)| name != "RAG_PROFILE" && !is_foreign(name))
        .filter_map(|(name, value)| {
            let key = name.strip_prefix(PREFIX)?;
            // RAG_listen is not RAG_LISTEN: it keeps its name, which is no setting's.
            let key = if key == key.to_uppercase() { key.to_lowercase() } else { name.clone() };
            Some((key, Value::from(value.clone())))
        })
        .collect();
    Layer { source: source.to_owned(), values }
}

fn is_foreign(name: &str) -> bool {
    FOREIGN.contains(&name) || FOREIGN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Refuses names that no setting has, with the nearest one that there is.
fn check_names(layer: &Layer, names: &[String]) -> Result<()> {
    let files = names.iter().filter(|name| may_be_in_file(name)).map(|name| format!("{name}_file"));
    let known: Vec<String> = names.iter().cloned().chain(files).collect();
    let Some(unknown) = layer.values.keys().find(|name| !known.contains(name)) else { return Ok(()) };
    let bare = unknown.strip_prefix(PREFIX).unwrap_or(unknown).to_lowercase();
    let nearest = known.iter().min_by_key(|name| strsim::damerau_levenshtein(name, &bare)).map_or("", String::as_str);
    let shown = |name: &str| match layer.source.ends_with(".toml") || name.starts_with(PREFIX) {
        true => name.to_owned(),
        false => variable_name(name),
    };
    Err(Error::config(format!(
        "{} ({}): no such setting; the nearest is {}",
        shown(unknown),
        layer.source,
        shown(nearest)
    )))
}

/// Makes `x` and `x_file` of one layer a pair: where one is set the other is emptied, so that the layer above hides both.
fn pair_files(layer: &mut Layer) -> Result<()> {
    let names = SECRETS.iter().chain(&WITH_PASSWORDS);
    for name in names {
        let file = format!("{name}_file");
        let set = |key: &str| layer.values.get(key).is_some_and(|value| value.as_str() != Some(""));
        if set(name) && set(&file) {
            let (name, file) = (variable_name(name), variable_name(&file));
            return Err(Error::config(format!("{name} and {file} ({}): set one of them", layer.source)));
        }
        if layer.values.contains_key(*name) || layer.values.contains_key(&file) {
            layer.values.entry((*name).to_owned()).or_insert_with(|| Value::from(""));
            layer.values.entry(file).or_insert_with(|| Value::from(""));
        }
    }
    Ok(())
}
