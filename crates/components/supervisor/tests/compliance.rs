//! The compliance suite.

use std::sync::Arc;
use std::time::Duration;

use llama_warden_component_kit::{compliance, fleet};
use llama_warden_config::AdmissionPolicy;
use llama_warden_events::{RefusalReason, Refused};
use llama_warden_memory::SystemMemoryProbe;
use llama_warden_supervisor::{RoutingPolicy, Supervisor, SupervisorLimits, SupervisorSettings};
use tokio::sync::watch;

#[tokio::test(start_paused = true)]
async fn the_supervisor_complies() {
    // Not enabled: the launches of the suite are none of those that the supervisor asks for.
    let fleet = fleet("[[servers]]\nid = \"a\"\nmodel = \"/m.gguf\"\nenabled = false");
    compliance::check(|_| {
        Supervisor::new(SupervisorSettings {
            fleet: watch::channel(fleet.clone()).0,
            profiles: Vec::new(),
            source: Arc::new(|_| Err(Refused::new(RefusalReason::InvalidConfiguration, "a test has no files"))),
            limits: SupervisorLimits {
                shutdown: Duration::from_secs(1),
                starts: None,
                memory: AdmissionPolicy::Off,
                routing: RoutingPolicy::default(),
            },
            router: None,
            seed: 1,
            adopted: Vec::new(),
            totals: Default::default(),
            memory_probe: Arc::new(SystemMemoryProbe::new()),
            state_dir: None,
        })
    })
    .await;
}
