//! The compliance suite.

use llama_warden_component_kit::{compliance, fleet};
use llama_warden_hooks::Hooks;
use tokio::sync::watch;

#[tokio::test(start_paused = true)]
async fn hooks_comply() {
    let hooks = "hooks = { post-ready = [\"/bin/true\"], post-exit = [\"/bin/true\"] }";
    let fleet = fleet(&format!("[[servers]]\nid = \"a\"\nmodel = \"/m.gguf\"\n{hooks}"));
    compliance::check(|_| Hooks::new(watch::channel(fleet.clone()).1)).await;
}
