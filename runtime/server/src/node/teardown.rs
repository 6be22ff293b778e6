//! What `delete` and `reset` do alike: nobody holds the pipeline any more, its group is empty, its state here is gone.

use super::{Node, lock};
use crate::refusal::Refusal;
use crate::registry::PipelineEntry;
use broker::{ErrorKind, Fencing};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use worker::placement;

/// Fencing of a dead or deleted owner takes well under a second on a live broker.
const FENCE_WAIT: Duration = Duration::from_secs(30);
/// For the group to become empty, beyond the session timeout.
const GROUP_WAIT: Duration = Duration::from_secs(10);
/// Before a broker is asked again.
pub(super) const AGAIN: Duration = Duration::from_millis(100);

impl Node {
    pub(super) fn fence_all(&self, entry: &PipelineEntry) -> Result<(), Refusal> {
        let name = &entry.details.topology.name;
        let mut ids: BTreeSet<String> = [placement::leader_id(name)].into();
        ids.extend((0..self.config.threads).map(|n| placement::thread_id(name, &self.config.node, n as u32)));
        ids.extend(super::placed::ids(&*self.broker, name)?);
        let mut fencings: Vec<Box<dyn Fencing>> = ids.iter().map(|id| self.broker.fence(id)).collect();
        let deadline = Instant::now() + FENCE_WAIT;
        while let Some(fencing) = fencings.last_mut() {
            match fencing.poll() {
                Some(done) => {
                    done?;
                    fencings.pop();
                }
                None if Instant::now() > deadline => {
                    return Err(Refusal::ours(format!(
                        "the threads of `{name}` could not be fenced in {FENCE_WAIT:?}"
                    )));
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        // Nothing of this pipeline runs here any more.
        lock(&self.running).remove(name);
        Ok(())
    }

    /// What a group takes only while it is empty: another node's member, or one that died, is in it until its session
    /// ends.
    pub(super) fn when_empty<T>(&self, mut ask: impl FnMut() -> Result<T, broker::Error>) -> Result<T, Refusal> {
        let deadline = Instant::now() + self.config.session_timeout + GROUP_WAIT;
        loop {
            match ask() {
                Err(error) if Instant::now() < deadline && error.kind != ErrorKind::NotFound => {
                    std::thread::sleep(AGAIN);
                }
                answer => return Ok(answer?),
            }
        }
    }

    pub(super) fn delete_group(&self, name: &str) -> Result<(), Refusal> {
        let mut admin = self.broker.admin()?;
        self.when_empty(|| match admin.delete_group(name) {
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            answer => answer,
        })
    }

    /// The pipeline's directories on this node.
    pub(super) fn remove_state(&self, name: &str) -> Result<(), Refusal> {
        let folder = self.config.data_dir.join("state").join(name);
        match std::fs::remove_dir_all(&folder) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => Err(Refusal::ours(format!(
                "failed to remove `{}`: {cause}",
                folder.display()
            ))),
            _ => Ok(()),
        }
    }
}
