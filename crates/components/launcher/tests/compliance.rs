//! The compliance suite.

use llama_warden_component_kit::{compliance, fleet};
use llama_warden_dialects::DialectSet;
use llama_warden_events::BootId;
use llama_warden_launcher::{GuardianProgram, Launcher, LauncherSettings, Spawner};
use tokio::sync::watch;

#[tokio::test(start_paused = true)]
async fn the_launcher_complies() {
    let fleet = fleet("[[servers]]\nid = \"a\"\nmodel = \"/m.gguf\"");
    compliance::check(|bus| {
        let settings = LauncherSettings {
            boot: BootId::from_random(1),
            // This executable would run its tests. One that reads its input to the end does for a guardian that makes nothing.
            spawner: Spawner::start(GuardianProgram::Path("/bin/cat".into())).expect("starts"),
            outlive: false,
            bus: bus.bus().clone(),
            environment: Vec::new(),
            dialects: DialectSet::built_in(),
            dialects_dir: None,
            state_dir: None,
        };
        Launcher::new(watch::channel(fleet.clone()).1, bus.lane().clone(), settings)
    })
    .await;
}
