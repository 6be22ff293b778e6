//! Reads the placement topic into a [`View`].

use crate::placement::View;
use broker::{Admin, Broker, Consumer, Error, OffsetAt};
use record::TopicPartition;
use std::time::Duration;

/// Rows taken by one poll: a whole placement of some thousand tasks is read in a few of them.
const RECORDS_MAX: usize = 4_096;

pub struct Reader {
    pub topic: TopicPartition,
    pub view: View,
    consumer: Box<dyn Consumer>,
    assigned: bool,
    position: i64,
}

impl Reader {
    pub fn new(topic: TopicPartition, consumer: Box<dyn Consumer>) -> Self {
        Self {
            topic,
            view: View::default(),
            consumer,
            assigned: false,
            position: 0,
        }
    }

    /// Everything below was read, control records included.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// Takes what is there, without waiting.
    pub fn advance(&mut self, broker: &dyn Broker) -> Result<(), Error> {
        if !self.assigned {
            let mut admin: Box<dyn Admin> = broker.admin()?;
            let start = admin.offsets(std::slice::from_ref(&self.topic), OffsetAt::Earliest)?;
            let start = start.first().copied().unwrap_or_default();
            self.consumer.assign(&[(self.topic.clone(), start)])?;
            self.position = start;
            self.assigned = true;
        }
        let mut fetched = Vec::new();
        self.consumer.poll(Duration::ZERO, RECORDS_MAX, &mut fetched)?;
        for part in &fetched {
            for (row, offset) in part.offsets.iter().enumerate() {
                let Some(key) = part.records.key(row) else { continue };
                if let Err(error) = self.view.apply(*offset, key, part.records.value(row)) {
                    tracing::warn!(topic = %self.topic, offset, %error, "a placement record makes no sense");
                }
            }
        }
        if let Some(position) = self.consumer.position(&self.topic)? {
            self.position = position;
        }
        Ok(())
    }
}
