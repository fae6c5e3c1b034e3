//! The compliance suite for a router that listens, in the runtime of the test, so that time can be paused.

use llama_warden_component_kit::{compliance, fleet};
use llama_warden_config::{ConfigSource, Configuration, Environment};

use super::*;

/// Without a thread of its own.
#[derive(Debug)]
struct RouterInPlace(Router);

impl Component for RouterInPlace {
    const NAME: &'static str = Router::NAME;
    const SENDS: &'static [CommandSetId] = Router::SENDS;
    type Command = RouteCommand;
    type Error = RouterFailed;

    async fn run(mut self, ports: Ports<RouteCommand>) -> Result<(), RouterFailed> {
        let place = self.0.listener.take_place().expect("it listens");
        self.0.run_at(place, ports).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_router_that_listens_complies() {
    let source = ConfigSource::text("/", "[router]\nlisten = \"127.0.0.1:0\"");
    let settings = Configuration::parse(&source, &Environment::default()).expect("valid").router().clone();
    compliance::check(|bus| {
        let listener = RouterListener::bind(&settings).expect("a free port");
        let servers = fleet("[[servers]]\nid = \"a\"\nmodel = \"/m.gguf\"");
        RouterInPlace(Router::new(settings.clone(), listener, watch::channel(servers).1, bus.bus().clone()))
    })
    .await;
}
