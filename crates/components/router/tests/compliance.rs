//! The compliance suite.

use llama_warden_component_kit::{compliance, fleet};
use llama_warden_config::{ConfigSource, Configuration, Environment};
use llama_warden_router::{Router, RouterListener};
use tokio::sync::watch;

/// With `listen = ""`; one that listens is tested beside its component.
#[tokio::test(start_paused = true)]
async fn router_complies() {
    let fleet = fleet("[[servers]]\nid = \"a\"\nmodel = \"/m.gguf\"");
    let configuration = Configuration::parse(&ConfigSource::none("/"), &Environment::default()).expect("valid");
    let settings = configuration.router();
    compliance::check(|bus| {
        let listener = RouterListener::bind(settings).expect("off");
        Router::new(settings.clone(), listener, watch::channel(fleet.clone()).1, bus.bus().clone())
    })
    .await;
}
