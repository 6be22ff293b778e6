//! What all nodes say of themselves, asked by one of them.

use super::peers::Peer;
use super::{Node, lock};
use crate::api::{Cluster, ClusterNode};
use std::collections::BTreeMap;

impl Node {
    /// This node, and those that run the same pipelines, by name. One that does not answer is there with the reason.
    pub fn cluster(&self) -> Cluster {
        let here = ClusterNode {
            node: self.config.node.clone(),
            address: None,
            status: Some(self.status()),
            problem: None,
        };
        // All are asked at once: those that are gone hold the answer up by one time-out, not by the sum.
        let mut nodes: Vec<ClusterNode> = std::thread::scope(|scope| {
            let asked: Vec<_> = self
                .others()
                .into_iter()
                .map(|(node, address)| scope.spawn(move || self.other(node, address)))
                .collect();
            asked.into_iter().filter_map(|thread| thread.join().ok()).collect()
        });
        nodes.push(here);
        nodes.sort_by(|a, b| a.node.cmp(&b.node));
        Cluster {
            cluster: self.config.cluster.clone(),
            nodes,
        }
    }

    fn other(&self, node: String, address: Option<String>) -> ClusterNode {
        let status = match &address {
            Some(address) => self.peers.status(&Peer {
                node: node.clone(),
                address: address.clone(),
            }),
            None => Err("says no address where others reach it (`advertise` in its node.toml)".to_owned()),
        };
        let (status, problem) = match status {
            Ok(status) => (Some(status), None),
            Err(problem) => (None, Some(problem)),
        };
        ClusterNode {
            node,
            address,
            status,
            problem,
        }
    }

    /// Names and addresses from the placement topics of the pipelines that run here.
    fn others(&self) -> BTreeMap<String, Option<String>> {
        let mut others = BTreeMap::new();
        for running in lock(&self.running).values() {
            let view = lock(&running.shared.view);
            let theirs = view.nodes.iter().filter(|(name, _)| **name != self.config.node);
            others.extend(theirs.map(|(name, record)| (name.clone(), record.address.clone())));
        }
        others
    }
}
