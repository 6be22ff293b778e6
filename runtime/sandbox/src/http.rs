//! `wasmill:http/client`: requests of a guest, checked for form and handed to the host's [`Outside`].
//!
//! Everything that goes wrong is a value for the guest; only misuse of the contract traps.

use std::time::Instant;

use wasmtime::Result;

use crate::bindings::grantable::wasmill::http::client as wit;
use crate::host::Host;
use crate::outside::{Allowance, Cause, Problem, Request, Response};

/// Of one `fetch-many`: a batch of the largest size with a request for each row.
const REQUESTS_MAX: usize = 10_000;

type Answer = Result<Response, Problem>;

impl wit::Host for Host {
    fn fetch(&mut self, request: wit::Request) -> Result<Result<wit::Response, wit::Problem>> {
        let answers = self.requests("http.fetch", vec![request])?;
        let none = || Err(Problem::new(Cause::Other, "the host gave no answer"));
        Ok(lower(answers.into_iter().next().unwrap_or_else(none)))
    }

    fn fetch_many(&mut self, requests: Vec<wit::Request>) -> Result<Vec<Result<wit::Response, wit::Problem>>> {
        let answers = self.requests("http.fetch-many", requests)?;
        Ok(answers.into_iter().map(lower).collect())
    }

    fn origins(&mut self) -> Result<Vec<String>> {
        self.allow_outside("http.origins")?;
        Ok(self.reach.origins.clone())
    }
}

impl Host {
    fn requests(&mut self, import: &str, requests: Vec<wit::Request>) -> Result<Vec<Answer>> {
        self.allow_outside(import)?;
        if !self.reach.http {
            let message = "the step grants no `http`, or the module's description does not ask for it";
            return Ok(requests
                .iter()
                .map(|_| Err(Problem::new(Cause::Denied, message)))
                .collect());
        }
        let outside = self.outside(import, "http", true)?;
        let mut answers: Vec<Option<Answer>> = Vec::with_capacity(requests.len());
        let mut sent = Vec::new();
        for (number, request) in requests.into_iter().enumerate() {
            answers.push(match lift(number, request) {
                Ok(request) => {
                    sent.push(request);
                    None
                }
                Err(problem) => Some(Err(problem)),
            });
        }
        let allowance = Allowance {
            time: self.reach.time_left(&self.limits),
            body_bytes: self.limits.memory_bytes,
        };
        let started = Instant::now();
        let mut fetched = if sent.is_empty() {
            Vec::new()
        } else {
            outside.fetch(sent, allowance)
        }
        .into_iter();
        self.reach.spend(started.elapsed());
        let missing = || Err(Problem::new(Cause::Other, "the host gave no answer"));
        let answered = answers
            .into_iter()
            .map(|refused| refused.or_else(|| fetched.next()).unwrap_or_else(missing));
        Ok(answered.collect())
    }
}

fn lift(number: usize, request: wit::Request) -> Result<Request, Problem> {
    if number >= REQUESTS_MAX {
        let message = format!("a call has at most {REQUESTS_MAX} requests");
        return Err(Problem::new(Cause::TooLarge, message));
    }
    let mut follow = true;
    for option in request.options {
        follow = match (option.name.as_str(), option.value.as_str()) {
            ("redirects", "follow") => true,
            ("redirects", "none") => false,
            (name, value) => {
                let message = format!("this host does not know the option `{name}` with `{value}`");
                return Err(Problem::new(Cause::InvalidRequest, message));
            }
        }
    }
    let timeout = (request.timeout_ms > 0).then(|| std::time::Duration::from_millis(request.timeout_ms.into()));
    Ok(Request {
        method: request.method,
        url: request.url,
        headers: request.headers.into_iter().map(|h| (h.name, h.value)).collect(),
        body: request.body,
        timeout,
        follow,
    })
}

fn lower(answer: Answer) -> Result<wit::Response, wit::Problem> {
    let field = |(name, value)| wit::Field { name, value };
    match answer {
        Ok(response) => Ok(wit::Response {
            status: response.status,
            headers: response.headers.into_iter().map(field).collect(),
            body: response.body,
            url: response.url,
        }),
        Err(problem) => Err(wit::Problem {
            cause: match problem.cause {
                Cause::Denied => wit::Cause::Denied,
                Cause::InvalidRequest => wit::Cause::InvalidRequest,
                Cause::Timeout => wit::Cause::Timeout,
                Cause::Connection => wit::Cause::Connection,
                Cause::TooLarge => wit::Cause::TooLarge,
                Cause::Protocol => wit::Cause::Protocol,
                Cause::Other => wit::Cause::Other,
            },
            transient: problem.transient,
            message: problem.message,
        }),
    }
}
