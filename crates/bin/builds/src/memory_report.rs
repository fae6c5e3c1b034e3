//! Compares the estimated memory of the enabled servers with the memory that is available, for `check`.

use std::sync::Arc;

use llama_warden_config::{AdmissionPolicy, ServerSpec};
use llama_warden_events::{MemoryEstimate, ServerId};
use llama_warden_inventory::Inventory;
use llama_warden_memory::{Bytes, MemoryProbe, Reading, SystemMemoryProbe, estimate_inspected};
use serde::Serialize;

/// The estimates, and the available memory.
#[derive(Debug, Serialize)]
pub struct MemoryReport {
    /// Bytes of main memory that are available now; null if the kernel does not say.
    available_bytes: Option<u64>,
    /// The enabled servers whose models can be read.
    servers: Vec<ServerMemory>,
}

#[derive(Debug, Serialize)]
struct ServerMemory {
    server: ServerId,
    #[serde(flatten)]
    estimate: MemoryEstimate,
}

impl ServerMemory {
    fn host_bytes(&self) -> u64 {
        let MemoryEstimate { weights_bytes, kv_bytes, compute_bytes, gpu_bytes } = self.estimate;
        weights_bytes.saturating_add(kv_bytes).saturating_add(compute_bytes).saturating_sub(gpu_bytes)
    }
}

impl MemoryReport {
    /// Reads the headers of the models that are not inspected yet; `None` if `start.memory` is off.
    pub fn of(Inventory { loaded, inspections, .. }: &Inventory) -> Option<Self> {
        if loaded.configuration.start().memory == AdmissionPolicy::Off {
            return None;
        }
        let Reading { host, gpus, .. } = SystemMemoryProbe::new().read(&[]);
        let has_gpus = gpus.take_layers();
        let fleet = loaded.fleet(None).ok()?;
        let enabled = fleet.iter().filter(|spec| spec.enabled);
        let needed = |spec: &Arc<ServerSpec>| {
            let estimate = estimate_inspected(spec, has_gpus, inspections)?.card();
            Some(ServerMemory { server: spec.id.clone(), estimate })
        };
        Some(Self { available_bytes: host.map(|host| host.bytes), servers: enabled.filter_map(needed).collect() })
    }

    /// One warning for each server that does not fit by itself; if each does, one if they do not fit together.
    pub fn warnings(&self) -> Vec<String> {
        let Some(available) = self.available_bytes else { return Vec::new() };
        let warning = |what: String, needed: u64| {
            (needed > available).then(|| {
                let (needed, available) = (Bytes(needed), Bytes(available));
                format!(
                    "{what} {needed} of memory, and {available} is available now; lower ctx-size, or run fewer servers"
                )
            })
        };
        let each = self.servers.iter().filter_map(|needed| {
            warning(format!("server `{}` is estimated to need", needed.server), needed.host_bytes())
        });
        let warnings: Vec<String> = each.collect();
        if !warnings.is_empty() {
            return warnings;
        }
        let together = self.servers.iter().fold(0_u64, |sum, needed| sum.saturating_add(needed.host_bytes()));
        warning("the enabled servers are estimated to need".to_owned(), together).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(available: u64, needs: &[u64]) -> MemoryReport {
        let needed = |(index, bytes): (usize, &u64)| ServerMemory {
            server: ServerId::new(&format!("s{index}")).expect("valid"),
            estimate: MemoryEstimate { weights_bytes: bytes << 30, kv_bytes: 5, compute_bytes: 0, gpu_bytes: 5 },
        };
        MemoryReport { available_bytes: Some(available << 30), servers: needs.iter().enumerate().map(needed).collect() }
    }

    #[test]
    fn what_does_not_fit_is_told_for_one_server_or_for_all_together() {
        assert_eq!(report(10, &[4, 6]).warnings(), [""; 0]);
        let alone = report(10, &[4, 11]).warnings();
        assert!(alone.len() == 1 && alone[0].starts_with("server `s1` is estimated to need 11.0 GiB"), "{alone:?}");
        let together = report(10, &[5, 6]).warnings();
        assert!(together.len() == 1 && together[0].contains("servers are estimated to need 11.0 GiB"), "{together:?}");
        assert_eq!(MemoryReport { available_bytes: None, ..report(0, &[5]) }.warnings(), [""; 0]);
    }
}
