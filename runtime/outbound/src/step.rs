//! Outbound access of a process, and of each step in it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use sandbox::{Allowance, Cause, Outside, Problem, Request, Response};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use topology::{Grants, HttpGrant, Origin};

use crate::counts::Counts;
use crate::dial::{Dialer, Resolve, System};
use crate::exchange::{self, Call, HttpClient};
use crate::secrets::{SecretSources, Secrets};

/// How long a connection waits for the next request of its step.
const IDLE: Duration = Duration::from_secs(30);
/// Of a response, all of them together: four times what servers send.
const RESPONSE_HEADER_BYTES_MAX: usize = 64 << 10;
const RESPONSE_HEADERS_MAX: usize = 100;

#[derive(Debug)]
pub struct Options {
    pub secrets: SecretSources,
    /// Variables of the environment that pipelines may grant.
    pub env: Vec<String>,
    /// `None`: the machine's resolver.
    pub resolve: Option<Arc<dyn Resolve>>,
}

/// One per process.
pub struct Outbound {
    runtime: Handle,
    secrets: Arc<Secrets>,
    env: Vec<String>,
    resolve: Arc<dyn Resolve>,
    steps: Mutex<BTreeMap<(String, String), Arc<Step>>>,
    counts: Mutex<BTreeMap<(String, String), Arc<Counts>>>,
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound").finish_non_exhaustive()
    }
}

impl Outbound {
    /// `runtime` does the I/O; calls block the thread that makes them, which must not be one of its own.
    pub fn new(runtime: Handle, options: Options) -> Self {
        Self {
            runtime,
            secrets: Arc::new(Secrets::new(options.secrets)),
            env: options.env,
            resolve: options.resolve.unwrap_or_else(|| Arc::new(System)),
            steps: Mutex::default(),
            counts: Mutex::default(),
        }
    }

    /// What `grants` of `step` need of this node and it does not have, one sentence each.
    pub fn lacking(&self, step: &str, grants: &Grants) -> Vec<String> {
        let variables = grants.env.iter().filter(|name| !self.env.contains(name)).map(|name| {
            format!(
                "step `{step}`: this node lets no pipeline grant the variable `{name}`\n\
                 hint: `grantable-env = [\"{name}\"]` in its node.toml"
            )
        });
        let secrets = grants
            .secrets()
            .into_iter()
            .filter_map(|name| self.secrets.get(name).err());
        variables
            .chain(secrets.map(|why| format!("step `{step}`: {why}")))
            .collect()
    }

    /// The world of a step, the same for all its tasks as long as its grants are the same.
    pub fn step(&self, pipeline: &str, step: &str, grants: &Grants) -> Arc<dyn Outside> {
        let key = (pipeline.to_owned(), step.to_owned());
        let counts = match grants.http.is_empty() {
            true => Arc::default(),
            false => lock(&self.counts).entry(key.clone()).or_default().clone(),
        };
        let mut steps = lock(&self.steps);
        if let Some(there) = steps.get(&key).filter(|there| there.grants == *grants) {
            return there.clone();
        }
        let lines = Lines {
            lines: grants.http.iter().map(|grant| self.line(grant)).collect(),
            secrets: self.secrets.clone(),
        };
        let made = Arc::new(Step {
            grants: grants.clone(),
            env: grants
                .env
                .iter()
                .filter(|name| self.env.contains(name))
                .cloned()
                .collect(),
            lines: Arc::new(lines),
            counts,
            runtime: self.runtime.clone(),
            started: Instant::now(),
        });
        steps.insert(key, made.clone());
        made
    }

    fn line(&self, grant: &HttpGrant) -> Line {
        let grant = Arc::new(grant.clone());
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(grant.concurrent as usize)
            .http1_max_buf_size(RESPONSE_HEADER_BYTES_MAX)
            .http1_max_headers(RESPONSE_HEADERS_MAX)
            .build(Dialer::new(grant.clone(), self.resolve.clone()));
        Line {
            turns: Semaphore::new(grant.concurrent as usize),
            client,
            grant,
        }
    }

    /// By pipeline and step, of all that ran since this process started.
    pub fn counts(&self) -> Vec<((String, String), Arc<Counts>)> {
        let counts = lock(&self.counts);
        counts
            .iter()
            .map(|(key, counts)| (key.clone(), counts.clone()))
            .collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One grant of `http` at work.
pub(crate) struct Line {
    pub grant: Arc<HttpGrant>,
    pub client: HttpClient,
    /// As many as may run at the same time.
    pub turns: Semaphore,
}

/// All grants of a step.
pub(crate) struct Lines {
    lines: Vec<Line>,
    pub secrets: Arc<Secrets>,
}

impl Lines {
    /// The origin of a step with one grant.
    pub(crate) fn only(&self) -> Option<&Origin> {
        match self.lines.as_slice() {
            [line] => Some(&line.grant.origin),
            _ => None,
        }
    }

    /// The grant for an origin. `why_not` completes "`https://x` …".
    pub(crate) fn of(&self, origin: &Origin, why_not: &str) -> Result<&Line, Problem> {
        let found = self.lines.iter().find(|line| line.grant.origin == *origin);
        found.ok_or_else(|| {
            let granted: Vec<String> = self
                .lines
                .iter()
                .map(|line| format!("`{}`", line.grant.origin))
                .collect();
            let message = format!("`{origin}` {why_not}; granted: {}", granted.join(", "));
            Problem::new(Cause::Denied, message)
        })
    }
}

/// See [`Outbound::step`].
struct Step {
    grants: Grants,
    env: Vec<String>,
    lines: Arc<Lines>,
    counts: Arc<Counts>,
    runtime: Handle,
    started: Instant,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("grants", &self.grants)
            .finish_non_exhaustive()
    }
}

impl Outside for Step {
    fn fetch(&self, requests: Vec<Request>, allowance: Allowance) -> Vec<Result<Response, Problem>> {
        let mut answers: Vec<Result<Response, Problem>> = requests
            .iter()
            .map(|_| Err(Problem::new(Cause::Other, "the host failed to send it")))
            .collect();
        let call = Arc::new(Call {
            deadline: tokio::time::Instant::now() + allowance.time,
            call_ms: allowance.time.as_millis(),
            body_bytes_left: AtomicU64::new(allowance.body_bytes),
        });
        self.runtime.block_on(async {
            let mut running = JoinSet::new();
            for (number, request) in requests.into_iter().enumerate() {
                let (lines, call, counts) = (self.lines.clone(), call.clone(), self.counts.clone());
                running.spawn(async move {
                    let started = Instant::now();
                    let answer = exchange::run(&lines, &call, request).await;
                    counts.add(&answer, started.elapsed());
                    (number, answer)
                });
            }
            // Each ends by itself at the call's deadline.
            while let Some(done) = running.join_next().await {
                if let Ok((number, answer)) = done
                    && let Some(place) = answers.get_mut(number)
                {
                    *place = answer;
                }
            }
        });
        answers
    }

    fn variable(&self, name: &str) -> Option<String> {
        let allowed = self.env.iter().any(|allowed| allowed == name);
        allowed.then(|| std::env::var(name).ok()).flatten()
    }

    fn wall_ns(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), String> {
        getrandom::fill(bytes).map_err(|error| error.to_string())
    }
}
