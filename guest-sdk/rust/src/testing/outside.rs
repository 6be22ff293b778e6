//! The world outside in a native test: a scripted server, variables, a clock that stands where the test put it, and numbers
//! from a seed. What was not given is not there.

use std::collections::BTreeMap;

use crate::bindings::wasmill::http::client::{self as wit, Cause};
use crate::component::Component;
use crate::http::{Answer, Problem, Request, Response};

use super::{Module, Start};

type Server = Box<dyn FnMut(&Request) -> Answer>;

#[derive(Default)]
pub(crate) struct Outside {
    pub(crate) server: Option<Server>,
    pub(crate) seen: Vec<Request>,
    /// Sizes of the calls that sent them.
    pub(crate) rounds: Vec<usize>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) seed: u64,
    pub(crate) drawn: u64,
}

impl Outside {
    pub(crate) fn fetch_many(&mut self, requests: &[wit::Request]) -> Vec<Result<wit::Response, wit::Problem>> {
        self.rounds.push(requests.len());
        let answer = |request: &wit::Request| {
            let request = Request(request.clone());
            let answer = match &mut self.server {
                Some(server) => server(&request),
                None => Err(Problem::new(
                    Cause::Denied,
                    "the test has no server; hint: `.http(…)` before `.start()`",
                )),
            };
            self.seen.push(request);
            answer.map(|response| response.0).map_err(|problem| problem.0)
        };
        requests.iter().map(answer).collect()
    }

    /// SplitMix64: the same numbers for the same seed.
    pub(crate) fn number(&mut self) -> u64 {
        self.drawn = self.drawn.wrapping_add(1);
        let mut mixed = self.seed.wrapping_add(self.drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl<C: Component> Start<C> {
    /// Answers every request of the module; without it they are denied.
    ///
    /// ```
    /// # use wasmill_guest::prelude::*;
    /// # use wasmill_guest::{Request, Response};
    /// # struct P;
    /// # impl Processor for P {
    /// #     fn declare(_: &mut Module) -> Self { P }
    /// #     fn process(&mut self, _: Row<'_>, _: &mut Outbox) -> Outcome { done() }
    /// # }
    /// let t = testing::run::<P>().http(|request: &Request| match request.url() {
    ///     "/score?merchant=a" => Ok(Response::new(200, "0.5")),
    ///     _ => Ok(Response::new(404, "")),
    /// });
    /// ```
    pub fn http(mut self, server: impl FnMut(&Request) -> Answer + 'static) -> Self {
        self.outside.server = Some(Box::new(server));
        self
    }

    /// Gives the environment a variable, which is granted by that.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.outside.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// What random numbers come from; 0 unless said otherwise.
    pub fn seed(mut self, seed: u64) -> Self {
        self.outside.seed = seed;
        self
    }
}

impl<C: Component> Module<C> {
    /// Every request that the module sent, in their order.
    pub fn requests(&self) -> Vec<Request> {
        self.host.borrow().outside.seen.clone()
    }

    /// How many requests were sent together, for each time that any were.
    pub fn request_rounds(&self) -> Vec<usize> {
        self.host.borrow().outside.rounds.clone()
    }
}

/// For scripted servers.
impl Request {
    /// As the module gave it.
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// `GET`, …
    pub fn method(&self) -> &str {
        &self.0.method
    }

    /// The body.
    pub fn bytes(&self) -> &[u8] {
        &self.0.body
    }
}

/// For scripted servers.
impl Response {
    /// A response without headers.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Response(wit::Response {
            status,
            headers: Vec::new(),
            body: body.into(),
            url: String::new(),
        })
    }
}

/// For scripted servers.
impl Problem {
    /// Timeouts and broken connections pass, the others do not.
    pub fn new(cause: Cause, message: &str) -> Self {
        Problem(wit::Problem {
            cause,
            transient: matches!(cause, Cause::Timeout | Cause::Connection),
            message: message.to_owned(),
        })
    }
}
