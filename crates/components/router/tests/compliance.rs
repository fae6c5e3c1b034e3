//! The compliance suite.

use llama_warden_component_kit::compliance;
use llama_warden_router::{Router, RouterClients, RouterListener};

/// With `listen = ""`; one that listens is tested beside its component.
#[tokio::test(start_paused = true)]
async fn router_complies() {
    compliance::check(|bus| {
        let context = bus.context("[[servers]]\nid = \"a\"\nmodel = \"/m.gguf\"");
        let listener = RouterListener::bind(context.config().router()).expect("off");
        Router::build(&context, listener, RouterClients::default(), None)
    })
    .await;
}
