//! The dashboard as files: who gets them, and what they may do. What the page does in a browser is tested end to end.

use llama_warden_stand_in::Script;
use llama_warden_tests::{Sandbox, TestDaemon, TestRequest, sandbox};

async fn with_token(sandbox: &Sandbox) -> TestDaemon {
    let mut fleet = sandbox.fleet();
    std::fs::write(sandbox.file("token"), "s3cret\n").unwrap();
    fleet.daemon(&format!("token-file = \"{}\"", sandbox.file("token").display())).server("a", Script::default());
    let daemon = sandbox.up(&fleet).await;
    daemon.ready("a").await;
    daemon
}

#[test]
fn the_page_needs_no_token_and_carries_no_data() {
    sandbox(async |sandbox| {
        let daemon = with_token(sandbox).await;
        let page = TestRequest::get("/").send(daemon.http()).await.unwrap().expect(200);
        assert!(page.headers["content-type"].to_str().unwrap().starts_with("text/html"));
        assert!(page.headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'self'"));
        let text = page.text();
        let loaded: Vec<_> = text.split('"').filter(|part| part.starts_with("dashboard/")).collect();
        assert!(loaded.len() > 8, "{loaded:?}");
        for path in loaded {
            TestRequest::get(format!("/{path}")).send(daemon.http()).await.unwrap().expect(200);
        }
        for path in ["/api/v1/status", "/api/v1/memory", "/dashboard/other.js"] {
            TestRequest::get(path).send(daemon.http()).await.unwrap().expect(401);
        }
        let foreign = TestRequest::get("/").header("host", "evil.example");
        foreign.send(daemon.http()).await.unwrap().expect(403);
    });
}

#[test]
fn a_browser_keeps_the_files_and_no_answer_of_the_api() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        let first = TestRequest::get("/dashboard/main.js").send(daemon.http()).await.unwrap().expect(200);
        assert_eq!(first.headers["cache-control"], "no-cache");
        let etag = first.headers["etag"].to_str().unwrap();
        let again = TestRequest::get("/dashboard/main.js").header("if-none-match", etag);
        assert_eq!(again.send(daemon.http()).await.unwrap().expect(304).text(), "");
        let status = TestRequest::get("/api/v1/status").send(daemon.http()).await.unwrap().expect(200);
        assert_eq!(status.headers["cache-control"], "no-store");
    });
}

#[test]
fn a_dashboard_that_is_switched_off_is_no_path() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.daemon("dashboard = false").server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        for path in ["/", "/dashboard/main.js"] {
            TestRequest::get(path).send(daemon.http()).await.unwrap().expect(404);
        }
        TestRequest::get("/api/v1/status").send(daemon.http()).await.unwrap().expect(200);
    });
}

#[test]
fn the_memory_of_the_machine_and_of_each_running_server_is_reported() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default()).server_with("off", Script::default(), "enabled = false");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let memory = daemon.get("/api/v1/memory").await.expect(200).json();
        let [total, available] = ["total_bytes", "available_bytes"].map(|key| memory["host"][key].as_u64().unwrap());
        assert!(available > 0 && available <= total, "{memory}");
        assert!(memory["servers"]["a"].as_u64().is_some_and(|bytes| bytes > 0), "{memory}");
        assert!(memory["servers"]["off"].is_null(), "{memory}");
    });
}

#[test]
fn the_status_says_what_a_table_of_servers_needs() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let status = daemon.status().await;
        let server = &status.servers[0];
        assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
        assert_eq!(server.base_url, format!("http://127.0.0.1:{}", fleet.port("a")));
        assert_eq!(server.model, Some(fleet.model("a")));
        assert_eq!(server.usual_startup_seconds.map(|usual| usual > 0.0), Some(true));
        assert!(server.memory.is_some_and(|memory| memory.weights_bytes > 0));
    });
}
