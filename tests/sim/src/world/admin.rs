//! Topics and offsets, asked of the broker itself.

use super::World;
use super::log::{Log, Topic};
use broker::{
    Admin, CommittedOffset, CreateOutcome, Error, ErrorKind, Isolation, NewTopic, OffsetAt, TopicDescription,
};
use record::TopicPartition;

pub struct WorldAdmin(pub World);

fn description(name: &str, topic: &Topic) -> TopicDescription {
    TopicDescription {
        name: name.to_string(),
        id: topic.id.to_string(),
        partitions: topic.partitions.len() as i32,
        cleanup: topic.cleanup,
    }
}

impl Admin for WorldAdmin {
    fn cluster_id(&mut self) -> Result<String, Error> {
        Ok("simulated".into())
    }

    fn topics(&mut self) -> Result<Vec<TopicDescription>, Error> {
        let mut state = self.0.lock();
        state.reached("list topics")?;
        Ok(state
            .topics
            .iter()
            .map(|(name, topic)| description(name, topic))
            .collect())
    }

    fn describe(&mut self, topics: &[String]) -> Result<Vec<Option<TopicDescription>>, Error> {
        let mut state = self.0.lock();
        state.reached("describe topics")?;
        Ok(topics
            .iter()
            .map(|name| state.topics.get(name).map(|t| description(name, t)))
            .collect())
    }

    fn create(&mut self, topics: &[NewTopic]) -> Result<Vec<CreateOutcome>, Error> {
        let mut state = self.0.lock();
        state.reached("create topics")?;
        let mut outcomes = Vec::new();
        for new in topics {
            if let Some(topic) = state.topics.get(&new.name) {
                outcomes.push(CreateOutcome::Exists(description(&new.name, topic)));
                continue;
            }
            let partitions = vec![Log::default(); new.partitions.max(1) as usize];
            let id = state.number();
            state.topics.insert(
                new.name.clone(),
                Topic {
                    id,
                    cleanup: new.cleanup,
                    partitions,
                },
            );
            outcomes.push(CreateOutcome::Created);
        }
        Ok(outcomes)
    }

    fn delete(&mut self, topics: &[String]) -> Result<(), Error> {
        let mut state = self.0.lock();
        state.reached("delete topics")?;
        for name in topics {
            state.topics.remove(name);
        }
        Ok(())
    }

    fn delete_records(&mut self, before: &[(TopicPartition, i64)]) -> Result<(), Error> {
        let mut state = self.0.lock();
        state.reached("delete records")?;
        for (partition, offset) in before {
            let topic = state.topics.get_mut(&*partition.topic);
            if let Some(log) = topic.and_then(|t| t.partitions.get_mut(partition.partition as usize)) {
                log.start = log.start.max((*offset).min(log.end()));
            }
        }
        Ok(())
    }

    fn offsets(&mut self, partitions: &[TopicPartition], at: OffsetAt) -> Result<Vec<i64>, Error> {
        let mut state = self.0.lock();
        state.reached("ask for offsets")?;
        let of = |p: &TopicPartition| {
            let topic = state.topics.get(&*p.topic);
            let Some(log) = topic.and_then(|t| t.partitions.get(p.partition as usize)) else {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    format!("ask for offsets of {p}"),
                    "no such partition",
                ));
            };
            Ok(match at {
                OffsetAt::Earliest => log.start,
                OffsetAt::End(Isolation::ReadCommitted) => log.stable().max(log.start),
                OffsetAt::End(Isolation::ReadUncommitted) => log.end(),
                OffsetAt::Time(time) => {
                    let rows = log.rows();
                    rows.iter()
                        .find(|r| r.timestamp >= time)
                        .map_or_else(|| log.end(), |r| r.offset)
                }
            })
        };
        partitions.iter().map(of).collect()
    }

    fn committed(&mut self, group: &str, partitions: &[TopicPartition]) -> Result<Vec<Option<CommittedOffset>>, Error> {
        let doing = format!("read committed offsets of `{group}`");
        let mut state = self.0.lock();
        state.reached(&doing)?;
        let Some(group) = state.groups.get(group) else {
            return Ok(vec![None; partitions.len()]);
        };
        if partitions.iter().any(|p| group.unstable(p)) {
            return Err(Error::new(ErrorKind::Unstable, doing, "a transaction is not settled"));
        }
        Ok(partitions.iter().map(|p| group.offsets.get(p).cloned()).collect())
    }

    fn commit(&mut self, group: &str, offsets: &[CommittedOffset]) -> Result<(), Error> {
        let mut state = self.0.lock();
        let doing = format!("commit offsets of `{group}`");
        state.reached(&doing)?;
        state.expire_members();
        let group = state.groups.entry(group.to_string()).or_default();
        if !group.members.is_empty() {
            return Err(Error::new(ErrorKind::Refused, doing, "the group has members"));
        }
        for offset in offsets {
            group.offsets.insert(offset.partition.clone(), offset.clone());
        }
        Ok(())
    }

    fn delete_group(&mut self, group: &str) -> Result<(), Error> {
        let mut state = self.0.lock();
        let doing = format!("delete the group `{group}`");
        state.reached(&doing)?;
        state.expire_members();
        if state.groups.get(group).is_some_and(|g| !g.members.is_empty()) {
            return Err(Error::new(ErrorKind::Refused, doing, "the group has members"));
        }
        state.groups.remove(group);
        Ok(())
    }
}
