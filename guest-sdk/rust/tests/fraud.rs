//! A processor with two inputs, two outputs, a store, parameters and a punctuation, as an author would write it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use wasmill_guest::prelude::*;

#[derive(Serialize, Deserialize)]
struct Payment {
    amount: f64,
    merchant: String,
}
#[derive(Serialize, Deserialize)]
struct Chargeback {
    amount: f64,
}
#[derive(Serialize, Deserialize)]
struct Alert {
    why: String,
    amount: f64,
}
#[derive(Serialize, Deserialize)]
struct Scored {
    payment: Payment,
    score: f64,
}
#[derive(Serialize, Deserialize, Default)]
struct Profile {
    recent: Vec<i64>,
    chargebacks: u32,
}

struct Fraud {
    payments: Input<String, Json<Payment>>,
    chargebacks: Input<String, Json<Chargeback>>,
    alerts: Output<String, Json<Alert>>,
    scored: Output<String, Json<Scored>>,
    profiles: KeyValue<String, Json<Profile>>,
    max_per_minute: Param<u32>,
    quiet: Param<Duration>,
}

impl Processor for Fraud {
    fn declare(m: &mut Module) -> Self {
        Fraud {
            payments: m.input("payments"),
            chargebacks: m.input("chargebacks"),
            alerts: m.output("alerts"),
            scored: m.output("scored"),
            profiles: m.store("profiles").schema(1).done(),
            max_per_minute: m.param("max-per-minute").default(5).min(1).done(),
            quiet: m.param("quiet").default(minutes(10)).done(),
        }
    }

    fn open(&mut self, cx: &mut Open) -> Result<()> {
        cx.every("sweep", minutes(1), Clock::StreamTime);
        Ok(())
    }

    fn prefetch(&self, rows: &Rows) -> Result<()> {
        self.profiles.fetch(rows.keys());
        Ok(())
    }

    fn process(&mut self, row: Row<'_>, out: &mut Outbox) -> Outcome {
        if let Some(p) = row.of(&self.payments)? {
            let mut profile = self.profiles.get(&p.key)?.unwrap_or_default();
            profile.recent.retain(|t| *t > p.timestamp - 60_000);
            profile.recent.push(p.timestamp);
            if profile.recent.len() as u32 > *self.max_per_minute {
                out.send(
                    &self.alerts,
                    &p.key,
                    Alert {
                        why: "burst".into(),
                        amount: p.value.amount,
                    },
                );
            }
            self.profiles.put(&p.key, &profile);
            match p.value.merchant.as_str() {
                "closed" => return dead_letter("the merchant is closed"),
                "down" => return retry(seconds(1), "the merchant does not answer"),
                "broken" => return fail("the merchant is broken"),
                "mine" => return drop_row("my own"),
                _ => out.send(
                    &self.scored,
                    &p.key,
                    Scored {
                        payment: p.value,
                        score: 0.5,
                    },
                ),
            }
        } else if let Some(c) = row.of(&self.chargebacks)? {
            let mut profile = self.profiles.get(&c.key)?.unwrap_or_default();
            profile.chargebacks += 1;
            self.profiles.put(&c.key, &profile);
        }
        done()
    }

    fn punctuate(&mut self, _name: &str, now: Now, _out: &mut Outbox) -> Result<()> {
        let before = now.stream_time - self.quiet.as_millis() as i64;
        for (key, profile) in self.profiles.all() {
            if profile.recent.last().is_none_or(|t| *t < before) {
                self.profiles.delete(&key);
            }
        }
        Ok(())
    }
}

wasmill_guest::processor!(Fraud);

const PAYMENT: &str = r#"{"amount": 1, "merchant": "m"}"#;

