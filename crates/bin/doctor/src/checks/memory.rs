//! The memory of the machine or of the container, and whether the enabled servers fit into it.

use llama_warden_builds::memory_report::MemoryReport;
use llama_warden_inventory::Inventory;
use llama_warden_memory::{Available, Bound, Bytes};

use crate::finding::{Area, Finding};

pub(crate) fn look(inventory: &Inventory, available: Option<Available>) -> Vec<Finding> {
    let Some(available) = available else {
        return vec![Area::Memory.warning(
            "the kernel does not say how much memory is available",
            "mount /proc; until then servers start without a look at the memory",
        )];
    };
    let bytes = Bytes(available.bytes);
    let stated = match &available.bound {
        Bound::Machine => format!("{bytes} are available"),
        Bound::Cgroup(folder) => {
            format!("{bytes} are available, by the limit of the control group {}", folder.display())
        }
    };
    let warnings = MemoryReport::of(inventory).map(|report| report.warnings()).unwrap_or_default();
    if warnings.is_empty() {
        return vec![Area::Memory.good(stated)];
    }
    let next_step = match available.bound {
        Bound::Machine => "lower `ctx-size`, take a smaller quantisation, or enable fewer servers",
        Bound::Cgroup(_) => "raise the limit of the container or unit, lower `ctx-size`, or enable fewer servers",
    };
    warnings.into_iter().map(|warning| Area::Memory.warning(warning, next_step)).collect()
}
