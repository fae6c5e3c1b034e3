//! The compliance suite.

use llama_warden_component_kit::{compliance, fleet};
use llama_warden_health::Health;
use tokio::sync::watch;

#[tokio::test(start_paused = true)]
async fn health_complies() {
    let fleet = fleet("[[servers]]\nid = \"a\"\nmodel = \"/m.gguf\"");
    compliance::check(|bus| Health::new(watch::channel(fleet.clone()).1, bus.lane().clone())).await;
}
