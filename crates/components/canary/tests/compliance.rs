//! The compliance suite.

use llama_warden_canary::Canaries;
use llama_warden_component_kit::{compliance, fleet};
use tokio::sync::watch;

#[tokio::test(start_paused = true)]
async fn the_canaries_comply() {
    let fleet = fleet("[[servers]]\nid = \"a\"\nmodel = \"/m.gguf\"");
    compliance::check(|bus| Canaries::new(bus.bus().clone(), watch::channel(fleet.clone()).1, bus.lane().clone()))
        .await;
}
