//! The compliance suite.

use llama_warden_component_kit::{compliance, fleet};
use llama_warden_detectors::PackSet;
use llama_warden_readiness::Readiness;
use tokio::sync::watch;

#[tokio::test(start_paused = true)]
async fn readiness_complies() {
    let fleet = fleet("[[servers]]\nid = \"a\"\nmodel = \"/m.gguf\"");
    let packs = PackSet::built_in();
    compliance::check(|bus| Readiness::new(watch::channel(fleet.clone()).1, packs.clone(), bus.lane())).await;
}
