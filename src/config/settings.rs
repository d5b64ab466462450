//! One value at a time: parsed by our own types, with name, source and what is allowed in every error.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use figment::value::Value;

use super::layers::{Layers, SECRETS, WITH_PASSWORDS, may_be_in_file, variable_name};
use super::{EffectiveSetting, Secret, aws};
use crate::error::{Error, ErrorKind, Result};

/// The effective values.
#[derive(Debug)]
pub(super) struct Settings {
    values: BTreeMap<String, Setting>,
    /// Variables of [`aws`], where they matter.
    foreign: BTreeMap<String, Setting>,
}

#[derive(Debug)]
struct Setting {
    value: String,
    source: String,
}

impl Settings {
    /// Takes the effective values out of the merged layers, and reads the files that `…_FILE` settings name.
    pub(super) fn new(layers: &Layers) -> Result<Self> {
        let mut values = BTreeMap::new();
        for name in &layers.names {
            let mut setting = take(layers, name)?;
            if may_be_in_file(name) {
                let file = take(layers, &format!("{name}_file"))?;
                if !file.value.is_empty() {
                    setting = from_file(&variable_name(&format!("{name}_file")), file)?;
                }
            }
            values.insert(name.clone(), setting);
        }
        if let (Some(dir), Some(default)) = (values.get_mut("models_dir"), &layers.default_models_dir)
            && dir.value.is_empty()
        {
            dir.value = default.display().to_string();
        }
        let wanted = values.get("storage_url").is_some_and(|url| url.value.trim().starts_with("s3:"));
        let foreign = if wanted { foreign(layers)? } else { BTreeMap::new() };
        Ok(Self { values, foreign })
    }

    fn get(&self, name: &str) -> Result<&Setting> {
        let missing = || Error::new(ErrorKind::Internal, format!("{name} is not in config/default.toml"));
        self.values.get(name).ok_or_else(missing)
    }

    /// A value that may not be set.
    pub(super) fn optional(&self, name: &str) -> Result<Option<&str>> {
        let value = self.get(name)?.value.trim();
        Ok((!value.is_empty()).then_some(value))
    }

    /// A value that must be set; `expected` says what it may be.
    pub(super) fn text(&self, name: &str, expected: &str) -> Result<&str> {
        self.optional(name)?.ok_or_else(|| self.error(name, format!("must not be empty; expected {expected}")))
    }

    /// A value of a type that parses itself.
    pub(super) fn parse<T: FromStr>(&self, name: &str, expected: &str) -> Result<T> {
        self.text(name, expected)?.parse().map_err(|_| self.unexpected(name, expected))
    }

    /// Such a value that may not be set.
    pub(super) fn parse_optional<T: FromStr>(&self, name: &str, expected: &str) -> Result<Option<T>> {
        self.optional(name)?.map(|_| self.parse(name, expected)).transpose()
    }

    /// A number within a range.
    pub(super) fn number<T: FromStr + PartialOrd + Display>(&self, name: &str, range: RangeInclusive<T>) -> Result<T> {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        let number: T = self.parse(name, &expected)?;
        if range.contains(&number) { Ok(number) } else { Err(self.unexpected(name, &expected)) }
    }

    /// A time in seconds (fractions allowed) within a range.
    pub(super) fn seconds(&self, name: &str, range: RangeInclusive<f64>) -> Result<Duration> {
        self.number(name, range).map(Duration::from_secs_f64)
    }

    /// A path that may not be set.
    pub(super) fn path(&self, name: &str) -> Result<Option<PathBuf>> {
        Ok(self.optional(name)?.map(PathBuf::from))
    }

    /// A secret that may not be set; exactly as it was given.
    pub(super) fn secret(&self, name: &str) -> Result<Option<Secret>> {
        let value = &self.get(name)?.value;
        Ok((!value.is_empty()).then(|| Secret::new(value.clone())))
    }

    /// A variable of [`aws`] that may not be set.
    pub(super) fn foreign(&self, name: &str) -> Option<&str> {
        self.foreign.get(name).map(|setting| setting.value.as_str())
    }

    /// The error for a value that is not what it may be. Secrets and passwords are not in it.
    pub(super) fn unexpected(&self, name: &str, expected: &str) -> Error {
        let shown = self.values.get(name).map_or(String::new(), |setting| shown(name, &setting.value));
        self.error(name, format!("expected {expected}, got {shown:?}"))
    }

