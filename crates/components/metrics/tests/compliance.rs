//! The compliance suite.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use llama_warden_component::{Context, Host, HostSettings};
use llama_warden_component_kit::{compliance, configuration};
use llama_warden_config::Fleet;
use llama_warden_events::BootId;
use llama_warden_metrics::{Exemplars, Metrics};
use tokio::sync::watch;

#[tokio::test(start_paused = true)]
async fn metrics_comply() {
    let (drain, cancel) = (Duration::from_secs(1), Duration::from_secs(1));
    let host = Host::new(HostSettings { boot: BootId::from_random(1), events_kept: 16, drain, cancel });
    let fleet = watch::channel(Fleet::default()).1;
    let context = Context::new(&host, Arc::new(configuration("")), fleet, PathBuf::from("/"));
    compliance::check(|_| Metrics::new(&context, "1.2.3", Exemplars::None).expect("the catalogue is valid")).await;
}
