//! What a pipeline grants a module, what the module's description wants, and what is lacking.
//!
//! Here are names only: the value of a secret or of a variable of the environment is the node's and never gets here, so
//! grants can be stored, compared and shown.

use std::fmt;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::description::{Attribute, CapabilityDescription};
use crate::origin::Origin;

/// Everything that is not in here is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Grants {
    pub http: Vec<HttpGrant>,
    /// Names of variables of the node's environment.
    pub env: Vec<String>,
    pub clock: bool,
    pub random: bool,
}

/// Requests to one origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct HttpGrant {
    pub origin: Origin,
    /// The name of the origin may stand for addresses that are not public: loopback and private networks.
    pub private: bool,
    /// Added to every request by the host; names in lower case.
    pub headers: IndexMap<String, Vec<HeaderPart>>,
    /// For a whole request: connecting, sending, and all of the answer.
    pub timeout_ms: u64,
    pub connect_ms: u64,
    /// Requests of this step on one node that run at the same time.
    pub concurrent: u32,
    /// Of one request, without the headers.
    pub request_bytes: u64,
    /// Of one response, without the headers.
    pub response_bytes: u64,
}

impl HttpGrant {
    /// With the defaults, which fit a service that answers in milliseconds.
    pub fn new(origin: Origin) -> Self {
        Self {
            origin,
            private: false,
            headers: IndexMap::new(),
            timeout_ms: 2_000,
            connect_ms: 1_000,
            concurrent: 16,
            request_bytes: 1 << 20,
            response_bytes: 1 << 20,
        }
    }
}

/// A piece of a header's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeaderPart {
    Text(String),
    /// The name of a secret of the node.
    Secret(String),
}

impl Grants {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Names of the secrets that the headers need, each once.
    pub fn secrets(&self) -> Vec<&str> {
        let parts = self.http.iter().flat_map(|grant| grant.headers.values().flatten());
        let mut names: Vec<&str> = parts
            .filter_map(|part| match part {
                HeaderPart::Secret(name) => Some(name.as_str()),
                HeaderPart::Text(_) => None,
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// As people read it, one grant after the other; secrets by their names. Two that differ read differently.
impl fmt::Display for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all: Vec<String> = self.http.iter().map(|grant| format!("http {grant}")).collect();
        if !self.env.is_empty() {
            all.push(format!("env {}", self.env.join(" ")));
        }
        all.extend(self.clock.then(|| "clock".to_owned()));
        all.extend(self.random.then(|| "random".to_owned()));
        match all.is_empty() {
            true => f.write_str("nothing"),
            false => f.write_str(&all.join(", ")),
        }
    }
}

impl fmt::Display for HttpGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usual = Self::new(self.origin.clone());
        write!(
            f,
            "{} ({} ms, {} at once",
            self.origin, self.timeout_ms, self.concurrent
        )?;
        if self.private {
            f.write_str(", private addresses")?;
        }
        if self.connect_ms != usual.connect_ms {
            write!(f, ", connects in {} ms", self.connect_ms)?;
        }
        if self.request_bytes != usual.request_bytes {
            write!(f, ", sends {} bytes at most", self.request_bytes)?;
        }
        if self.response_bytes != usual.response_bytes {
            write!(f, ", takes {} bytes at most", self.response_bytes)?;
        }
        for (name, parts) in &self.headers {
            write!(f, ", {name}: ")?;
            for part in parts {
                match part {
                    HeaderPart::Text(text) => f.write_str(text)?,
                    HeaderPart::Secret(secret) => write!(f, "${{secret:{secret}}}")?,
                }
            }
        }
        f.write_str(")")
    }
}

/// A capability as a description asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    pub capability: Capability,
    pub reason: String,
    /// Without the grant the module runs all the same, and its calls are refused.
    pub optional: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Every one of these origins; none: any that the pipeline grants.
    Http(Vec<Origin>),
    /// Every one of these names.
    Env(Vec<String>),
    Clock,
    Random,
}

