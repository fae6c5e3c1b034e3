//! What the enabled servers of a configuration will need of memory, for `check`.

use llama_warden_config::AdmissionPolicy;
use llama_warden_events::{MemoryEstimate, ServerId};
use llama_warden_memory::{Bytes, MemoryProbe, SystemMemoryProbe};
use serde::Serialize;

use crate::load::Loaded;

/// What is needed, and what there is.
#[derive(Debug, Serialize)]
pub struct MemoryReport {
    /// Bytes of the machine's memory that are left now; null where the kernel does not tell.
    available_bytes: Option<u64>,
    /// The enabled servers that anything is known of.
    servers: Vec<Needed>,
}

#[derive(Debug, Serialize)]
struct Needed {
    server: ServerId,
    #[serde(flatten)]
    estimate: MemoryEstimate,
}

impl Needed {
    fn host_bytes(&self) -> u64 {
        let MemoryEstimate { weights_bytes, kv_bytes, compute_bytes, gpu_bytes } = self.estimate;
        weights_bytes.saturating_add(kv_bytes).saturating_add(compute_bytes).saturating_sub(gpu_bytes)
    }
}

impl MemoryReport {
    /// Reads the headers of the models; `None` where nothing is to be weighed.
    pub fn of(loaded: &Loaded) -> Option<Self> {
        if loaded.configuration.start().memory == AdmissionPolicy::Off {
            return None;
        }
        let scales = SystemMemoryProbe::new();
        let fleet = loaded.fleet(None).ok()?;
        let enabled = fleet.iter().filter(|spec| spec.enabled);
        let servers = enabled
            .filter_map(|spec| Some(Needed { server: spec.id.clone(), estimate: scales.estimate(spec)?.card() }))
            .collect();
        let available_bytes = scales.read(&[]).host.map(|host| host.bytes);
        Some(Self { available_bytes, servers })
    }

    /// What does not fit into the memory that is left now, for people.
    pub fn warnings(&self) -> Vec<String> {
        let Some(available) = self.available_bytes else { return Vec::new() };
        let short = |what: String, needed: u64| {
            (needed > available).then(|| {
                let (needed, available) = (Bytes(needed), Bytes(available));
                format!(
                    "{what} {needed} of memory, and {available} is available now; lower ctx-size, or run fewer servers"
                )
            })
        };
        let each = self.servers.iter().filter_map(|needed| {
            short(format!("server `{}` is estimated to need", needed.server), needed.host_bytes())
        });
        let warnings: Vec<String> = each.collect();
        if !warnings.is_empty() {
            return warnings;
        }
        let together = self.servers.iter().fold(0_u64, |sum, needed| sum.saturating_add(needed.host_bytes()));
        short("the enabled servers are estimated to need".to_owned(), together).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(available: u64, needs: &[u64]) -> MemoryReport {
        let needed = |(index, bytes): (usize, &u64)| Needed {
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