#[test]
fn bursts_and_the_sweep_of_quiet_cards() {
    let mut t = testing::run::<Fraud>().param("max-per-minute", 2).start();
    for at in [0, 10, 20] {
        t.pipe("payments", "card", PAYMENT, at);
    }
    assert_eq!(t.read::<String, Json<Alert>>("alerts").len(), 1);
    assert_eq!(t.read::<String, Json<Scored>>("scored").len(), 3);
    t.restart();
    assert!(t.store("profiles").get("card").is_some());
    t.pipe("payments", "other", PAYMENT, 3_600_000);
    assert!(t.store("profiles").get("card").is_none());
    assert!(t.store("profiles").get("other").is_some());
}

#[test]
fn a_rejected_row_leaves_neither_output_nor_state() {
    for (merchant, kind) in [
        ("closed", testing::Kind::DeadLetter),
        ("down", testing::Kind::Retry),
        ("broken", testing::Kind::Fail),
        ("mine", testing::Kind::Drop),
    ] {
        let mut t = testing::run::<Fraud>().param("max-per-minute", 1).start();
        let rejected = format!(r#"{{"amount": 1, "merchant": "{merchant}"}}"#);
        t.pipe_batch(
            "payments",
            [
                ("card", PAYMENT, 0),
                ("card", rejected.as_str(), 1),
                ("new", rejected.as_str(), 2),
            ],
        );
        assert_eq!(t.rejected(kind).len(), 2, "{merchant}");
        // Not even the alert that it sent before it was rejected.
        assert_eq!(t.read::<String, Json<Alert>>("alerts").len(), 0, "{merchant}");
        assert_eq!(t.read::<String, Json<Scored>>("scored").len(), 1, "{merchant}");
        assert_eq!(
            t.store("profiles").read::<Json<Profile>>("card").unwrap().recent,
            [0],
            "{merchant}"
        );
        assert!(t.store("profiles").get("new").is_none(), "{merchant}");
        // A key that only a rejected row has written is still read from the store.
        t.pipe("payments", "card", PAYMENT, 3);
        assert_eq!(t.read::<String, Json<Alert>>("alerts").len(), 1, "{merchant}");
    }
}

#[test]
fn bytes_that_do_not_parse_are_dead_letters_of_their_own_row() {
    let mut t = testing::run::<Fraud>().start();
    let not_text: &[u8] = b"\xff";
    t.pipe_batch("payments", [("a", PAYMENT, 0), ("b", "{}", 1), ("c", PAYMENT, 2)]);
    t.pipe("payments", not_text, PAYMENT, 3);
    t.pipe("payments", (), PAYMENT, 4);
    let reasons: Vec<String> = t.dead_letters().into_iter().map(|letter| letter.reason).collect();
    assert!(
        reasons[0].starts_with("deserialization: value: not this JSON: missing field"),
        "{reasons:?}"
    );
    assert!(reasons[1].starts_with("deserialization: key: not UTF-8"), "{reasons:?}");
    assert!(reasons[2].starts_with("deserialization: key: null"), "{reasons:?}");
    assert_eq!(reasons.len(), 3);
    assert_eq!(t.read::<String, Json<Scored>>("scored").len(), 2);
}

#[test]
fn a_batch_reads_and_writes_the_store_once() {
    let mut t = testing::run::<Fraud>().start();
    t.pipe("payments", "warm-up", PAYMENT, 0); // fires the first sweep
    let before = t.store_calls();
    t.pipe_batch("payments", (0..50).map(|n| (["a", "b", "c"][n % 3], PAYMENT, 1)));
    assert_eq!(t.store_calls() - before, 2);
    assert_eq!(t.store("profiles").read::<Json<Profile>>("a").unwrap().recent.len(), 17);
}

#[test]
fn parameters_are_checked() {
    let error = |start: testing::Start<_>| start.try_start().err().unwrap();
    let run = testing::run::<Fraud>;
    assert_eq!(
        error(run().param("max-per-minut", 2)),
        "the module has no parameter `max-per-minut`"
    );
    assert_eq!(
        error(run().param("max-per-minute", -2)),
        "parameter `max-per-minute` is out of range: -2"
    );
    assert_eq!(
        error(run().param("quiet", "10m")),
        "parameter `quiet` must be a duration, not a text"
    );
}
