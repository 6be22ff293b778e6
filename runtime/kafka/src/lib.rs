//! The broker that is a real Kafka, and the only crate that knows librdkafka.
//!
//! [`Kafka`] implements [`broker::Broker`]: one client for administration, one a member, consumer or producer. The way
//! of records is C calls in [`ffi`] (a queue read in batches, records handed over without allocation, delivery reports
//! by callback, transactions), because rust-rdkafka costs half as much again there; the rest is rust-rdkafka.
//! Placement, retries across calls and what to do about an error are the callers'.

mod admin;
mod columns;
mod consumer;
mod errors;
#[expect(unsafe_code, reason = "the one place that calls C; each block says why it is sound")]
mod ffi;
mod member;
mod producer;
mod reports;
mod settings;

use broker::{Broker, ConsumerOptions, Error, ErrorKind, Fencing, Isolation, Member, MemberOptions, ProducerOptions};
use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::KafkaError;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long [`Kafka::new`] and a new consumer wait for a first answer.
pub const CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);

/// A Kafka cluster. Cloning shares the client for administration.
#[derive(Clone)]
pub struct Kafka {
    base: settings::Base,
    admin: Arc<AdminClient<Context>>,
    /// Asks for the positions of groups. A client of its own, since librdkafka follows a null pointer when one without a
    /// group hears that a coordinator has moved (its issue 5040).
    positions: Arc<BaseConsumer<Context>>,
}

impl Kafka {
    /// Connects to `brokers` (`HOST:PORT`, several with commas). `settings` are librdkafka's words, for security and
    /// tuning.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] for a setting that is unknown, malformed or would switch a guarantee off;
    /// [`ErrorKind::Unavailable`] when no broker answers within [`CONNECT_WAIT_MAX`].
    pub fn new(brokers: &str, settings: BTreeMap<String, String>) -> Result<Kafka, Error> {
        Self::connect(brokers, settings, CONNECT_WAIT_MAX)
    }

    /// As [`Kafka::new`], waiting for `wait` at most: for a caller that tries again and says so meanwhile.
    ///
    /// # Errors
    /// As [`Kafka::new`].
    pub fn connect(brokers: &str, settings: BTreeMap<String, String>, wait: Duration) -> Result<Kafka, Error> {
        settings::check(&settings)?;
        let base = settings::Base {
            brokers: brokers.to_owned(),
            settings,
        };
        let doing = || format!("connect to Kafka at `{brokers}`");
        let admin: AdminClient<Context> = client_config(base.admin())
            .create_with_context(Context::default())
            .map_err(|e| errors::of_crate(doing(), &e, ""))?;
        // Asking for a topic's metadata could create the topic; the cluster's id comes with the first answer.
        if admin.inner().fetch_cluster_id(wait).is_none() {
            let last = ffi::drain_main(admin.inner()).unwrap_or_default();
            let cause = format!("no broker answered within {:.1} s", wait.as_secs_f64());
            return Err(errors::with_last(ErrorKind::Unavailable, doing(), cause, &last));
        }
        let asking = base.consumer(&ConsumerOptions {
            group: None,
            client_id: "wasmill-positions".into(),
            isolation: Isolation::ReadCommitted,
            queue_bytes_max: 0,
            headers: false,
        });
        let positions: BaseConsumer<Context> = client_config(asking)
            .create_with_context(Context::default())
            .map_err(|e| errors::of_crate(doing(), &e, ""))?;
        Ok(Kafka {
            base,
            admin: Arc::new(admin),
            positions: Arc::new(positions),
        })
    }
}

impl Broker for Kafka {
    fn admin(&self) -> Result<Box<dyn broker::Admin>, Error> {
        Ok(Box::new(admin::Admin::new(
            Arc::clone(&self.admin),
            Arc::clone(&self.positions),
        )))
    }

    fn member(&self, options: &MemberOptions) -> Result<Box<dyn Member>, Error> {
        Ok(Box::new(member::KafkaMember::new(&self.base, options)?))
    }

    fn consumer(&self, options: &ConsumerOptions) -> Result<Box<dyn broker::Consumer>, Error> {
        Ok(Box::new(consumer::Consumer::new(&self.base, options)?))
    }

    fn producer(&self, options: &ProducerOptions) -> Result<Box<dyn broker::Producer>, Error> {
        Ok(Box::new(producer::Producer::new(&self.base, options)?))
    }

    fn fence(&self, transactional_id: &str) -> Box<dyn Fencing> {
        Box::new(producer::fence(&self.base, transactional_id))
    }
}

fn client_config(settings: settings::Settings) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in settings {
        config.set(name, value);
    }
    config
}

/// What the clients made by rust-rdkafka report to.
#[derive(Default)]
struct Context {
    last_error: Mutex<String>,
}

impl Context {
    fn remember(&self, error: &str) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = error.to_owned();
    }

    fn last_error(&self) -> String {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        let level = level as i32;
        if level <= RDKafkaLogLevel::Error as i32 {
            self.remember(line);
        }
        log_line(level, facility, line);
    }

    fn error(&self, _: KafkaError, reason: &str) {
        self.remember(reason);
    }
}

impl ConsumerContext for Context {}

/// A line of librdkafka. It retries what it complains about, so nothing of it is more than a warning here: what cannot
/// be helped comes back as an error of a call. `CONFWARN` says that a consumer has no use for a producer's setting.
fn log_line(level: i32, facility: &str, line: &str) {
    if facility == "CONFWARN" {
        tracing::debug!(target: "librdkafka", facility, "{line}");
    } else if level <= RDKafkaLogLevel::Warning as i32 {
        tracing::warn!(target: "librdkafka", facility, "{line}");
    } else if level <= RDKafkaLogLevel::Info as i32 {
        tracing::info!(target: "librdkafka", facility, "{line}");
    } else {
        tracing::debug!(target: "librdkafka", facility, "{line}");
    }
}

/// An error of a client that was just being made.
fn creation(doing: impl Into<String>, cause: &ffi::Cause) -> Error {
    Error::new(ErrorKind::Configuration, doing, cause)
}
