//! The compliance suite.

use llama_warden_component_kit::compliance;
use llama_warden_event_log::EventLog;

#[tokio::test(start_paused = true)]
async fn the_event_log_complies() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    compliance::check(|_| EventLog::new(folder.path(), 1 << 20)).await;
}
