//! `node.toml`: the settings of a node, apart from any pipeline's.
//!
//! A flag of the command line goes before an environment variable, that before the file, the file before the default.
//! [`DEFAULT`] is the commented default that `wasmill default-config` prints; a test keeps it equal to
//! [`Config::default`].

use outbound::SecretSources;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The reference: every key, its unit and its default.
pub const DEFAULT: &str = include_str!("default.toml");

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read `{path}`: {cause}")]
    Read { path: String, cause: std::io::Error },
    /// The text names line and column.
    #[error("{path}: {cause}")]
    Parse { path: String, cause: toml::de::Error },
}

/// Settings of a node, checked.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    pub cluster: String,
    /// Static member of the pipelines' groups; must differ between nodes of a cluster.
    pub node: String,
    /// Where it stands; empty: nowhere in particular. Standbys go to other racks first.
    pub rack: String,
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    /// `host:port` under which other nodes of the cluster reach `listen`; empty: as it is.
    pub advertise: String,
    /// The file whose first line everybody must show who asks over REST; empty: nobody is asked. `WASMILL_TOKEN` goes
    /// before it.
    pub token_file: PathBuf,
    /// Others may reach the address without a token or in plain text.
    pub insecure: bool,
    pub tls: Tls,
    /// `host:port,…`; empty: the embedded log in `data_dir`.
    pub brokers: String,
    /// Stream threads per pipeline.
    pub threads: usize,
    #[serde(deserialize_with = "duration")]
    pub commit_interval: Duration,
    #[serde(deserialize_with = "duration")]
    pub commit_interval_at_least_once: Duration,
    #[serde(deserialize_with = "duration")]
    pub session_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    pub transaction_timeout: Duration,
    /// How long a broker that does not answer is tried before the node gives up.
    #[serde(deserialize_with = "duration")]
    pub broker_timeout: Duration,
    /// Block cache and memtables of all task stores together, bytes.
    #[serde(deserialize_with = "bytes")]
    pub state_memory: usize,
    /// Fetched records that wait, bytes per stream thread.
    #[serde(deserialize_with = "bytes")]
    pub queue_memory: usize,
    /// Every commit of the embedded log reaches the disk before it is answered.
    pub sync: bool,
    /// Variables of this process's environment that pipelines may grant to modules.
    pub grantable_env: Vec<String>,
    /// Where `${secret:NAME}` of grants comes from.
    pub secrets: SecretSources,
    /// librdkafka's settings.
    pub kafka: BTreeMap<String, toml::Value>,
}

/// PEM files for REST; both empty: plain HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Tls {
    /// The node's certificate, and those between it and an authority.
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Authorities of the other nodes' certificates; empty: those in `cert`.
    pub ca: PathBuf,
}

impl Tls {
    pub fn is_on(&self) -> bool {
        !(self.cert.as_os_str().is_empty() && self.key.as_os_str().is_empty())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cluster: "default".into(),
            node: "node-1".into(),
            rack: String::new(),
            data_dir: PathBuf::from(".wasmill"),
            listen: SocketAddr::from(([127, 0, 0, 1], 7700)),
            advertise: String::new(),
            token_file: PathBuf::new(),
            insecure: false,
            tls: Tls::default(),
            brokers: String::new(),
            threads: 1,
            commit_interval: Duration::from_millis(100),
            commit_interval_at_least_once: Duration::from_secs(30),
            session_timeout: Duration::from_secs(6),
            transaction_timeout: Duration::from_secs(10),
            broker_timeout: Duration::from_secs(30),
            state_memory: 256 << 20,
            queue_memory: 32 << 20,
            sync: false,
            grantable_env: Vec::new(),
            secrets: SecretSources::default(),
            kafka: BTreeMap::new(),
        }
    }
}

impl Config {
    /// # Errors
    /// [`Error::Parse`] names line, column and the nearest known keys.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        toml::from_str(text).map_err(|cause| Error::Parse {
            path: path.display().to_string(),
            cause,
        })
    }

    /// # Errors
    /// [`Error::Read`] or [`Error::Parse`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|cause| Error::Read {
            path: path.display().to_string(),
            cause,
        })?;
        Self::parse(&text, path)
    }

    /// What other nodes are told; `None` where `listen` is no address of its own.
    pub(crate) fn advertised(&self) -> Option<String> {
        if !self.advertise.is_empty() {
            return Some(self.advertise.clone());
        }
        (!self.listen.ip().is_unspecified()).then(|| self.listen.to_string())
    }

    pub(crate) fn outbound(&self) -> outbound::Options {
        outbound::Options {
            secrets: self.secrets.clone(),
            env: self.grantable_env.clone(),
            resolve: None,
        }
    }

    /// `[kafka]` as librdkafka takes it: every value as text.
    pub fn kafka_settings(&self) -> BTreeMap<String, String> {
        let text = |value: &toml::Value| match value {
            toml::Value::String(s) => s.clone(),
            other => other.to_string(),
        };
        self.kafka.iter().map(|(k, v)| (k.clone(), text(v))).collect()
    }
}

/// `100ms`, `30s`, `5m`.
fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let parsed: Result<jiff::SignedDuration, _> = text.parse();
    parsed
        .ok()
        .and_then(|d| Duration::try_from(d).ok())
        .ok_or_else(|| serde::de::Error::custom(format!("`{text}` is not a duration such as `100ms` or `30s`")))
}

/// `64MiB`, `1GiB`, `512KiB`, or a plain number of bytes.
fn bytes<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_bytes(&text)
        .ok_or_else(|| serde::de::Error::custom(format!("`{text}` is not a size such as `64MiB` or `1GiB`")))
}

fn parse_bytes(text: &str) -> Option<usize> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let (number, shift) = units
        .iter()
        .find_map(|(unit, shift)| text.strip_suffix(unit).map(|n| (n, *shift)))
        .unwrap_or((text, 0));
    number.trim().parse::<usize>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_printed_default_is_the_default() {
        assert_eq!(
            Config::parse(DEFAULT, Path::new("default.toml")).unwrap(),
            Config::default()
        );
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place() {
        let error = Config::parse("threads = 2\ntreads = 3\n", Path::new("node.toml"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("line 2") && error.contains("treads"), "{error}");
    }
}
