//! What only a real group shows, against the broker in `WASMILL_KAFKA`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use broker::{Broker, Cleanup, MemberOptions, NewTopic};
use kafka::Kafka;
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const SESSION: Duration = Duration::from_secs(6);

/// A member that idles is confirmed by its heartbeats: its age stays below half a session, which is what a thread
/// checks before it flushes at-least-once, and grows when the broker is not heard.
#[test]
fn an_idle_member_stays_confirmed() {
    let Some(address) = std::env::var("WASMILL_KAFKA").ok().filter(|a| !a.is_empty()) else {
        eprintln!("\n*** SKIPPED: WASMILL_KAFKA is not set, so nothing was tried against a real Kafka ***\n");
        return;
    };
    let kafka = Kafka::new(&address, BTreeMap::new()).unwrap();
    let run = format!("m{}", SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis());
    let token = NewTopic {
        name: format!("{run}-token"),
        partitions: 1,
        cleanup: Cleanup::Delete,
        settings: BTreeMap::new(),
    };
    let mut admin = kafka.admin().unwrap();
    admin.create(std::slice::from_ref(&token)).unwrap();
    let options = MemberOptions {
        group: run.clone(),
        node: "n1".into(),
        token_topic: token.name.clone(),
        session_timeout: SESSION,
    };
    let mut member = kafka.member(&options).unwrap();
    let since = Instant::now();
    let mut leads_since: Option<Instant> = None;
    // Twice the session after it leads, an age below half of it can only come from heartbeats.
    let ages = loop {
        let now = member.poll().unwrap();
        if now.leads_as.is_some() {
            leads_since.get_or_insert_with(Instant::now);
        }
        if leads_since.is_some_and(|since| since.elapsed() > SESSION * 2) && now.confirmed_ago < SESSION / 2 {
            break now.confirmed_ago;
        }
        assert!(since.elapsed() < Duration::from_secs(60), "never confirmed: {now:?}");
        std::thread::sleep(Duration::from_millis(20));
    };
    eprintln!("confirmed {ages:?} ago");
    assert_eq!(member.live().unwrap(), ["n1"]);
    member.leave().unwrap();
    assert!(member.poll().unwrap().leads_as.is_none());
    admin.delete(&[token.name]).unwrap();
}
