//! Other nodes of the cluster, asked over REST with this node's token.

use crate::api::{Problem, QueryAnswer, QueryRequest, Status};
use crate::config::Config;
use crate::refusal::{Fault, Refusal};
use std::time::Duration;
use ureq::http::header::AUTHORIZATION;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::typestate::WithoutBody;
use ureq::{Agent, RequestBuilder};

/// A node that is there answers in milliseconds; one that is gone must not hold an answer up for long.
const CONNECT: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(10);
/// The same where a standby can answer instead, and for what a person looks at.
const TIMEOUT_SHORT: Duration = Duration::from_secs(2);
/// Of one answer: pages have at most 10,000 entries.
const BYTES_MAX: u64 = 256 << 20;

/// Codes that mean the same whoever answers.
const CODES: [(&str, Fault); 4] = [
    (super::query::NOT_READY, Fault::Unavailable),
    (super::query::BEHIND, Fault::Unavailable),
    ("invalid-key", Fault::Invalid),
    ("invalid-page", Fault::Invalid),
];

pub(crate) struct Peers {
    agent: Agent,
    scheme: &'static str,
    token: Option<String>,
}

/// Another node, and where it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) node: String,
    pub(crate) address: String,
}

/// Why another node gave no answer.
pub(crate) enum Unanswered {
    /// It is not there, or says nothing.
    Gone(Refusal),
    Refused(Refusal),
}

impl Unanswered {
    pub(crate) fn into_refusal(self) -> Refusal {
        match self {
            Self::Gone(refusal) | Self::Refused(refusal) => refusal,
        }
    }
}

impl Peers {
    /// # Errors
    /// Certificates of other nodes that cannot be read; a token file that cannot.
    pub(crate) fn new(config: &Config) -> Result<Self, Refusal> {
        let mut tls = TlsConfig::builder();
        if config.tls.is_on() {
            tls = tls.root_certs(roots(config)?);
        }
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT))
            .tls_config(tls.build())
            .build();
        Ok(Self {
            agent: agent.into(),
            scheme: if config.tls.is_on() { "https" } else { "http" },
            token: crate::rest::token(config)?,
        })
    }

    /// `in_a_hurry`: somebody else may answer.
    ///
    /// # Errors
    /// What it refuses, and that it does not answer.
    pub(crate) fn query(
        &self,
        peer: &Peer,
        (pipeline, store): (&str, &str),
        asked: &QueryRequest,
        in_a_hurry: bool,
    ) -> Result<QueryAnswer, Unanswered> {
        let url = format!(
            "{}://{}/v1/pipelines/{pipeline}/stores/{store}/entries",
            self.scheme, peer.address
        );
        let timeout = if in_a_hurry { TIMEOUT_SHORT } else { TIMEOUT };
        let mut request = self.asking(url, timeout);
        for (name, value) in asked.words() {
            request = request.query(name, value);
        }
        let gone = |e: ureq::Error| {
            let message = format!(
                "node `{}` at {} holds what was asked for and does not answer: {e}\n\
                 hint: is it there, and is that where others reach it (`advertise` in its node.toml)?",
                peer.node, peer.address
            );
            Unanswered::Gone(Refusal::new(Fault::Unavailable, super::query::NOT_READY, message))
        };
        let mut answer = request.call().map_err(gone)?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(BYTES_MAX);
        if status < 400 {
            return body.read_json().map_err(gone);
        }
        let problem: Problem = body.read_json().unwrap_or_else(|_| Problem {
            code: String::new(),
            message: format!("status {status}"),
        });
        Err(Unanswered::Refused(refused(peer, status, &problem)))
    }

    /// What another node says of itself, or why it does not.
    pub(crate) fn status(&self, peer: &Peer) -> Result<Status, String> {
        let url = format!("{}://{}/v1/status", self.scheme, peer.address);
        let answer = self.asking(url, TIMEOUT_SHORT).call();
        let mut answer = answer.map_err(|e| format!("does not answer: {e}"))?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(BYTES_MAX);
        match status {
            200..300 => body
                .read_json()
                .map_err(|e| format!("says what this version cannot read: {e}")),
            401 => Err("refuses this node's token; all nodes of a cluster take the same".into()),
            _ => Err(format!("answers with status {status}")),
        }
    }

    fn asking(&self, url: String, timeout: Duration) -> RequestBuilder<WithoutBody> {
        let request = self.agent.get(url).config().timeout_global(Some(timeout)).build();
        match &self.token {
            Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        }
    }
}

fn refused(peer: &Peer, status: u16, problem: &Problem) -> Refusal {
    if let Some((code, fault)) = CODES.into_iter().find(|(code, _)| *code == problem.code) {
        return Refusal::new(fault, code, problem.message.clone());
    }
    let hint = match status {
        401 => "\nhint: all nodes of a cluster take the same token",
        _ => "",
    };
    Refusal::ours(format!(
        "node `{}` at {}: {}{hint}",
        peer.node, peer.address, problem.message
    ))
}

/// Who may vouch for other nodes: `tls.ca`, else whoever stands in this node's own chain.
fn roots(config: &Config) -> Result<RootCerts, Refusal> {
    let (what, path) = match config.tls.ca.as_os_str().is_empty() {
        true => ("cert", &config.tls.cert),
        false => ("ca", &config.tls.ca),
    };
    let invalid = |cause: String| Refusal::invalid("tls", format!("`tls.{what}`: `{}`: {cause}", path.display()));
    let pem = std::fs::read(path).map_err(|e| invalid(e.to_string()))?;
    authorities(&pem).ok_or_else(|| invalid("it holds no certificate in PEM".into()))
}

/// The certificates in a PEM file; `None` where there is none.
pub fn authorities(pem: &[u8]) -> Option<RootCerts> {
    let found: Vec<_> = parse_pem(pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    (!found.is_empty()).then(|| RootCerts::from(found))
}
