//! The compliance suite.

use llama_warden_canary::Canaries;
use llama_warden_component_kit::compliance;

#[tokio::test(start_paused = true)]
async fn the_canaries_comply() {
    compliance::check(|bus| Canaries::build(&bus.context("[[servers]]\nid = \"a\"\nmodel = \"/m.gguf\""))).await;
}