    /// An error about a setting.
    pub(super) fn error(&self, name: &str, problem: impl Display) -> Error {
        let source = self.values.get(name).map_or("", |setting| &setting.source);
        Error::config(format!("{} ({source}): {problem}", variable_name(name)))
    }

    /// Every setting for people, secrets redacted.
    pub(super) fn effective(&self) -> Vec<EffectiveSetting> {
        let ours = self.values.iter().map(|(name, setting)| (variable_name(name), name, setting));
        let foreign = self.foreign.iter().map(|(name, setting)| (name.clone(), name, setting));
        let show = |(variable, name, setting): (String, &String, &Setting)| EffectiveSetting {
            name: variable,
            value: shown(name, &setting.value),
            source: setting.source.clone(),
        };
        ours.chain(foreign).map(show).collect()
    }
}

/// A value for people.
fn shown(name: &str, value: &str) -> String {
    if value.is_empty() {
        return String::new();
    }
    if SECRETS.contains(&name) || aws::SECRETS.contains(&name) {
        return "[redacted]".to_owned();
    }
    match value.split_once("://") {
        // Passwords in URLs sit before the @ or in the query.
        Some((scheme, rest)) if rest.contains(['@', '?']) => format!("{scheme}://[redacted]"),
        None if WITH_PASSWORDS.contains(&name) && value.contains(['@', '?']) => "[redacted]".to_owned(),
        _ => value.to_owned(),
    }
}

fn take(layers: &Layers, name: &str) -> Result<Setting> {
    let Ok(value) = layers.figment.find_value(name) else {
        return Ok(Setting { value: String::new(), source: "default".to_owned() });
    };
    let source = layers.figment.get_metadata(value.tag()).map_or(String::new(), |metadata| metadata.name.to_string());
    match as_text(&value) {
        Some(value) => Ok(Setting { value, source }),
        None => Err(Error::config(format!("{} ({source}): expected one value", variable_name(name)))),
    }
}

/// A TOML value as a variable would state it; a list by commas.
fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Bool(_, flag) => Some(flag.to_string()),
        Value::Num(_, number) => {
            let integer = number.to_i128().map(|n| n.to_string()).or_else(|| number.to_u128().map(|n| n.to_string()));
            integer.or_else(|| number.to_f64().map(|n| n.to_string()))
        }
        Value::Array(_, items) => items.iter().map(as_text).collect::<Option<Vec<_>>>().map(|items| items.join(",")),
        Value::Char(_, char) => Some(char.to_string()),
        Value::Empty(..) | Value::Dict(..) => None,
    }
}

/// The variables of [`aws`]; a stronger source hides both forms of a weaker one.
fn foreign(layers: &Layers) -> Result<BTreeMap<String, Setting>> {
    let mut strongest = BTreeMap::new();
    for given @ (source, variable, _) in &layers.foreign {
        let secret = variable.strip_suffix("_FILE").filter(|secret| aws::SECRETS.contains(secret));
        let name = secret.unwrap_or(variable).to_owned();
        let hidden = strongest.insert(name, (secret.is_some(), given));
        if let Some((_, (other_source, other, _))) = hidden
            && other_source == source
            && other != variable
        {
            return Err(Error::config(format!("{other} and {variable} ({source}): set one of them")));
        }
    }
    let setting = |(name, (in_file, (source, variable, value))): (String, (bool, &(&str, String, String)))| {
        let setting = Setting { value: value.clone(), source: (*source).to_owned() };
        Ok((name, if in_file { from_file(variable, setting)? } else { setting }))
    };
    strongest.into_iter().map(setting).collect()
}

/// The content of a secret's file, without the line end that editors add.
fn from_file(variable: &str, file: Setting) -> Result<Setting> {
    let problem = |what: String| Error::config(format!("{variable} ({}): {}: {what}", file.source, file.value));
    let text = fs::read_to_string(&file.value).map_err(|error| problem(format!("cannot be read: {error}")))?;
    let value = text.trim_end_matches(['\n', '\r']).to_owned();
    if value.is_empty() {
        return Err(problem("is empty".to_owned()));
    }
    Ok(Setting { value, source: format!("{}, {}", file.source, file.value) })
}
