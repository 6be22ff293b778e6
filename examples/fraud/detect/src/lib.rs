//! Alerts on a card that pays too often within a minute, and on one that pays abroad.
//!
//! The store holds the times of a card's last payments. A timer by stream time forgets cards that have been quiet for
//! ten minutes, so it stays as small as the cards in use.
use wasmill_guest::prelude::*;

const MINUTE_MS: i64 = 60_000;

#[derive(Serialize, Deserialize)]
struct Payment {
    amount: f64,
    country: String,
    /// Where the card lives; none for a card that is not known.
    home: Option<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Alert {
    why: String,
    amount: f64,
}

struct Detect {
    payments: Input<String, Json<Payment>>,
    alerts: Output<String, Json<Alert>>,
    /// Times of the payments of the last minute, by card.
    recent: KeyValue<String, Json<Vec<i64>>>,
    max_per_minute: Param<u32>,
}

impl Processor for Detect {
    fn declare(m: &mut Module) -> Self {
        Detect {
            payments: m.input("payments"),
            alerts: m.output("alerts"),
            recent: m.store("recent").summary("payments of the last minute").done(),
            max_per_minute: m
                .param("max-per-minute")
                .summary("payments of one card")
                .default(5)
                .min(1)
                .done(),
        }
    }

    fn open(&mut self, cx: &mut Open) -> Result<()> {
        cx.every("forget", minutes(10), Clock::StreamTime);
        Ok(())
    }

    fn prefetch(&self, rows: &Rows) -> Result<()> {
        self.recent.fetch(rows.keys());
        Ok(())
    }

    fn process(&mut self, row: Row<'_>, out: &mut Outbox) -> Outcome {
        let Some(payment) = row.of(&self.payments)? else {
            return done();
        };
        let (card, at, amount) = (&payment.key, payment.timestamp, payment.value.amount);
        let mut recent = self.recent.get(card)?.unwrap_or_default();
        recent.retain(|time| *time > at - MINUTE_MS);
        recent.push(at);
        if recent.len() as u32 > *self.max_per_minute {
            let why = format!("{} payments in a minute", recent.len());
            out.send(&self.alerts, card, Alert { why, amount });
        }
        if payment.value.home.as_ref().is_some_and(|home| *home != payment.value.country) {
            let why = format!("paid in {}", payment.value.country);
            out.send(&self.alerts, card, Alert { why, amount });
        }
        self.recent.put(card, &recent);
        done()
    }

    fn punctuate(&mut self, _: &str, now: Now, _: &mut Outbox) -> Result<()> {
        let before = now.stream_time - 10 * MINUTE_MS;
        let quiet = |recent: &Vec<i64>| recent.iter().all(|time| *time <= before);
        for (card, _) in self.recent.all().filter(|(_, recent)| quiet(recent)) {
            self.recent.delete(&card);
        }
        Ok(())
    }
}

wasmill_guest::processor!(Detect);

#[cfg(test)]
mod tests {
    use super::*;

    fn pay(t: &mut testing::Test<Detect>, card: &str, country: &str, at: i64) {
        let payment = format!(r#"{{"amount": 5, "country": "{country}", "home": "DE"}}"#);
        t.pipe("payments", card, payment.as_str(), at);
    }

    fn why(t: &mut testing::Test<Detect>) -> Vec<(String, String)> {
        let alerts = t.read::<String, Json<Alert>>("alerts");
        alerts.into_iter().map(|alert| (alert.key, alert.value.why.clone())).collect()
    }

    #[test]
    fn a_burst_is_told_and_a_new_instance_knows_of_it() {
        let mut t = testing::run::<Detect>().param("max-per-minute", 2).start();
        for at in [0, 30_000] {
            pay(&mut t, "a", "DE", at);
        }
        t.restart();
        pay(&mut t, "a", "DE", 59_999);
        pay(&mut t, "b", "DE", 60_000);
        pay(&mut t, "a", "DE", 200_000);
        assert_eq!(why(&mut t), [("a".to_owned(), "3 payments in a minute".to_owned())]);
    }

    #[test]
    fn abroad_is_told() {
        let mut t = testing::run::<Detect>().start();
        pay(&mut t, "a", "FR", 0);
        assert_eq!(why(&mut t), [("a".to_owned(), "paid in FR".to_owned())]);
    }

    #[test]
    fn quiet_cards_are_forgotten() {
        let mut t = testing::run::<Detect>().start();
        pay(&mut t, "a", "DE", 0);
        pay(&mut t, "b", "DE", 1_300_000);
        let cards: Vec<Vec<u8>> = t.store("recent").iter().map(|(card, _)| card.to_vec()).collect();
        assert_eq!(cards, [b"b"]);
    }
}
