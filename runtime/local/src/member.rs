//! Membership in one process: whoever came first leads, and the next one when it goes.

use crate::Shared;
use crate::book::MemberEntry;
use broker::{CommittedOffset, Error, ErrorKind, GroupMetadata, Member, MemberOptions, Membership};
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct LogMember {
    log: Arc<Shared>,
    group: String,
    token_topic: Arc<str>,
    member_id: String,
}

impl LogMember {
    /// A member with the same node is replaced, as a static member of Kafka's is.
    pub fn join(log: Arc<Shared>, options: &MemberOptions) -> Self {
        let member_id = format!("{}-{}", options.node, uuid::Uuid::new_v4());
        let token_topic: Arc<str> = options.token_topic.as_str().into();
        let mut book = log.book();
        let group = book.groups.entry(options.group.clone()).or_default();
        group.members.retain(|m| m.node != options.node);
        group.members.push(MemberEntry {
            node: options.node.clone(),
            member_id: member_id.clone(),
            token_topic: Arc::clone(&token_topic),
        });
        group.generation += 1;
        drop(book);
        Self {
            log,
            group: options.group.clone(),
            token_topic,
            member_id,
        }
    }

    fn replaced(&self, doing: &str) -> Error {
        let doing = format!("{doing} `{}`", self.group);
        Error::new(
            ErrorKind::Fenced,
            doing,
            format!("`{}` has left it, or was replaced by its node", self.member_id),
        )
    }
}

impl Member for LogMember {
    fn poll(&mut self) -> Result<Membership, Error> {
        let book = self.log.book();
        let Some(group) = book.groups.get(&self.group).filter(|g| g.has(&self.member_id)) else {
            return Err(self.replaced("be a member of"));
        };
        let leads = book.topics.contains_key(&self.token_topic)
            && group.leader(&self.token_topic) == Some(self.member_id.as_str());
        Ok(Membership {
            member_id: self.member_id.clone(),
            leads_as: leads.then(|| self.member_id.clone()),
            confirmed_ago: Duration::ZERO,
        })
    }

    fn live(&mut self) -> Result<Vec<String>, Error> {
        let book = self.log.book();
        let members = book.groups.get(&self.group).map(|g| &g.members);
        Ok(members.into_iter().flatten().map(|m| m.node.clone()).collect())
    }

    fn metadata(&self) -> GroupMetadata {
        let generation = self.log.book().groups.get(&self.group).map_or(0, |g| g.generation);
        GroupMetadata {
            group: self.group.clone(),
            generation,
            member_id: self.member_id.clone(),
        }
    }

    fn commit(&mut self, offsets: &[CommittedOffset]) -> Result<(), Error> {
        if !self
            .log
            .book()
            .groups
            .get(&self.group)
            .is_some_and(|g| g.has(&self.member_id))
        {
            return Err(self.replaced("commit positions of"));
        }
        self.log
            .commit_offsets(&self.group, offsets, &format!("commit positions of `{}`", self.group))
    }

    fn leave(&mut self) -> Result<(), Error> {
        if let Some(group) = self.log.book().groups.get_mut(&self.group) {
            group.remove(&self.member_id);
        }
        Ok(())
    }
}

impl Drop for LogMember {
    fn drop(&mut self) {
        if let Some(group) = self.log.book().groups.get_mut(&self.group) {
            group.remove(&self.member_id);
        }
    }
}
