//! The compliance suite.

use llama_warden_component_kit::{TestBus, compliance};
use llama_warden_metrics::{Exemplars, Metrics};

#[tokio::test(start_paused = true)]
async fn metrics_comply() {
    let build = |bus: &TestBus| Metrics::build(&bus.context(""), "1.2.3", Exemplars::None, None);
    compliance::check(|bus| build(bus).expect("the catalogue is valid")).await;
}
