//! Whose state is it: what a task's directory holds is kept only where it is provably of this run (design §8).

use crate::control::Run;
use crate::crash::CrashPoint;
use crate::opening::Asked;
use crate::options::Now;
use crate::restore::NotOpen;
use crate::slot::Slot;
use crate::stamp::{self, Stamp, Verdict};
use crate::worker::Worker;
use record::TopicPartition;
use task::{Task, TaskId};

impl Worker {
    /// Empties the directory unless what it holds is provably of this run, fresh, and within the changelogs.
    pub(crate) fn prove_directory(
        &mut self,
        slot: &mut Slot,
        task: &mut Task,
        asked: &Asked,
        run: Run,
        now: Now,
    ) -> Result<(), NotOpen> {
        let changelogs = &task.changelogs().to_vec();
        if changelogs.is_empty() {
            return Ok(());
        }
        let expected = self.expected_stamp(slot.id, asked, run, changelogs, now)?;
        let found = self.tasks.stamp(slot.id)?;
        let verdict = stamp::verdict(found.as_ref(), &expected, self.options.tombstones_ms);
        let mut stored = Vec::new();
        for store in 0..changelogs.len() {
            stored.push(task.restored_offset(store)?);
        }
        let outside = verdict == Verdict::Keep && self.outside(asked, changelogs, &stored)?;
        if verdict != Verdict::Keep || outside || slot.wipe {
            if stored.iter().any(Option::is_some) {
                tracing::warn!(task = %slot.id, ?verdict, outside, "task directory emptied, state is restored in full");
                self.counters.stores_wiped += 1;
            }
            if found.is_some() {
                self.tasks.set_stamp(slot.id, None)?;
            }
            task.wipe()?;
            // With nothing to restore the stamp that follows the restore is soon enough.
            if slot.targets.iter().any(|target| *target > 0) {
                self.tasks.set_stamp(slot.id, Some(&expected))?;
            }
            slot.wipe = false;
            self.step(CrashPoint::Wiped).map_err(NotOpen::Ends)?;
        }
        slot.stamp = Some(expected);
        slot.stamped_ms = now.monotonic_ms;
        Ok(())
    }

    fn outside(
        &mut self,
        asked: &Asked,
        changelogs: &[TopicPartition],
        stored: &[Option<i64>],
    ) -> Result<bool, NotOpen> {
        if stored.iter().all(Option::is_none) {
            return Ok(false);
        }
        let earliest = self.earliest_of(asked, changelogs)?;
        let end = self.ends_of(asked, changelogs)?;
        let within =
            |(stored, (earliest, end)): (&Option<i64>, (i64, i64))| stored.is_none_or(|s| earliest <= s && s <= end);
        Ok(!stored.iter().zip(earliest.into_iter().zip(end)).all(within))
    }

    fn expected_stamp(
        &mut self,
        id: TaskId,
        asked: &Asked,
        run: Run,
        changelogs: &[TopicPartition],
        now: Now,
    ) -> Result<Stamp, NotOpen> {
        let topics: Vec<String> = changelogs.iter().map(|c| c.topic.to_string()).collect();
        let described = self.descriptions_of(asked, &topics)?;
        let mut topic_ids = std::collections::BTreeMap::new();
        for (topic, description) in topics.iter().zip(described) {
            let description = description.ok_or_else(|| NotOpen::Stop(format!("there is no changelog `{topic}`")))?;
            topic_ids.insert(topic.clone(), description.id);
        }
        let schemas = topics.into_iter().zip(self.tasks.schemas(id)).collect();
        Ok(Stamp {
            incarnation: run.incarnation,
            topic_ids,
            schemas,
            caught_up_ms: now.wall_ms,
        })
    }
}
