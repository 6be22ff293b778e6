//! What happens to the cluster: drawn from the seed.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::fmt;
use std::time::Duration;

/// Beyond the node's default session of 6 s, so that its tasks are given to others; and within it.
const BEYOND_MS: std::ops::Range<u64> = 7_000..11_000;
const WITHIN_MS: std::ops::Range<u64> = 0..3_000;
/// Until the next event.
const REST_MS: std::ops::Range<u64> = 500..6_000;

#[derive(Clone, Debug)]
pub(super) enum Event {
    /// SIGKILL; started again after `down`.
    Kill { node: usize, down: Duration },
    /// SIGSTOP, and SIGCONT after `time`: a zombie that wakes up.
    Stop { node: usize, time: Duration },
    /// SIGTERM, and a start at once.
    Bounce { node: usize },
    /// Gives its tasks up and ends; a new one of its name comes after `down`.
    Leave { node: usize, down: Duration },
    /// A broker is stopped, and started again after `down`.
    Broker { number: usize, down: Duration },
    /// Another node joins, works for `time`, and dies for good.
    Add { time: Duration },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill { node, down } => write!(f, "node {node} killed, back after {} ms", down.as_millis()),
            Self::Stop { node, time } => write!(f, "node {node} stopped for {} ms", time.as_millis()),
            Self::Leave { node, down } => write!(f, "node {node} left, back after {} ms", down.as_millis()),
            Self::Bounce { node } => write!(f, "node {node} bounced"),
            Self::Broker { number, down } => {
                write!(f, "broker {number} bounced, back after {} ms", down.as_millis())
            }
            Self::Add { time } => write!(f, "a node joined, killed for good after {} ms", time.as_millis()),
        }
    }
}

/// An event, and how long the cluster rests after it.
pub(super) fn draw(random: &mut ChaCha8Rng, nodes: usize, brokers: usize) -> (Event, Duration) {
    let node = random.random_range(0..nodes);
    let beyond = Duration::from_millis(random.random_range(BEYOND_MS));
    let within = Duration::from_millis(random.random_range(WITHIN_MS));
    let number = 1 + random.random_range(0..brokers.max(1));
    let kinds = if brokers > 1 { 7 } else { 6 };
    let event = match random.random_range(0..kinds) {
        0 => Event::Kill { node, down: within },
        1 => Event::Kill { node, down: beyond },
        2 => Event::Stop { node, time: beyond },
        3 => Event::Bounce { node },
        4 => Event::Leave { node, down: within },
        5 => Event::Add { time: beyond },
        _ => Event::Broker { number, down: within },
    };
    (event, Duration::from_millis(random.random_range(REST_MS)))
}
