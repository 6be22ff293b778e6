//! Lets each event pass once. The key is the event's id; events without one are dropped.
//!
//! An id that comes again within `remember` of the last time is a duplicate. Older ids are evicted as stream time
//! passes, so the store stays as small as the traffic of that time.
use wasmill_guest::prelude::*;

struct Dedup {
    events: Input<Option<String>, ()>,
    unique: Output<Option<String>, ()>,
    /// When an id was last seen, in event time.
    seen: KeyValue<String, i64>,
    remember: Param<Duration>,
}

impl Dedup {
    fn remember_ms(&self) -> i64 {
        i64::try_from(self.remember.as_millis()).unwrap_or(i64::MAX)
    }
}

impl Processor for Dedup {
    fn declare(m: &mut Module) -> Self {
        Dedup {
            events: m.input("events"),
            unique: m.output("unique"),
            seen: m.store("seen").summary("when an id was last seen").done(),
            remember: m
                .param("remember")
                .summary("how long an id is remembered")
                .default(hours(1))
                .min(seconds(1))
                .done(),
        }
    }

    fn open(&mut self, cx: &mut Open) -> Result<()> {
        cx.every("evict", *self.remember, Clock::StreamTime);
        Ok(())
    }

    fn prefetch(&self, rows: &Rows) -> Result<()> {
        self.seen.fetch(rows.keys());
        Ok(())
    }

    fn process(&mut self, row: Row<'_>, out: &mut Outbox) -> Outcome {
        let Some(event) = row.of(&self.events)? else {
            return done();
        };
        let Some(id) = event.key else {
            return drop_row("the event has no id");
        };
        let last = self.seen.get(&id)?;
        // Asked of the time and not of the store alone, because an id may outlive its time there.
        let duplicate = last.is_some_and(|last| event.timestamp - last < self.remember_ms());
        self.seen
            .put(&id, last.map_or(event.timestamp, |last| last.max(event.timestamp)));
        if !duplicate {
            out.forward(&self.unique);
        }
        done()
    }

    fn punctuate(&mut self, _: &str, now: Now, _: &mut Outbox) -> Result<()> {
        let oldest = now.stream_time - self.remember_ms();
        let mut evicted = 0;
        for (id, _) in self.seen.all().filter(|(_, last)| *last <= oldest) {
            self.seen.delete(&id);
            evicted += 1;
        }
        wasmill_guest::debug!("{evicted} ids evicted");
        Ok(())
    }
}

wasmill_guest::processor!(Dedup);

#[cfg(test)]
mod tests {
    use super::*;

    fn dedup() -> testing::Test<Dedup> {
        testing::run::<Dedup>().param("remember", seconds(10)).start()
    }

    fn passed(t: &mut testing::Test<Dedup>) -> Vec<(String, i64)> {
        t.read::<String, ()>("unique")
            .into_iter()
            .map(|event| (event.key, event.timestamp))
            .collect()
    }

    #[test]
    fn an_id_passes_again_only_after_its_time() {
        let mut t = dedup();
        // The second `a` renews the memory, so the third is still a duplicate; the late one is too.
        t.pipe_batch(
            "events",
            [
                ("a", "x", 0),
                ("b", "x", 1),
                ("a", "y", 9_000),
                ("a", "x", 18_999),
                ("a", "x", 500),
            ],
        );
        t.pipe("events", "a", "z", 28_999);
        assert_eq!(
            passed(&mut t),
            [("a".to_owned(), 0), ("b".to_owned(), 1), ("a".to_owned(), 28_999)]
        );
    }

    #[test]
    fn ids_are_evicted_as_stream_time_passes() {
        let mut t = dedup();
        t.pipe("events", "a", "x", 1_000);
        t.pipe("events", "b", "x", 9_000);
        t.pipe("events", "c", "x", 12_000); // the grid's point at 10 s has passed, and `a` is older than 2 s
        let ids: Vec<Vec<u8>> = t.store("seen").iter().map(|(id, _)| id.to_vec()).collect();
        assert_eq!(ids, [b"b", b"c"]);
    }

    #[test]
    fn a_new_instance_remembers() {
        let mut t = dedup();
        t.pipe("events", "a", "x", 0);
        t.restart();
        t.pipe("events", "a", "x", 1);
        assert_eq!(passed(&mut t).len(), 1);
    }

    #[test]
    fn an_event_without_an_id_is_dropped() {
        let mut t = dedup();
        t.pipe("events", (), "x", 0);
        assert_eq!(t.drops().len(), 1);
        assert!(t.store("seen").is_empty());
    }
}
