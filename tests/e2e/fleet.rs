//! Fleets of real servers.

use std::path::Path;

use llama_warden_tests::{Endpoint, Sandbox, TestDaemon, TestFleet, TestRequest};
use llama_warden_tiny_gguf::TinyModel;

/// A fleet whose servers run `llama_server`.
pub fn real_fleet(sandbox: &Sandbox, llama_server: &Path) -> TestFleet {
    let mut fleet = sandbox.fleet();
    fleet.binary(llama_server);
    fleet
}

/// Adds a server of a tiny model, with further keys as lines of TOML.
pub fn add(fleet: &mut TestFleet, id: &str, keys: &str) {
    let model = fleet.model(id);
    TinyModel::new(id).write(&model).expect("the sandbox can be written");
    fleet.server_of(id, &model, keys);
}

/// The ids of the servers of [`three`].
pub const THREE: [&str; 3] = ["a", "b", "c"];

/// A fleet of three small servers.
pub fn three(sandbox: &Sandbox, llama_server: &Path) -> TestFleet {
    let mut fleet = real_fleet(sandbox, llama_server);
    fleet.section(SMALL);
    for id in THREE {
        add(&mut fleet, id, "");
    }
    fleet
}

/// A daemon with a small server `a` that is ready, and one called `missing` that has failed, since its model is not there.
pub async fn one_ready_and_one_failed(sandbox: &Sandbox, llama_server: &Path) -> (TestFleet, TestDaemon) {
    let mut fleet = real_fleet(sandbox, llama_server);
    fleet.section(SMALL);
    add(&mut fleet, "a", "");
    fleet.server_of("missing", &sandbox.file("missing.gguf"), "");
    let daemon = sandbox.up(&fleet).await;
    daemon.ready("a").await;
    daemon.failure("missing").await;
    (fleet, daemon)
}

/// Flags of a small server, so that three of them fit on any machine.
pub const SMALL: &str = "[flags]\nctx-size = 512\nthreads = 1\nparallel = 1";

/// Requests a completion of eight tokens, and returns its text.
pub async fn complete(port: u16) -> String {
    let body = r#"{"prompt": "once upon a time", "n_predict": 8}"#;
    let request = TestRequest::post("/completion").header("content-type", "application/json").body(body);
    let answer = request.send(&Endpoint::Tcp(port)).await.expect("an answer").expect(200).json();
    answer["content"].as_str().expect("a text").to_owned()
}
