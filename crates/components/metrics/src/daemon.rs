//! The families about the daemon: its build, its profiles, its bus, its process.

use std::collections::{BTreeMap, BTreeSet};

use llama_warden_events::Event;
use llama_warden_procfs::{ProcessStat, descriptor_limit, open_descriptors};
use llama_warden_state::Snapshot;

use crate::catalogue::{
    BUILD_INFO, BUS_ANOMALIES, BUS_EVENTS, BUS_FACTS, BUS_GAPS, EXTENSION_EVENTS, GUARDIAN_RESTARTS, PROCESS_CPU,
    PROCESS_MAX_FDS, PROCESS_OPEN_FDS, PROCESS_RESIDENT_MEMORY, PROCESS_START_TIME, PROCESS_THREADS,
    PROCESS_VIRTUAL_MEMORY, PROFILE_ACTIVE,
};
use crate::collected::Collected;

/// Adds what is built in and what is configured.
pub(crate) fn add_build(page: &mut Collected, version: &str) {
    page.value(&BUILD_INFO, &[version, std::env::consts::ARCH], 1.0);
}

/// Adds every configured profile and the active one, which a reload may have taken out of the configuration.
pub(crate) fn add_profiles(page: &mut Collected, snapshot: &Snapshot) {
    let active = snapshot.daemon.profile.as_ref();
    let known: BTreeSet<&String> = snapshot.daemon.profiles.iter().map(|profile| &profile.name).chain(active).collect();
    for profile in known {
        page.value(&PROFILE_ACTIVE, &[profile], (Some(profile) == active).into());
    }
}

/// Adds the counters of the bus.
pub(crate) fn add_bus(page: &mut Collected, snapshot: &Snapshot, gaps: &BTreeMap<&'static str, u64>) {
    for kind in Event::KINDS {
        let count = snapshot.events.get(kind).copied().unwrap_or_default() as f64;
        page.value(&BUS_EVENTS, &[kind], count);
        page.value(&BUS_FACTS, &[kind], count);
    }
    for (subscriber, count) in gaps {
        page.value(&BUS_GAPS, &[subscriber], *count as f64);
    }
    for (source, kind, count) in snapshot.extensions.iter() {
        page.value(&EXTENSION_EVENTS, &[source, kind], count as f64);
    }
    page.value(&BUS_ANOMALIES, &[], snapshot.anomalies as f64);
    page.value(&GUARDIAN_RESTARTS, &[], snapshot.daemon.guardian.map_or(0, |guardian| guardian.restarts) as f64);
}

/// Adds the daemon's own process, by the standard names. What cannot be read has no series.
pub(crate) fn add_process(page: &mut Collected) {
    if let Some(stat) = ProcessStat::of_self() {
        page.value(&PROCESS_CPU, &[], stat.cpu_seconds());
        page.value(&PROCESS_VIRTUAL_MEMORY, &[], stat.virtual_bytes as f64);
        page.value(&PROCESS_RESIDENT_MEMORY, &[], stat.resident_bytes() as f64);
        page.value(&PROCESS_THREADS, &[], stat.threads as f64);
        if let Some(start) = stat.start_time_seconds() {
            page.value(&PROCESS_START_TIME, &[], start);
        }
    }
    if let Some(open) = open_descriptors() {
        page.value(&PROCESS_OPEN_FDS, &[], open as f64);
    }
    if let Some(limit) = descriptor_limit() {
        page.value(&PROCESS_MAX_FDS, &[], limit as f64);
    }
}