/// The words of [`Capability`].
pub const CAPABILITIES: [&str; 4] = ["http", "env", "clock", "random"];

impl Want {
    /// # Errors
    /// An option that this host does not know, or a value that is none of it.
    pub fn of(description: &CapabilityDescription) -> Result<Self, String> {
        let name = &description.name;
        let mut want = Self {
            capability: match name.as_str() {
                "http" => Capability::Http(Vec::new()),
                "env" => Capability::Env(Vec::new()),
                "clock" => Capability::Clock,
                "random" => Capability::Random,
                _ => {
                    return Err(format!(
                        "it wants the capability `{name}`, which this host does not know; there are {}",
                        CAPABILITIES.join(", ")
                    ));
                }
            },
            reason: description.reason.clone(),
            optional: false,
        };
        for option in &description.options {
            want.option(option).map_err(|problem| {
                format!(
                    "its capability `{name}` has `{} = {}`, {problem}",
                    option.name, option.value
                )
            })?;
        }
        Ok(want)
    }

    fn option(&mut self, option: &Attribute) -> Result<(), String> {
        let value = toml_value(&option.value).ok_or("which is no value of TOML")?;
        match (option.name.as_str(), &mut self.capability, value) {
            ("optional", _, toml::Value::Boolean(optional)) => self.optional = optional,
            ("origins", Capability::Http(origins), value) => {
                let texts = strings(value).ok_or("which is no list of strings")?;
                *origins = texts.iter().map(|text| Origin::parse(text)).collect::<Result<_, _>>()?;
            }
            ("names", Capability::Env(names), value) => {
                *names = strings(value).ok_or("which is no list of strings")?;
            }
            _ => return Err("which this host does not know".into()),
        }
        Ok(())
    }

    fn lacking(&self, grants: &Grants) -> Option<(&'static str, String, String)> {
        match &self.capability {
            Capability::Http(origins) => {
                let granted = |origin: &&Origin| grants.http.iter().any(|grant| grant.origin == **origin);
                let missing: Vec<&Origin> = origins.iter().filter(|origin| !granted(origin)).collect();
                let sample = || "https://…".to_owned();
                match missing.first() {
                    Some(first) => Some(("http", listed(&missing), first.to_string())),
                    None if grants.http.is_empty() => Some(("http", String::new(), sample())),
                    None => None,
                }
            }
            Capability::Env(names) => {
                let missing: Vec<&String> = names.iter().filter(|name| !grants.env.contains(name)).collect();
                let all = names
                    .iter()
                    .map(|name| format!("\"{name}\""))
                    .collect::<Vec<_>>()
                    .join(", ");
                let lacks = !missing.is_empty() || (names.is_empty() && grants.env.is_empty());
                let sample = if all.is_empty() { "\"NAME\"".to_owned() } else { all };
                lacks.then(|| ("env", listed(&missing), sample))
            }
            Capability::Clock => (!grants.clock).then(|| ("clock", String::new(), String::new())),
            Capability::Random => (!grants.random).then(|| ("random", String::new(), String::new())),
        }
    }
}

fn listed<T: fmt::Display>(names: &[T]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match names.is_empty() {
        true => String::new(),
        false => format!(" for {}", names.join(", ")),
    }
}

/// What a description wants and a step does not grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ungranted {
    /// Completes "module `x@1`": `wants `http` (its reason), and step `y` does not grant it`.
    pub message: String,
    /// What to write.
    pub hint: String,
}

impl fmt::Display for Ungranted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; hint: {}", self.message, self.hint)
    }
}

