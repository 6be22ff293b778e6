//! How long a call of a module may take, beside the transactions of this node.

use std::time::Duration;
use topology::{Guarantee, ModuleStep, NodeKind, Topology};

/// A call that lasts as long as a transaction may would let the broker end the transaction, and the replay would meet
/// it again.
pub(super) fn too_long(topology: &Topology, transaction: Duration) -> Vec<String> {
    if topology.guarantee != Guarantee::ExactlyOnce {
        return Vec::new();
    }
    let bound = u64::try_from(transaction.as_millis()).unwrap_or(u64::MAX);
    let too_long = topology.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Module(step) if longest_call_ms(step) >= bound => Some(format!(
            "step `{}`: a call may take {} ms (`limits`), and a transaction of this node ends after {bound} ms; hint: a \
             longer `transaction-timeout` in node.toml",
            node.name,
            longest_call_ms(step)
        )),
        _ => None,
    });
    too_long.collect()
}

/// With the requests that it may make.
fn longest_call_ms(step: &ModuleStep) -> u64 {
    let http_ms = if step.grants.http.is_empty() {
        0
    } else {
        step.limits.http_ms
    };
    step.limits.call_ms.saturating_add(http_ms)
}
