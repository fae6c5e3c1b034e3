//! The compliance suite.

use llama_warden_component_kit::compliance;
use llama_warden_hooks::Hooks;
use llama_warden_processes::spawn_request::GuardianProgram;
use llama_warden_processes::spawner::Spawner;

#[tokio::test(start_paused = true)]
async fn hooks_comply() {
    let hooks = "hooks = { post-ready = [\"/bin/true\"], post-exit = [\"/bin/true\"] }";
    let text = format!("[[servers]]\nid = \"a\"\nmodel = \"/m.gguf\"\n{hooks}");
    compliance::check(|bus| {
        // This executable would run its tests. One that reads its input to the end does for a guardian that makes nothing.
        let spawner = Spawner::start(GuardianProgram::Path("/bin/cat".into())).expect("starts");
        Hooks::build(&bus.context(&text), spawner)
    })
    .await;
}
