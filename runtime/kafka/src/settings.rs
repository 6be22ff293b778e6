//! The settings of every client: what the node's file may say, what we recommend, what must be so.
//!
//! Three layers, later ones win: recommendations, the node's `[kafka]`, requirements. A word in `[kafka]` that a
//! guarantee or an option of ours depends on is refused by name instead of being overruled silently.

use broker::{ConsumerOptions, Error, ErrorKind, Isolation, MemberOptions, ProducerOptions};
use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) type Settings = BTreeMap<String, String>;

/// A trailing dot stands for everything below.
const REFUSED: &[(&str, &str)] = &[
    ("isolation.level", "exactly-once depends on it"),
    ("group.", "groups are named after pipelines and nodes"),
    ("transactional.id", "producers are fenced by it"),
    ("transaction.timeout.ms", "it follows the commit interval"),
    (
        "enable.auto.",
        "positions are committed with the work that they stand for",
    ),
    (
        "auto.commit.",
        "positions are committed with the work that they stand for",
    ),
    (
        "auto.offset.reset",
        "a missing position stops a task instead of skipping records",
    ),
    ("partition.assignment.strategy", "tasks are placed by records"),
    ("enable.idempotence", "a retry would write records twice"),
    ("enable.gapless.guarantee", "it is not meant for transactions"),
    ("enable.partition.eof", "positions are compared instead"),
    ("acks", "a record counts as written when all replicas have it"),
    (
        "request.required.acks",
        "a record counts as written when all replicas have it",
    ),
    ("delivery.report.", "changelog positions come from delivery reports"),
    ("delivery.timeout.ms", "it follows the transaction timeout"),
    ("message.timeout.ms", "it follows the transaction timeout"),
    ("session.timeout.ms", "it is the node's own setting"),
    ("heartbeat.interval.ms", "it follows the session timeout"),
    ("max.poll.interval.ms", "it follows the session timeout"),
    ("statistics.interval.ms", "membership is confirmed by it"),
    ("queued.max.messages.kbytes", "it follows the node's memory setting"),
    (
        "allow.auto.create.topics",
        "topics are created only where a pipeline says so",
    ),
    ("partitioner", "records are partitioned by the runtime"),
    ("client.id", "it is the name of the node"),
    ("bootstrap.servers", "it is given by `brokers`"),
    ("metadata.broker.list", "it is given by `brokers`"),
];

pub(crate) fn check(settings: &Settings) -> Result<(), Error> {
    for name in settings.keys() {
        let refused = REFUSED.iter().find(|(word, _)| {
            name == word || (word.ends_with('.') && name.starts_with(word)) || (*word == "group." && name == "group")
        });
        if let Some((_, reason)) = refused {
            return Err(Error::new(
                ErrorKind::Configuration,
                "use the settings in `[kafka]`",
                format!("`{name}` cannot be set: {reason}. hint: remove it"),
            ));
        }
    }
    Ok(())
}

/// How a node talks to its brokers.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    pub brokers: String,
    pub settings: Settings,
}

impl Base {
    fn layered<const R: usize, const M: usize>(
        &self,
        recommended: [(&str, String); R],
        required: [(&str, String); M],
    ) -> Settings {
        let owned = |(name, value): (&str, String)| (name.to_owned(), value);
        let mut all: Settings = recommended.into_iter().map(owned).collect();
        // A client looks for its coordinator by connecting anew, several times at a start; librdkafka waits 100 ms before
        // each. Doubled at every failure, so a broker that is down is not pestered.
        all.insert("reconnect.backoff.ms".into(), "10".into());
        all.extend(self.settings.clone());
        all.insert("bootstrap.servers".into(), self.brokers.clone());
        all.extend(required.into_iter().map(owned));
        all
    }

    pub(crate) fn admin(&self) -> Settings {
        // A lookup while a topic spreads over the cluster is repeated soon, not after the default 100 ms and more.
        self.layered(
            [("retry.backoff.ms", "20".into())],
            [("client.id", "wasmill-admin".into())],
        )
    }

    pub(crate) fn consumer(&self, options: &ConsumerOptions) -> Settings {
        let queue_kbytes = (options.queue_bytes_max / 1024).clamp(1, 2_097_151);
        // One answer may be as large as the queue, but librdkafka wants room for the largest record (1 MB).
        let fetch_bytes = options.queue_bytes_max.clamp(1_048_576, 52_428_800);
        self.layered(
            [
                // How long a full queue stops fetching: 1 s by default, which costs two thirds of the throughput.
                ("fetch.queue.backoff.ms", "10".into()),
                // Requests to a broker are answered in order, so what is asked beside a waiting fetch waits as long,
                // and so does a partition that is added; shorter costs idle requests.
                ("fetch.wait.max.ms", "20".into()),
                ("fetch.max.bytes", fetch_bytes.to_string()),
            ],
            [
                ("client.id", options.client_id.clone()),
                // Assigning needs some group; without one of its own nothing is ever committed under this name.
                (
                    "group.id",
                    options.group.clone().unwrap_or_else(|| "wasmill-reader".into()),
                ),
                ("enable.auto.commit", "false".into()),
                ("enable.auto.offset.store", "false".into()),
                ("auto.offset.reset", "error".into()),
                ("allow.auto.create.topics", "false".into()),
                ("enable.partition.eof", "false".into()),
                ("queued.max.messages.kbytes", queue_kbytes.to_string()),
                (
                    "isolation.level",
                    match options.isolation {
                        Isolation::ReadCommitted => "read_committed".into(),
                        Isolation::ReadUncommitted => "read_uncommitted".into(),
                    },
                ),
            ],
        )
    }

