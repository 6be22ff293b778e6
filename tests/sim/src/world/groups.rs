//! Consumer groups: members, generations, the token, committed and pending offsets.

use super::State;
use broker::CommittedOffset;
use record::TopicPartition;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub struct GroupMember {
    pub node: String,
    pub session_ms: i64,
    pub heard_at: i64,
    /// Generation that this member has synced to; older than the group's while it has not heard of a rebalance.
    pub generation: i32,
    /// When it hears of the group's generation.
    pub hears_at: i64,
}

#[derive(Clone, Debug, Default)]
pub struct Group {
    pub generation: i32,
    pub members: BTreeMap<String, GroupMember>,
    /// Member id that the token is assigned to.
    pub token: Option<String>,
    pub offsets: BTreeMap<TopicPartition, CommittedOffset>,
    /// Per producer id: offsets of its open transaction, or of one whose marker has not arrived here.
    pub pending: BTreeMap<i64, BTreeMap<TopicPartition, CommittedOffset>>,
}

impl Group {
    pub fn settle(&mut self, producer: i64, commit: bool) {
        let pending = self.pending.remove(&producer).unwrap_or_default();
        if commit {
            self.offsets.extend(pending);
        }
    }

    pub fn unstable(&self, partition: &TopicPartition) -> bool {
        self.pending.values().any(|offsets| offsets.contains_key(partition))
    }
}

/// When a member hears of a rebalance that it was not told of: some sessions later, if no other one comes first.
const LOST_MS: i64 = 3_000;

impl State {
    /// Members changed: a new generation, the token to whoever is left; and, in some worlds, all of it once more.
    pub fn rebalance(&mut self, name: &str) {
        self.rebalance_once(name, true);
        if self.chance(self.faults.doubled_rebalance) {
            self.tally.doubled_rebalances += 1;
            self.rebalance_once(name, false);
        }
    }

    fn rebalance_once(&mut self, name: &str, sticky: bool) {
        let Some(group) = self.groups.get(name) else { return };
        let kept = group.token.clone().filter(|t| sticky && group.members.contains_key(t));
        let ids: Vec<String> = group.members.keys().cloned().collect();
        let token = kept.or_else(|| {
            let count = ids.len() as i64;
            (count > 0)
                .then(|| self.delay(count - 1))
                .and_then(|i| ids.get(i as usize).cloned())
        });
        let delays: Vec<i64> = ids.iter().map(|_| self.hears_after()).collect();
        self.tally.rebalances += 1;
        let now = self.now;
        let Some(group) = self.groups.get_mut(name) else { return };
        group.generation += 1;
        group.token = token;
        for (id, delay) in ids.iter().zip(delays) {
            if let Some(member) = group.members.get_mut(id) {
                member.hears_at = now + delay;
            }
        }
    }

    /// When a member hears of a rebalance.
    fn hears_after(&mut self) -> i64 {
        if self.chance(self.faults.lost_rebalance) {
            self.tally.lost_rebalances += 1;
            return LOST_MS;
        }
        self.delay(self.faults.rebalance_ms_max)
    }

    pub fn expire_members(&mut self) {
        let now = self.now;
        let mut changed = Vec::new();
        for (name, group) in &mut self.groups {
            let before = group.members.len();
            group.members.retain(|_, m| now - m.heard_at <= m.session_ms);
            if group.members.len() != before {
                changed.push(name.clone());
            }
        }
        for name in changed {
            self.rebalance(&name);
        }
    }
}
