//! What the requests of a step came to, since the node started.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sandbox::{Cause, Problem, Response};

/// `ok` for any response, else the cause of the problem.
const OUTCOMES: [&str; 8] = [
    "ok",
    "denied",
    "invalid-request",
    "timeout",
    "connection",
    "too-large",
    "protocol",
    "other",
];

/// Of one step; it only rises.
#[derive(Debug, Default)]
pub struct Counts {
    requests: [AtomicU64; OUTCOMES.len()],
    received_bytes: AtomicU64,
    microseconds: AtomicU64,
}

impl Counts {
    pub(crate) fn add(&self, answer: &Result<Response, Problem>, took: Duration) {
        let (index, bytes) = match answer {
            Ok(response) => (0, response.body.len() as u64),
            Err(problem) => (index(problem.cause), 0),
        };
        if let Some(count) = self.requests.get(index) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.received_bytes.fetch_add(bytes, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.microseconds.fetch_add(micros, Ordering::Relaxed);
    }

    /// Requests by outcome, all that are possible.
    pub fn requests(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.requests.iter().map(|count| count.load(Ordering::Relaxed));
        OUTCOMES.into_iter().zip(counts)
    }

    /// Bodies of responses.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }

    /// Of all requests together; requests at the same time count each.
    pub fn time(&self) -> Duration {
        Duration::from_micros(self.microseconds.load(Ordering::Relaxed))
    }
}

fn index(cause: Cause) -> usize {
    OUTCOMES
        .iter()
        .position(|word| *word == cause.word())
        .unwrap_or(OUTCOMES.len() - 1)
}