    pub(crate) fn producer(&self, options: &ProducerOptions) -> Settings {
        // librdkafka refuses a delivery timeout beyond the transaction's; below 1 s it is of no use.
        let delivery = match options.transactional_id {
            Some(_) => options.delivery_timeout.min(options.transaction_timeout),
            None => options.delivery_timeout,
        };
        let mut all = self.layered(
            [
                // A commit sends at once, so that this only gathers larger requests in between; at-least-once, readers wait
                // for it. Not less: while five requests of a partition are unanswered, librdkafka's thread does not sleep
                // once the next one is due, so 5 ms cost a processor on brokers that take 25 ms to answer.
                (
                    "linger.ms",
                    if options.transactional_id.is_some() { "50" } else { "10" }.into(),
                ),
                ("batch.num.messages", "10000".into()),
                ("batch.size", "1000000".into()),
                // Java's limit of a record; the topic's own decides.
                ("message.max.bytes", "1048576".into()),
                // Half a second of the fastest producer measured; a full queue is back-pressure, not an error.
                ("queue.buffering.max.messages", "500000".into()),
                ("queue.buffering.max.kbytes", "131072".into()),
                // After CONCURRENT_TRANSACTIONS, which the commit before causes: 100 ms by default.
                ("retry.backoff.ms", "5".into()),
                ("compression.codec", "none".into()),
            ],
            [
                ("client.id", options.client_id.clone()),
                ("acks", "all".into()),
                ("enable.idempotence", "true".into()),
                ("delivery.report.only.error", "false".into()),
                ("message.timeout.ms", millis(delivery.max(Duration::from_secs(1)))),
                ("allow.auto.create.topics", "false".into()),
            ],
        );
        if options.upserts_only && options.transactional_id.is_none() {
            // One request at a time keeps the order that idempotence would keep.
            all.insert("enable.idempotence".into(), "false".into());
            all.insert("max.in.flight".into(), "1".into());
        }
        if let Some(id) = &options.transactional_id {
            all.insert("transactional.id".into(), id.clone());
            all.insert(
                "transaction.timeout.ms".into(),
                millis(options.transaction_timeout.max(Duration::from_secs(1))),
            );
        }
        all
    }

    pub(crate) fn member(&self, options: &MemberOptions) -> Settings {
        self.layered(
            [],
            [
                ("client.id", options.node.clone()),
                ("group.id", options.group.clone()),
                ("group.instance.id", options.node.clone()),
                ("group.protocol", "classic".into()),
                ("partition.assignment.strategy", "cooperative-sticky".into()),
                ("session.timeout.ms", millis(options.session_timeout)),
                ("heartbeat.interval.ms", millis(heartbeat(options.session_timeout))),
                // A node that does not poll its membership loses it; two sessions leave room for slow calls between.
                (
                    "max.poll.interval.ms",
                    millis((options.session_timeout * 2).max(Duration::from_secs(10))),
                ),
                ("statistics.interval.ms", millis(heartbeat(options.session_timeout) / 2)),
                ("enable.auto.commit", "false".into()),
                ("enable.auto.offset.store", "false".into()),
                ("auto.offset.reset", "error".into()),
                ("allow.auto.create.topics", "false".into()),
            ],
        )
    }
}

/// A twelfth of the session, as measured with 500 ms of 6 s: rebalances take one to two of them.
fn heartbeat(session: Duration) -> Duration {
    (session / 12).clamp(Duration::from_millis(200), Duration::from_secs(1))
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_would_break_a_guarantee_is_refused_by_name() {
        for name in [
            "isolation.level",
            "group.id",
            "group.instance.id",
            "enable.auto.commit",
            "acks",
            "delivery.report.only.error",
        ] {
            let error = check(&Settings::from([(name.to_owned(), "x".to_owned())])).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Configuration);
            assert!(error.cause.contains(name), "{error}");
        }
        check(&Settings::from([("sasl.mechanism".to_owned(), "PLAIN".to_owned())])).unwrap();
    }

    #[test]
    fn the_node_overrides_recommendations_and_not_requirements() {
        let base = Base {
            brokers: "b:1".into(),
            settings: Settings::from([("linger.ms".into(), "7".into()), ("acks".into(), "0".into())]),
        };
        let options = ProducerOptions {
            client_id: "c".into(),
            transactional_id: Some("t".into()),
            transaction_timeout: Duration::from_secs(10),
            delivery_timeout: Duration::from_secs(60),
            upserts_only: false,
        };
        let all = base.producer(&options);
        let get = |name: &str| all.get(name).map(String::as_str);
        assert_eq!(
            (get("linger.ms"), get("acks"), get("message.timeout.ms")),
            (Some("7"), Some("all"), Some("10000"))
        );
    }
}
