//! The compliance suite for a router that listens, in the runtime of the test, so that time can be paused.

use llama_warden_component_kit::compliance;

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
    compliance::check(|bus| {
        let router = "[router]\nlisten = \"127.0.0.1:0\"";
        let context = bus.context(&format!("[[servers]]\nid = \"a\"\nmodel = \"/m.gguf\"\n{router}"));
        let listener = RouterListener::bind(context.config().router()).expect("a free port");
        RouterInPlace(Router::build(&context, listener, RouterClients::default(), None))
    })
    .await;
}
