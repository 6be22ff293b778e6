//! HTTP requests to granted origins.
//!
//! A batch's requests run at the same time when they are [queued](Http::queue) in
//! [`prefetch`](crate::Processor::prefetch): the first [answer](Http::answer) that is asked for sends them all.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::bindings::wasmill::http::client as wit;
use crate::host;
use crate::outcome::{Error, Reject};

pub use wit::Cause;

/// How long a row waits whose request met a passing problem, when `?` decides.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A request, built by its methods. The host adds the headers of the grant, so credentials are not the module's business.
#[derive(Debug, Clone)]
pub struct Request(pub(crate) wit::Request);

impl Request {
    /// Of any method. `url` is absolute, or from the `/` on where the step has a single grant.
    pub fn new(method: &str, url: impl Into<String>) -> Self {
        Request(wit::Request {
            method: method.to_owned(),
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout_ms: 0,
            options: Vec::new(),
        })
    }

    /// `GET`.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// `POST`.
    pub fn post(url: impl Into<String>) -> Self {
        Self::new("POST", url)
    }

    /// `PUT`.
    pub fn put(url: impl Into<String>) -> Self {
        Self::new("PUT", url)
    }

    /// `DELETE`.
    pub fn delete(url: impl Into<String>) -> Self {
        Self::new("DELETE", url)
    }

    /// One more header.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.0.headers.push(wit::Field {
            name: name.to_owned(),
            value: value.as_ref().to_vec(),
        });
        self
    }

    /// The body.
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.0.body = bytes.into();
        self
    }

    /// A body of JSON, with its header. Fails for what JSON cannot say.
    #[cfg(feature = "json")]
    pub fn json(self, value: &impl serde::Serialize) -> Result<Self, serde_json::Error> {
        let bytes = serde_json::to_vec(value)?;
        Ok(self.header("content-type", "application/json").body(bytes))
    }

    /// A shorter time than the grant's.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.0.timeout_ms = u32::try_from(time.as_millis()).unwrap_or(u32::MAX).max(1);
        self
    }

    /// A redirect is the response, and is not followed.
    pub fn no_redirects(mut self) -> Self {
        self.0.options.push(wit::Attribute {
            name: "redirects".to_owned(),
            value: "none".to_owned(),
        });
        self
    }
}

/// What came back, of any status.
#[derive(Debug, Clone)]
pub struct Response(pub(crate) wit::Response);

impl Response {
    /// The status code.
    pub fn status(&self) -> u16 {
        self.0.status
    }

    /// Whether the status is one of 200 to 299.
    pub fn is_ok(&self) -> bool {
        (200..300).contains(&self.0.status)
    }

    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let found = self
            .0
            .headers
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case(name));
        found.map(|field| field.value.as_slice())
    }

    /// The body.
    pub fn bytes(&self) -> &[u8] {
        &self.0.body
    }

    /// The body, with what is no UTF-8 replaced.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.0.body)
    }

    /// The body as JSON.
    #[cfg(feature = "json")]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.0.body)
    }

    /// Where it came from, after redirects.
    pub fn url(&self) -> &str {
        &self.0.url
    }
}

/// Why there is no response. By `?` a row with a passing problem is tried again in a second, and any other fails.
#[derive(Debug, Clone)]
pub struct Problem(pub(crate) wit::Problem);

impl Problem {
    /// Of what kind it is.
    pub fn cause(&self) -> Cause {
        self.0.cause
    }

    /// The same request may go well later.
    pub fn is_transient(&self) -> bool {
        self.0.transient
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl From<Problem> for Reject {
    fn from(problem: Problem) -> Self {
        match problem.is_transient() {
            true => Reject::Retry {
                after: RETRY_AFTER,
                reason: problem.to_string(),
            },
            false => Reject::Fail(problem.to_string()),
        }
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Error::new(problem)
    }
}

/// What a request comes to.
pub type Answer = Result<Response, Problem>;

/// Requests to the origins that the pipeline grants.
#[derive(Debug, Default)]
pub struct Http(pub(crate) Rc<Queue>);

/// The requests of a call by the row that they are for, and what they came to.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: RefCell<Vec<(u32, Request)>>,
    answers: RefCell<BTreeMap<u32, Answer>>,
}

impl Queue {
    pub(crate) fn clear(&self) {
        self.waiting.borrow_mut().clear();
        self.answers.borrow_mut().clear();
    }
}

impl Http {
    /// The granted origins.
    pub fn origins(&self) -> Vec<String> {
        host::http_origins()
    }

    /// One request, now. For the requests of a batch there is [`Http::queue`].
    pub fn fetch(&self, request: Request) -> Answer {
        let answer = host::fetch(&request.0);
        answer.map(Response).map_err(Problem)
    }

    /// Many at the same time, answered in their order.
    pub fn fetch_many(&self, requests: impl IntoIterator<Item = Request>) -> Vec<Answer> {
        let requests: Vec<wit::Request> = requests.into_iter().map(|request| request.0).collect();
        if requests.is_empty() {
            return Vec::new();
        }
        let answers = host::fetch_many(&requests).into_iter();
        answers.map(|answer| answer.map(Response).map_err(Problem)).collect()
    }

    /// A request for a row, sent together with those of the others when the first answer is asked for. One a row: a second
    /// takes the place of the first.
    pub fn queue(&self, row: u32, request: Request) {
        self.0.waiting.borrow_mut().push((row, request));
    }

    /// What the request for this row came to, once; `None` if none was queued.
    pub fn answer(&self, row: u32) -> Option<Answer> {
        let waiting = self.0.waiting.take();
        if !waiting.is_empty() {
            let (rows, requests): (Vec<u32>, Vec<Request>) = waiting.into_iter().unzip();
            let answers = self.fetch_many(requests);
            self.0.answers.borrow_mut().extend(rows.into_iter().zip(answers));
        }
        self.0.answers.borrow_mut().remove(&row)
    }
}
