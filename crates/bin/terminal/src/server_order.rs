//! The orders of servers in tables.

use std::cmp::Ordering;

use llama_warden_api_types::ServerReport;
use llama_warden_state::PhaseName;

use crate::natural_order;

/// Those in trouble first, and those alike by name.
pub fn by_trouble(left: &ServerReport, right: &ServerReport) -> Ordering {
    urgency(left).cmp(&urgency(right)).then_with(|| by_name(left, right))
}

/// As people count.
pub fn by_name(left: &ServerReport, right: &ServerReport) -> Ordering {
    natural_order::compare(left.model_id.as_str(), right.model_id.as_str())
}

/// A lower number is shown first where not every server fits.
pub const fn urgency(server: &ServerReport) -> u8 {
    match server.phase {
        PhaseName::Failed | PhaseName::Unready => 0,
        PhaseName::BackingOff => 1,
        _ if server.waiting_for.is_some() => 2,
        PhaseName::Stopping => 3,
        PhaseName::Launching | PhaseName::Starting | PhaseName::Loading => 4,
        PhaseName::Idle | PhaseName::Exited if server.enabled => 5,
        PhaseName::Ready => 6,
        PhaseName::Idle | PhaseName::Exited => 7,
    }
}
