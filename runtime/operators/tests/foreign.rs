//! Foreign-key joins whose two sides are not in step: subscriptions and answers are under way while tables change.
#![allow(clippy::unwrap_used)]

use operators::{Lookup, Resolver, Subscriber, Table};
use record::{Batch, BatchBuilder};
use state::memory::Memory;
use state::{StoreSpec, Stores};
use topology::{Emit, FieldPath, ForeignJoin, Format, JoinKind, Projection, Selector};

const LEFT: usize = 0;
const SUBSCRIPTIONS: usize = 1;
const RIGHT: usize = 2;
/// What an order says, and the customer it is of.
const ORDER: &[u8] = br#"{"of":"c"}"#;

struct Join {
    stores: Stores,
    subscriber: Subscriber,
    lookup: Lookup,
    resolver: Resolver,
}

impl Join {
    fn new() -> Self {
        let spec = |(name, timestamped): (&str, bool)| StoreSpec {
            name: name.into(),
            timestamped,
        };
        let specs = [("left", true), ("subscriptions", false), ("right", true)].map(spec);
        let join = ForeignJoin {
            kind: JoinKind::Inner,
            on: Selector::Field(FieldPath(vec!["of".into()])),
            value: Projection::Both,
            left_key: Format::String,
            left_value: Format::Json,
            right_value: Format::String,
        };
        Self {
            stores: Stores::new(specs.to_vec(), Box::new(Memory::default()), 1 << 20),
            subscriber: Subscriber::new(&join),
            lookup: Lookup::new(&join, SUBSCRIPTIONS, RIGHT),
            resolver: Resolver::new(&join, LEFT),
        }
    }

    fn table(&mut self, store: usize, key: &[u8], value: Option<&[u8]>, time: i64) -> Batch {
        let mut row = BatchBuilder::default();
        row.push(Some(key), value, time);
        let table = Table::new(store, Emit::EveryUpdate, true);
        table.apply(&row.finish(), &mut self.stores).unwrap().rows
    }

    /// Subscriptions that a change of the order causes.
    fn order(&mut self, value: Option<&[u8]>, time: i64) -> Batch {
        let changed = self.table(LEFT, b"o", value, time);
        self.subscriber.apply(&changed).unwrap().subscriptions.rows
    }

    /// Answers that a change of the customer causes.
    fn customer(&mut self, value: Option<&[u8]>, time: i64) -> Batch {
        let changed = self.table(RIGHT, b"c", value, time);
        let applied = self.lookup.apply(&changed, &[1], &|_, _| true, &mut self.stores);
        applied.unwrap().rows
    }

    fn answers(&mut self, subscriptions: &Batch) -> Batch {
        let ports = vec![0; subscriptions.len()];
        let applied = self.lookup.apply(subscriptions, &ports, &|_, _| true, &mut self.stores);
        applied.unwrap().rows
    }

    fn results(&mut self, answers: &Batch) -> Batch {
        let ports = vec![0; answers.len()];
        let applied = self.resolver.apply(answers, &ports, &|_, _| true, &mut self.stores);
        applied.unwrap().rows
    }
}

/// Kafka Streams' digest is of the value alone: there the answer makes a result that nothing ever takes back.
#[test]
fn an_answer_to_a_row_that_came_back_with_the_same_value_makes_no_result() {
    let mut join = Join::new();
    join.customer(Some(b"Ada"), 1);
    let first = join.order(Some(ORDER), 2);
    let under_way = join.answers(&first);
    assert_eq!(join.results(&under_way).len(), 1);

    let gone = join.order(None, 3);
    let again = join.order(Some(ORDER), 4);
    assert!(join.answers(&gone).is_empty());
    assert!(join.customer(None, 5).is_empty());
    assert!(join.answers(&again).is_empty());
    assert!(join.results(&under_way).is_empty());

    let answers = join.customer(Some(b"Bea"), 6);
    let results = join.results(&answers);
    assert_eq!(results.value(0), Some(&br#"{"left":{"of":"c"},"right":"Bea"}"#[..]));
}
