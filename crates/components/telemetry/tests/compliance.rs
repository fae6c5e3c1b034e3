//! The compliance suite.

use llama_warden_component_kit::compliance;
use llama_warden_telemetry::Telemetry;

#[tokio::test(start_paused = true)]
async fn telemetry_complies() {
    compliance::check(|bus| Telemetry::build(&bus.context(""), None, None)).await;
}
