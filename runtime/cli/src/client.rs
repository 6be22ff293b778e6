//! The REST client of the command line.

use crate::args::Global;
use crate::failure::{Exit, refused};
use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use server::api::Problem;
use std::io::{BufRead, BufReader};
use std::time::Duration;
use ureq::http::{Request, Response};
use ureq::middleware::MiddlewareNext;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, SendBody};

/// A module of 20 MB compiles for up to a minute on a loaded machine.
const TIMEOUT: Duration = Duration::from_secs(300);

/// A node that streams says something every 5 s.
const SILENCE: Duration = Duration::from_secs(30);

pub struct Client {
    agent: Agent,
    base: String,
}

impl Client {
    /// The node that the flags name.
    ///
    /// # Errors
    /// A file of authorities that cannot be read.
    pub fn new(global: &Global) -> Result<Self> {
        let roots = match &global.ca {
            None => RootCerts::WebPki,
            Some(path) => {
                let pem = std::fs::read(path).with_context(|| format!("failed to read `{}`", path.display()))?;
                server::authorities(&pem)
                    .with_context(|| format!("`{}` holds no certificate in PEM", path.display()))?
            }
        };
        Ok(Self::with(
            &global.node,
            global.token.as_deref(),
            TlsConfig::builder().root_certs(roots).build(),
        ))
    }

    /// The node of this process: it need not prove who it is.
    ///
    /// # Errors
    /// A token file that cannot be read any more.
    pub fn own(server: &server::Server, config: &server::Config) -> Result<Self> {
        let token = server::token(config).map_err(|refusal| anyhow::anyhow!(refusal.message))?;
        let tls = TlsConfig::builder().disable_verification(true).build();
        Ok(Self::with(&server.url(), token.as_deref(), tls))
    }

    fn with(node: &str, token: Option<&str>, tls: TlsConfig) -> Self {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            .tls_config(tls);
        if let Some(token) = token {
            let shown = format!("Bearer {token}");
            config = config.middleware(move |mut request: Request<SendBody<'_>>, next: MiddlewareNext<'_>| {
                if let Ok(value) = shown.parse() {
                    request.headers_mut().insert("authorization", value);
                }
                next.handle(request)
            });
        }
        Self {
            agent: config.build().into(),
            base: node.trim_end_matches('/').to_owned(),
        }
    }

    /// `query` are names and values, encoded here.
    pub fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<T> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        for (name, value) in query {
            request = request.query(name, value);
        }
        self.read(request.call())
    }

    /// Lines of an answer that may go on for ever; `each` says whether to read on. Empty lines are signs of life.
    pub fn stream(
        &self,
        path: &str,
        query: &[(&str, String)],
        mut each: impl FnMut(&str) -> Result<bool>,
    ) -> Result<()> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        for (name, value) in query {
            request = request.query(name, value);
        }
        let request = request
            .config()
            .timeout_global(None)
            .timeout_per_read(Some(SILENCE))
            .build();
        let answer = self.checked(request.call())?;
        let gone = |e: std::io::Error| Exit::ours(format!("the node at {} went away: {e}", self.base));
        for line in BufReader::new(answer.into_body().into_reader()).lines() {
            let line = line.map_err(gone)?;
            if !line.is_empty() && !each(&line)? {
                break;
            }
        }
        Ok(())
    }

    pub fn get_text(&self, path: &str) -> Result<String> {
        let answer = self.agent.get(format!("{}{path}", self.base)).call();
        let mut answer = self.checked(answer)?;
        answer
            .body_mut()
            .read_to_string()
            .map_err(|e| Exit::ours(format!("failed to read the node's answer: {e}")))
    }

    pub fn get_bytes(&self, path: &str) -> Result<Vec<u8>> {
        let answer = self.agent.get(format!("{}{path}", self.base)).call();
        let mut answer = self.checked(answer)?;
        let read = answer.body_mut().with_config().limit(1 << 30).read_to_vec();
        read.map_err(|e| Exit::ours(format!("failed to read the node's answer: {e}")))
    }

    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.read(self.agent.post(format!("{}{path}", self.base)).send_json(body))
    }

    pub fn post_bytes<T: DeserializeOwned>(&self, path: &str, body: &[u8]) -> Result<T> {
        self.read(self.agent.post(format!("{}{path}", self.base)).send(body))
    }

    pub fn delete(&self, path: &str) -> Result<()> {
        self.read(self.agent.delete(format!("{}{path}", self.base)).call())
    }

    fn read<T: DeserializeOwned>(&self, answer: Result<Response<ureq::Body>, ureq::Error>) -> Result<T> {
        let mut answer = self.checked(answer)?;
        let text = answer
            .body_mut()
            .with_config()
            .limit(1 << 30)
            .read_to_vec()
            .map_err(|e| Exit::ours(format!("failed to read the node's answer: {e}")))?;
        serde_json::from_slice(&text).map_err(|e| {
            Exit::ours(format!(
                "the node's answer makes no sense (another version of wasmill?): {e}"
            ))
        })
    }

    fn checked(&self, answer: Result<Response<ureq::Body>, ureq::Error>) -> Result<Response<ureq::Body>> {
        let mut answer = answer.map_err(|e| {
            Exit::ours(format!(
                "no node answers at {}: {e}\nhint: start one with `wasmill serve`, or name another with --node",
                self.base
            ))
        })?;
        let status = answer.status().as_u16();
        if status < 400 {
            return Ok(answer);
        }
        let text = answer.body_mut().read_to_string().unwrap_or_default();
        let problem = serde_json::from_str(&text).unwrap_or_else(|_| Problem {
            code: "unknown".into(),
            message: format!("status {status}: {text}"),
        });
        Err(refused(status, &problem))
    }
}
