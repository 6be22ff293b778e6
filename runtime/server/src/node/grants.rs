//! Grants of steps on this node: what it lacks for them, and the world behind them.

use super::Node;
use crate::refusal::Refusal;
use sandbox::Outside;
use std::collections::BTreeMap;
use std::sync::Arc;
use topology::{NodeId, NodeKind, Topology};

impl Node {
    /// Secrets and variables that steps are granted and this node does not have, one sentence each.
    pub(super) fn lacking(&self, topology: &Topology) -> Vec<String> {
        let steps = topology.nodes.iter().filter_map(|node| match &node.kind {
            NodeKind::Module(step) => Some((&node.name, &step.grants)),
            _ => None,
        });
        steps
            .flat_map(|(name, grants)| self.outbound.lacking(name, grants))
            .collect()
    }

    /// # Errors
    /// A pipeline must not start here without what its steps are granted.
    pub(super) fn check_grants(&self, topology: &Topology) -> Result<(), Refusal> {
        match self.lacking(topology).as_slice() {
            [] => Ok(()),
            lacking => Err(Refusal::invalid("not-granted", lacking.join("\n"))),
        }
    }

    /// The world outside of every step with a module.
    pub(super) fn outside(&self, topology: &Topology) -> BTreeMap<NodeId, Arc<dyn Outside>> {
        let nodes = topology.nodes.iter().enumerate();
        nodes
            .filter_map(|(id, node)| match &node.kind {
                NodeKind::Module(step) => Some((id, self.outbound.step(&topology.name, &node.name, &step.grants))),
                _ => None,
            })
            .collect()
    }
}
