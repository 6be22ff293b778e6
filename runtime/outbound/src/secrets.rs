//! Values of secrets: from a directory, a file or the environment of the node, read again while it runs.
//!
//! They are held for a moment and never shown: no `Debug`, no error and no log of this crate has one in it.

use std::collections::HashMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;

/// How long a value that was read is used: a rotated secret counts from then on, and a busy step reads no file at each
/// request.
const HELD: Duration = Duration::from_secs(1);
/// Of one secret, and of the file with all of them: tokens and keys have some kilobytes.
const VALUE_BYTES_MAX: u64 = 64 << 10;
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where the secrets of a node are. What is in the directory goes before the file, the file before the environment.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SecretSources {
    /// One file for each secret, named as it is; a newline at its end does not count. Empty: none.
    pub directory: PathBuf,
    /// TOML: `NAME = "value"`. Empty: none.
    pub file: PathBuf,
    /// Before the name in the environment. Empty: not from there.
    pub env_prefix: String,
}

impl Default for SecretSources {
    fn default() -> Self {
        Self {
            directory: PathBuf::new(),
            file: PathBuf::new(),
            env_prefix: "WASMILL_SECRET_".into(),
        }
    }
}

/// The secrets of a node.
pub struct Secrets {
    sources: SecretSources,
    held: Mutex<HashMap<String, (Instant, Arc<str>)>>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets")
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}

impl Secrets {
    pub fn new(sources: SecretSources) -> Self {
        Self {
            sources,
            held: Mutex::default(),
        }
    }

    /// The value of a secret now, or as it was within the last second.
    ///
    /// # Errors
    /// Where it was looked for and not found, or what cannot be read.
    pub fn get(&self, name: &str) -> Result<Arc<str>, String> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, value)) = held.get(name)
            && at.elapsed() < HELD
        {
            return Ok(value.clone());
        }
        let value: Arc<str> = self.read(name)?.into();
        held.insert(name.to_owned(), (Instant::now(), value.clone()));
        Ok(value)
    }

    fn read(&self, name: &str) -> Result<String, String> {
        let SecretSources {
            directory,
            file,
            env_prefix,
        } = &self.sources;
        let mut looked = Vec::new();
        // The pipeline file's reader lets no such name through; a path must not depend on that.
        let plain = !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
        if !directory.as_os_str().is_empty() && plain {
            let path = directory.join(name);
            if let Some(text) = text_of(&path, VALUE_BYTES_MAX)? {
                let text = text.strip_suffix('\n').unwrap_or(&text);
                return checked(name, text.strip_suffix('\r').unwrap_or(text));
            }
            looked.push(format!("the file `{}`", path.display()));
        }
        if !file.as_os_str().is_empty() {
            if let Some(text) = text_of(file, FILE_BYTES_MAX)?
                && let Some(value) = entry(&text, name, file)?
            {
                return checked(name, &value);
            }
            looked.push(format!("`{name}` in `{}`", file.display()));
        }
        if !env_prefix.is_empty() {
            let variable = format!("{env_prefix}{name}");
            if let Ok(value) = std::env::var(&variable) {
                return checked(name, &value);
            }
            looked.push(format!("the variable `{variable}`"));
        }
        let places = match looked.is_empty() {
            true => "its node.toml names no place for secrets".to_owned(),
            false => format!("looked for {}", looked.join(", ")),
        };
        Err(format!("this node has no secret `{name}`: {places}"))
    }
}

fn checked(name: &str, value: &str) -> Result<String, String> {
    if value.is_empty() {
        return Err(format!("the secret `{name}` is empty"));
    }
    if !value.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return Err(format!(
            "the secret `{name}` has characters that a header cannot hold: only visible ASCII goes"
        ));
    }
    Ok(value.to_owned())
}

/// `None`: there is no such file.
fn text_of(path: &Path, bytes_max: u64) -> Result<Option<String>, String> {
    let failed = |cause: String| format!("failed to read `{}` for a secret: {cause}", path.display());
    match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error.to_string())),
        Ok(found) if found.len() > bytes_max => return Err(failed(format!("it has more than {bytes_max} bytes"))),
        Ok(_) => {}
    }
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        // Taken away meanwhile, as a rotation may do.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// The errors of TOML's reader show the line they are about, which may hold a secret: only its number is told.
fn entry(text: &str, name: &str, file: &Path) -> Result<Option<String>, String> {
    let table: toml::Table = toml::from_str(text).map_err(|error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start);
        let line = text.get(..at).unwrap_or_default().matches('\n').count() + 1;
        format!(
            "`{}` is no TOML at line {line}; hint: write `NAME = \"value\"`",
            file.display()
        )
    })?;
    match table.get(name) {
        None => Ok(None),
        Some(toml::Value::String(value)) => Ok(Some(value.clone())),
        Some(_) => Err(format!("`{name}` in `{}` is no string", file.display())),
    }
}
