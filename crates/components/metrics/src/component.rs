//! The exporter as a component: it owns its view of the bus and answers its own route.

use std::sync::Arc;

use llama_warden_api_types::ExtraRoute;
use llama_warden_bus::BusClosed;
use llama_warden_component::{Component, Context, Ports};
use llama_warden_events::NoCommand;
use llama_warden_traffic::RouterTraffic;

use crate::route::MetricsHandler;
use crate::{Exemplars, Exporter, METRICS_ROUTE, ServerScraper};

/// Exports the snapshot as Prometheus metrics.
#[derive(Debug)]
pub struct Metrics {
    handler: MetricsHandler,
}

impl Metrics {
    /// Exports with what the router counts, where it is on, for this version of llama-warden.
    ///
    /// # Errors
    /// Only if [`catalogue()`](crate::catalogue()) and the `prometheus` crate disagree on what a valid family is.
    pub fn build(
        context: &Context,
        version: &str,
        exemplars: Exemplars,
        traffic: Option<Arc<RouterTraffic>>,
    ) -> Result<Self, prometheus::Error> {
        let exporter = Exporter::new(context.bus().clone(), context.lane().clone(), version)?;
        let exporter = exporter.with_exemplars(exemplars).with_traffic(traffic);
        let scraper = ServerScraper::new(context.bus().clone(), context.fleet());
        let servers_by_default = context.config().metrics().servers;
        Ok(Self { handler: MetricsHandler { exporter, scraper, servers_by_default } })
    }

    /// The route `/metrics`, for the component that serves HTTP.
    pub fn route(&self) -> ExtraRoute {
        ExtraRoute::new(&METRICS_ROUTE, self.handler.clone())
    }
}

impl Component for Metrics {
    const NAME: &'static str = "metrics";
    type Command = NoCommand;
    type Error = BusClosed;

    /// Scrapes are answered through the route. Nothing happens between them: the snapshot has every counter, so events need not be
    /// read here.
    async fn run(self, ports: Ports<NoCommand>) -> Result<(), BusClosed> {
        ports.cancel.cancelled().await;
        Ok(())
    }
}
