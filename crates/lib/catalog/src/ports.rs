//! Ports for discovered models.

use std::collections::BTreeSet;

use llama_warden_events::ServerId;

use crate::model::DiscoveredModel;

/// There are fewer free ports than models.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no free port from {first_port} to 65535 is left for {} models, the first of them {}", .left.len(), .left.first().map_or("", ServerId::as_str))]
pub struct PortsExhausted {
    /// Where the search began.
    pub first_port: u16,
    /// The models without a port, by id.
    pub left: Vec<ServerId>,
}

/// Gives each model that has no port the lowest one from `first_port` up that is neither in `taken`, nor another
/// model's, nor refused by `is_free`.
///
/// Models are served in the order of their ids, so that the same models get the same ports; a port that a model has
/// already stays. `is_free` is asked at most once for each port and has to try the address that the servers will bind.
///
/// # Errors
/// [`PortsExhausted`] names the models that are left without; the others have theirs.
pub fn assign_ports(
    models: &mut [DiscoveredModel],
    first_port: u16,
    taken: &BTreeSet<u16>,
    mut is_free: impl FnMut(u16) -> bool,
) -> Result<(), PortsExhausted> {
    let kept: BTreeSet<u16> = models.iter().filter_map(|model| model.port).collect();
    let mut free =
        (first_port.max(1)..=u16::MAX).filter(|port| !taken.contains(port) && !kept.contains(port) && is_free(*port));
    let mut waiting: Vec<&mut DiscoveredModel> = models.iter_mut().filter(|model| model.port.is_none()).collect();
    waiting.sort_by(|a, b| a.id.cmp(&b.id));
    let mut left = Vec::new();
    for model in waiting {
        model.port = free.next();
        if model.port.is_none() {
            left.push(model.id.clone());
        }
    }
    if left.is_empty() { Ok(()) } else { Err(PortsExhausted { first_port, left }) }
}