/// Everything that `capabilities` want of `step` beyond `grants`. Not empty: the module must not run.
pub fn ungranted(step: &str, capabilities: &[CapabilityDescription], grants: &Grants) -> Vec<Ungranted> {
    let mut lacking = Vec::new();
    for description in capabilities {
        let want = match Want::of(description) {
            Ok(want) if want.optional => continue,
            Ok(want) => want,
            Err(message) => {
                let hint = "run it on a node that knows it".to_owned();
                lacking.push(Ungranted { message, hint });
                continue;
            }
        };
        let Some((capability, of, sample)) = want.lacking(grants) else {
            continue;
        };
        let reason = match want.reason.as_str() {
            "" => String::new(),
            reason => format!(" ({reason})"),
        };
        lacking.push(Ungranted {
            message: format!("wants `{capability}`{of}{reason}, and step `{step}` does not grant it"),
            hint: match capability {
                "http" => format!("say `[[steps.{step}.grants.http]]` with `origin = \"{sample}\"`"),
                "env" => format!("say `env = [{sample}]` in `[steps.{step}.grants]`"),
                word => format!("say `{word} = true` in `[steps.{step}.grants]`"),
            },
        });
    }
    lacking
}

fn toml_value(text: &str) -> Option<toml::Value> {
    let mut table: toml::Table = toml::from_str(&format!("v = {text}")).ok()?;
    let value = table.remove("v")?;
    table.is_empty().then_some(value)
}

fn strings(value: toml::Value) -> Option<Vec<String>> {
    let toml::Value::Array(list) = value else { return None };
    list.into_iter()
        .map(|item| match item {
            toml::Value::String(text) => Some(text),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn wants(name: &str, options: &[(&str, &str)]) -> CapabilityDescription {
        let options = options.iter().map(|(name, value)| Attribute {
            name: (*name).into(),
            value: (*value).into(),
        });
        CapabilityDescription {
            name: name.into(),
            reason: "a test".into(),
            options: options.collect(),
        }
    }

    fn lacking(capability: CapabilityDescription, grants: &Grants) -> Vec<String> {
        let lacking = ungranted("s", &[capability], grants);
        lacking.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nothing_is_granted_unless_it_is_said() {
        let none = Grants::default();
        for word in CAPABILITIES {
            assert_eq!(lacking(wants(word, &[]), &none).len(), 1, "{word}");
            assert!(
                lacking(wants(word, &[("optional", "true")]), &none).is_empty(),
                "{word}"
            );
        }
        assert_eq!(
            lacking(wants("clock", &[]), &none),
            ["wants `clock` (a test), and step `s` does not grant it; hint: say `clock = true` in `[steps.s.grants]`"]
        );
        assert_eq!(lacking(wants("files", &[]), &none).len(), 1);
    }

    #[test]
    fn an_origin_is_granted_with_its_scheme_and_port() {
        let grants = Grants {
            http: vec![HttpGrant::new(Origin::parse("https://a.example:8443").unwrap())],
            ..Grants::default()
        };
        let origin = |text: &str| wants("http", &[("origins", &format!("[\"{text}\"]"))]);
        assert!(lacking(wants("http", &[]), &grants).is_empty());
        assert!(lacking(origin("https://A.example:8443"), &grants).is_empty());
        for other in ["http://a.example:8443", "https://a.example", "https://b.example:8443"] {
            let found = lacking(origin(other), &grants);
            assert!(found.len() == 1 && found.concat().contains(other), "{other}: {found:?}");
        }
    }

    #[test]
    fn every_name_of_the_environment_counts() {
        let grants = Grants {
            env: vec!["REGION".into()],
            ..Grants::default()
        };
        let names = |list: &str| lacking(wants("env", &[("names", list)]), &grants);
        assert!(names("['REGION']").is_empty());
        let found = names("['REGION', 'STAGE']").concat();
        assert!(
            found.contains("for `STAGE`") && found.contains("env = [\"REGION\", \"STAGE\"]"),
            "{found}"
        );
    }

    #[test]
    fn an_unknown_option_is_named() {
        let broken = [
            wants("http", &[("hosts", "['a']")]),
            wants("env", &[("names", "'a'\nb = 1")]),
        ];
        for capability in broken {
            assert!(Want::of(&capability).is_err(), "{capability:?}");
        }
    }
}
