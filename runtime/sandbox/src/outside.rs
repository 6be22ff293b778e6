//! The world outside the log, as far as grants open it: what a host brings along, and what one instance may use of it.
//!
//! The network, the environment, clocks and randomness are behind [`Outside`]: a node brings the real ones (`outbound`),
//! `wasmill test` brings scripted ones. Whether a guest may call at all is decided here.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use topology::grants::{Capability, Want};
use topology::{Grants, Limits};
use wasmtime::{Result, bail};

use crate::engine::EPOCH_MS;
use crate::host::{Host, Phase};

/// What grants of one step are about. Methods are called in the thread of the guest and may block it.
pub trait Outside: Send + Sync + fmt::Debug {
    /// One answer for each request, in their order, within the allowance.
    fn fetch(&self, requests: Vec<Request>, allowance: Allowance) -> Vec<Result<Response, Problem>>;

    /// A granted variable of the environment.
    fn variable(&self, name: &str) -> Option<String>;

    /// Nanoseconds since 1970 UTC.
    fn wall_ns(&self) -> i64;

    /// Nanoseconds since some moment.
    fn monotonic_ns(&self) -> u64;

    /// # Errors
    /// The operating system has none, with its words.
    fn random(&self, bytes: &mut [u8]) -> Result<(), String>;
}

/// What is left to a call for its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    pub time: Duration,
    /// Bodies of all responses together.
    pub body_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    /// `None`: the grant's.
    pub timeout: Option<Duration>,
    /// Redirects of `GET` and `HEAD` are followed.
    pub follow: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    /// After redirects.
    pub url: String,
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub cause: Cause,
    /// Another try may go well.
    pub transient: bool,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    Denied,
    InvalidRequest,
    Timeout,
    Connection,
    TooLarge,
    Protocol,
    Other,
}

impl Cause {
    /// The contract's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::InvalidRequest => "invalid-request",
            Self::Timeout => "timeout",
            Self::Connection => "connection",
            Self::TooLarge => "too-large",
            Self::Protocol => "protocol",
            Self::Other => "other",
        }
    }
}

impl Problem {
    /// One that another try may not meet, by its cause.
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self {
            cause,
            transient: matches!(cause, Cause::Timeout | Cause::Connection),
            message: message.into(),
        }
    }
}

/// What one instance may use: what its description wants and its step grants, both. Nothing by default.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    pub http: bool,
    /// Of the grants of `http`.
    pub origins: Vec<String>,
    pub env: Vec<String>,
    pub clock: bool,
    pub random: bool,
    outside: Option<Arc<dyn Outside>>,
    /// Spent in requests by the running call.
    spent: Duration,
    /// The part of it that the call's own time was not prolonged by yet.
    owed: Duration,
}

impl Reach {
    pub(crate) fn new(wants: &[Want], grants: &Grants, outside: Option<Arc<dyn Outside>>) -> Self {
        let wanted = |is: fn(&Capability) -> bool| wants.iter().any(|want| is(&want.capability));
        let http = wanted(|c| matches!(c, Capability::Http(_))) && !grants.http.is_empty();
        let env = wanted(|c| matches!(c, Capability::Env(_)));
        Self {
            http,
            origins: grants
                .http
                .iter()
                .filter(|_| http)
                .map(|grant| grant.origin.to_string())
                .collect(),
            env: grants.env.iter().filter(|_| env).cloned().collect(),
            clock: grants.clock && wanted(|c| matches!(c, Capability::Clock)),
            random: grants.random && wanted(|c| matches!(c, Capability::Random)),
            outside,
            spent: Duration::ZERO,
            owed: Duration::ZERO,
        }
    }

    pub(crate) fn begin_call(&mut self) {
        self.spent = Duration::ZERO;
        self.owed = Duration::ZERO;
    }

    /// By the running call, in requests.
    pub(crate) fn spent(&self) -> Duration {
        self.spent
    }

    /// What is left of the call's time for requests.
    pub(crate) fn time_left(&self, limits: &Limits) -> Duration {
        Duration::from_millis(limits.http_ms).saturating_sub(self.spent)
    }

    /// Time in requests is not the guest's own: its call gets it back when its epochs have run out.
    pub(crate) fn spend(&mut self, time: Duration) {
        self.spent += time;
        self.owed += time;
    }

    /// Epochs by which the running call is prolonged; 0: it has had its time.
    pub(crate) fn take_epochs(&mut self) -> u64 {
        let ms = std::mem::take(&mut self.owed).as_millis();
        u64::try_from(ms).unwrap_or(u64::MAX).div_ceil(EPOCH_MS)
    }
}

impl Host {
    /// Traps where an import of this kind has no meaning.
    pub(crate) fn allow_outside(&self, import: &str) -> Result<()> {
        self.allow(import, |phase| phase != Phase::Close)
    }

    /// Traps a call for which there is no grant, and where the host brought no world along.
    pub(crate) fn outside(&self, import: &str, capability: &str, granted: bool) -> Result<Arc<dyn Outside>> {
        if !granted {
            bail!(
                "`{import}`: the step does not grant `{capability}`, or the module's description does not ask for it; \
                 hint: declare it in the module, and say `{capability} = true` in `[steps.NAME.grants]`"
            );
        }
        match &self.reach.outside {
            Some(outside) => Ok(outside.clone()),
            None => bail!("`{import}`: there is nothing outside here"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use topology::description::CapabilityDescription;
    use topology::{HttpGrant, Origin};

    fn want(name: &str) -> Want {
        let described = CapabilityDescription {
            name: name.into(),
            ..CapabilityDescription::default()
        };
        Want::of(&described).unwrap()
    }

    #[test]
    fn what_is_wanted_and_granted_is_there_and_nothing_else() {
        let all = Grants {
            http: vec![HttpGrant::new(Origin::parse("https://a.example").unwrap())],
            env: vec!["REGION".into()],
            clock: true,
            random: true,
        };
        let seen = |wants: &[Want], grants: &Grants| {
            let reach = Reach::new(wants, grants, None);
            (
                reach.http,
                reach.origins.len(),
                reach.env.len(),
                reach.clock,
                reach.random,
            )
        };
        let everything = ["http", "env", "clock", "random"].map(want);
        assert_eq!(seen(&everything, &all), (true, 1, 1, true, true));
        assert_eq!(seen(&everything, &Grants::default()), (false, 0, 0, false, false));
        assert_eq!(seen(&[], &all), (false, 0, 0, false, false));
        assert_eq!(seen(&[want("clock")], &all), (false, 0, 0, true, false));
    }

    #[test]
    fn time_in_requests_is_given_back_once() {
        let mut reach = Reach::default();
        reach.spend(Duration::from_millis(12));
        let limits = Limits {
            http_ms: 20,
            ..Limits::default()
        };
        assert_eq!(reach.time_left(&limits), Duration::from_millis(8));
        assert_eq!(
            (reach.take_epochs(), reach.take_epochs()),
            (12_u64.div_ceil(EPOCH_MS), 0)
        );
        reach.begin_call();
        assert_eq!(reach.time_left(&limits), Duration::from_millis(20));
    }
}
