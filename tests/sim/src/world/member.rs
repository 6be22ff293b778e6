//! A node's membership: heartbeats come with its polls, so a node that is not polled loses its session.

use super::World;
use super::groups::GroupMember;
use broker::{CommittedOffset, Error, ErrorKind, GroupMetadata, Member, MemberOptions, Membership};
use std::time::Duration;

pub struct WorldMember {
    world: World,
    options: MemberOptions,
    /// Empty before the join and after an expulsion.
    id: String,
    generation: i32,
    leads_as: Option<String>,
    confirmed_at: i64,
    /// A newer process took this node's static membership over: final.
    replaced: bool,
    left: bool,
}

impl WorldMember {
    pub fn new(world: World, options: &MemberOptions) -> Self {
        let confirmed_at = world.now();
        Self {
            world,
            options: options.clone(),
            id: String::new(),
            generation: -1,
            leads_as: None,
            confirmed_at,
            replaced: false,
            left: false,
        }
    }

    fn membership(&self, now: i64) -> Membership {
        Membership {
            member_id: self.id.clone(),
            leads_as: self.leads_as.clone(),
            confirmed_ago: Duration::from_millis((now - self.confirmed_at).max(0) as u64),
        }
    }

    /// A new member, or the static member of this node with a new id and without a rebalance.
    fn join(&mut self) {
        let mut guard = self.world.lock();
        let state = &mut *guard;
        let id = format!("{}-{}", self.options.node, state.number());
        let now = state.now;
        let hears_at = now + state.delay(state.faults.rebalance_ms_max);
        let group = state.groups.entry(self.options.group.clone()).or_default();
        let old = group
            .members
            .iter()
            .find(|(_, m)| m.node == self.options.node)
            .map(|(id, _)| id.clone());
        let member = GroupMember {
            node: self.options.node.clone(),
            session_ms: self.options.session_timeout.as_millis() as i64,
            heard_at: now,
            generation: -1,
            hears_at,
        };
        group.members.insert(id.clone(), member);
        match old {
            Some(old) => {
                group.members.remove(&old);
                if group.token.as_ref() == Some(&old) {
                    group.token = Some(id.clone());
                }
            }
            None => state.rebalance(&self.options.group),
        }
        drop(guard);
        self.id = id;
        self.generation = -1;
        self.leads_as = None;
    }
}

impl Member for WorldMember {
    fn poll(&mut self) -> Result<Membership, Error> {
        let doing = format!("poll the membership of `{}`", self.options.node);
        if self.replaced || self.left {
            return Err(Error::new(
                ErrorKind::Fatal,
                doing,
                "another process took over this static member",
            ));
        }
        if self.id.is_empty() {
            self.join();
            return Ok(Membership {
                member_id: String::new(),
                ..self.membership(self.world.now())
            });
        }
        let mut state = self.world.lock();
        state.expire_members();
        let now = state.now;
        let group = state.groups.entry(self.options.group.clone()).or_default();
        let (generation, token) = (group.generation, group.token.clone());
        let Some(member) = group.members.get_mut(&self.id) else {
            self.replaced = group.members.values().any(|m| m.node == self.options.node);
            drop(state);
            (self.leads_as, self.generation) = (None, -1);
            self.id.clear();
            if self.replaced {
                return Err(Error::new(
                    ErrorKind::Fatal,
                    doing,
                    "another process took over this static member",
                ));
            }
            return Ok(self.membership(now));
        };
        member.heard_at = now;
        self.confirmed_at = now;
        if member.generation != generation && now >= member.hears_at {
            member.generation = generation;
            self.generation = generation;
            self.leads_as = (token.as_ref() == Some(&self.id)).then(|| self.id.clone());
        }
        drop(state);
        let joined = self.generation >= 0;
        Ok(Membership {
            member_id: if joined { self.id.clone() } else { String::new() },
            ..self.membership(now)
        })
    }

    fn live(&mut self) -> Result<Vec<String>, Error> {
        let mut state = self.world.lock();
        state.reached("list the members")?;
        state.expire_members();
        let group = state.groups.entry(self.options.group.clone()).or_default();
        Ok(group.members.values().map(|m| m.node.clone()).collect())
    }

    fn metadata(&self) -> GroupMetadata {
        GroupMetadata {
            group: self.options.group.clone(),
            generation: self.generation,
            member_id: if self.generation >= 0 {
                self.id.clone()
            } else {
                String::new()
            },
        }
    }

    fn commit(&mut self, offsets: &[CommittedOffset]) -> Result<(), Error> {
        let doing = format!("commit offsets of `{}`", self.options.group);
        let mut state = self.world.lock();
        state.reached(&doing)?;
        state.expire_members();
        let group = state.groups.entry(self.options.group.clone()).or_default();
        if !group.members.contains_key(&self.id) {
            return Err(Error::new(ErrorKind::Fenced, doing, "unknown member"));
        }
        if self.generation != group.generation {
            return Err(Error::new(ErrorKind::Unavailable, doing, "a rebalance is in progress"));
        }
        for offset in offsets {
            group.offsets.insert(offset.partition.clone(), offset.clone());
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Error> {
        let mut state = self.world.lock();
        let group = state.groups.entry(self.options.group.clone()).or_default();
        if group.members.remove(&self.id).is_some() {
            state.rebalance(&self.options.group);
        }
        drop(state);
        self.left = true;
        self.id.clear();
        (self.leads_as, self.generation) = (None, -1);
        Ok(())
    }
}
