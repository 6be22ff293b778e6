//! What is said when there is no broker, or a setting is wrong. Needs none.
#![allow(clippy::unwrap_used, clippy::panic)]

use broker::{Disposition, ErrorKind};
use kafka::{CONNECT_WAIT_MAX, Kafka};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

fn error_of(address: &str, settings: &[(&str, &str)]) -> broker::Error {
    let settings: BTreeMap<String, String> = settings.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
    match Kafka::new(address, settings) {
        Ok(_) => panic!("connected to {address}"),
        Err(error) => error,
    }
}

#[test]
fn an_absent_broker_is_unavailable_within_the_stated_time() {
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let since = Instant::now();
    let error = error_of(&format!("127.0.0.1:{port}"), &[]);
    assert!(since.elapsed() < CONNECT_WAIT_MAX + Duration::from_secs(2));
    assert_eq!(
        (error.kind, error.disposition()),
        (ErrorKind::Unavailable, Disposition::Retry)
    );
    assert!(error.to_string().contains("Connection refused"), "{error}");
}

#[test]
fn settings_are_refused_by_name() {
    for (name, value) in [
        ("linger.msec", "5"),
        ("linger.ms", "soon"),
        ("acks", "1"),
        ("isolation.level", "read_committed"),
    ] {
        let error = error_of("127.0.0.1:1", &[(name, value)]);
        assert_eq!(error.kind, ErrorKind::Configuration, "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
}
