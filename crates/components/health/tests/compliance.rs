//! The compliance suite.

use llama_warden_component_kit::compliance;
use llama_warden_health::Health;

#[tokio::test(start_paused = true)]
async fn health_complies() {
    compliance::check(|bus| Health::build(&bus.context("[[servers]]\nid = \"a\"\nmodel = \"/m.gguf\""))).await;
}
