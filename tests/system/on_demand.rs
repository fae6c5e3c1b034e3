//! Servers that requests start, and that make room for one another: the router and the supervisor together.

use std::pin::pin;

use llama_warden_events::{Event, StopReason};
use llama_warden_stand_in::Script;
use llama_warden_state::PhaseName;
use llama_warden_tests::{
    Endpoint, Sandbox, TestDaemon, TestFleet, TestRequest, TestResponse, WAIT_LIMIT, eventually, sandbox,
};

/// Two servers of which one may run, and where the router listens.
fn room_for_one(sandbox: &Sandbox, keys: &str, script: &Script) -> (TestFleet, Endpoint) {
    let router = sandbox.file("router.sock");
    let mut fleet = sandbox.fleet();
    fleet.section(&format!("[router]\nlisten = '{}'\nmax-loaded = 1\n{keys}", router.display()));
    for id in ["a", "b"] {
        fleet.server_with(id, script.clone(), "enabled = false");
    }
    (fleet, Endpoint::Unix(router))
}

async fn ask(router: &Endpoint, model: &str, tokens: u32) -> TestResponse {
    let body = format!(r#"{{"model": "{model}", "messages": [], "max_tokens": {tokens}, "n_predict": {tokens}}}"#);
    let request = TestRequest::post("/v1/chat/completions").header("content-type", "application/json").body(body);
    request.send(router).await.expect("the router answers")
}

/// What the router has of a server that runs, such as its requests `in_flight` or `waiting`.
async fn standing(router: &Endpoint, model: &str, what: &str) -> u64 {
    let running = TestRequest::get("/running").send(router).await.expect("the router answers").expect(200).json();
    let of_model = running["running"].as_array().into_iter().flatten().find(|entry| entry["model"] == model);
    of_model.and_then(|entry| entry[what].as_u64()).unwrap_or_default()
}

/// Waits until the router has this many requests of a server at work.
async fn at_work(router: &Endpoint, model: &str, count: u64) {
    let is_so = async || standing(router, model, "in_flight").await == count;
    eventually("requests are at work", WAIT_LIMIT, is_so).await;
}

async fn phase(daemon: &TestDaemon, id: &str) -> PhaseName {
    daemon.report(id).await.phase
}

#[test]
fn a_request_starts_its_server_and_the_idle_one_makes_room() {
    sandbox(async |sandbox| {
        let (fleet, router) = room_for_one(sandbox, "", &Script::default());
        let daemon = sandbox.up(&fleet).await;
        ask(&router, "a", 1).await.expect(200);
        ask(&router, "b", 1).await.expect(200);
        assert_eq!(phase(&daemon, "b").await, PhaseName::Ready);
        let report = daemon.report("a").await;
        assert_eq!((report.phase, report.is_unloaded), (PhaseName::Exited, true));
        daemon.get("/readyz").await.expect(200);
        let stops = daemon.events_of("a").await.into_iter().filter_map(|event| match event.event {
            Event::StopBegan { reason, .. } => Some(reason),
            _ => None,
        });
        assert_eq!(stops.collect::<Vec<_>>(), [StopReason::Evicted]);
    });
}

#[test]
fn an_answer_outlives_the_eviction_of_its_server() {
    sandbox(async |sandbox| {
        let script = Script { token_ms: 20, ..Script::default() };
        let (fleet, router) = room_for_one(sandbox, "evict-busy-after = '100ms'", &script);
        let daemon = sandbox.up(&fleet).await;
        let (long, other) = tokio::join!(ask(&router, "a", 400), async {
            at_work(&router, "a", 1).await;
            ask(&router, "b", 1).await
        });
        long.expect(200);
        other.expect(200);
        let events = daemon.events_of("a").await;
        let stops = events.iter().filter(|event| matches!(event.event, Event::StopBegan { .. })).count();
        assert_eq!((stops, daemon.count("a", "LaunchBegan").await), (1, 1));
    });
}

#[test]
fn a_comment_in_the_file_stops_no_server_that_a_request_started() {
    sandbox(async |sandbox| {
        let (mut fleet, router) = room_for_one(sandbox, "", &Script::default());
        let daemon = sandbox.up(&fleet).await;
        ask(&router, "a", 1).await.expect(200);
        let before = daemon.report("a").await.pid;
        fleet.section("# a comment").write();
        daemon.post("/api/v1/reload?wait=20s").await.expect(200);
        assert_eq!((phase(&daemon, "a").await, daemon.report("a").await.pid), (PhaseName::Ready, before));
    });
}

#[test]
fn an_unused_server_is_stopped_after_its_ttl_and_comes_back_for_a_request() {
    sandbox(async |sandbox| {
        let (fleet, router) = room_for_one(sandbox, "ttl = '1s'", &Script::default());
        let daemon = sandbox.up(&fleet).await;
        ask(&router, "a", 1).await.expect(200);
        let is_idle = |event: &Event| matches!(event, Event::StopBegan { reason: StopReason::Idle, .. });
        daemon.event("nobody uses it", |event| is_idle(&event.event)).await;
        daemon.exited("a").await;
        daemon.get("/readyz").await.expect(200);
        ask(&router, "a", 1).await.expect(200);
    });
}

#[test]
fn a_request_for_a_server_that_a_person_stopped_is_answered_at_once_and_starts_nothing() {
    sandbox(async |sandbox| {
        let (fleet, router) = room_for_one(sandbox, "", &Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.command("a", "start?wait=20s").await.expect(200);
        daemon.command("a", "stop?wait=20s").await.expect(200);
        let refused = ask(&router, "a", 1).await.expect(503);
        assert_eq!(refused.json()["error"]["code"], "server_stopped");
        assert_eq!(daemon.count("a", "LaunchBegan").await, 1);
    });
}

#[test]
fn a_stop_by_hand_tells_those_that_wait_and_leaves_the_one_at_work_its_answer() {
    sandbox(async |sandbox| {
        let script = Script { token_ms: 50, ..Script::default() };
        let (fleet, router) = room_for_one(sandbox, "concurrency = 1", &script);
        let daemon = sandbox.up(&fleet).await;
        let (at_work_first, waiting, ()) = tokio::join!(
            ask(&router, "a", 40),
            async {
                at_work(&router, "a", 1).await;
                ask(&router, "a", 1).await
            },
            async {
                at_work(&router, "a", 1).await;
                eventually("the other one waits", WAIT_LIMIT, async || standing(&router, "a", "waiting").await == 1)
                    .await;
                daemon.command("a", "stop").await.expect(202);
            }
        );
        at_work_first.expect(200);
        let waiting = waiting.expect(503);
        assert_eq!(waiting.json()["error"]["code"], "server_stopped");
        assert_eq!(waiting.headers["x-should-retry"], "false");
        assert_eq!(daemon.count("a", "LaunchBegan").await, 1);
    });
}

#[test]
fn a_request_waits_through_a_stop_that_a_start_follows() {
    sandbox(async |sandbox| {
        let script = Script { token_ms: 20, ..Script::default() };
        let (fleet, router) = room_for_one(sandbox, "", &script);
        let daemon = sandbox.up(&fleet).await;
        let (long, later) = tokio::join!(ask(&router, "a", 100), async {
            at_work(&router, "a", 1).await;
            // It leaves the request in flight its time, so the start comes before the first signal.
            daemon.command("a", "stop").await.expect(202);
            daemon.command("a", "start").await.expect(202);
            loop {
                let waits = eventually("it waits", WAIT_LIMIT, async || standing(&router, "a", "waiting").await == 1);
                let mut later = pin!(ask(&router, "a", 1));
                tokio::select! {
                    () = waits => break later.await,
                    // One that is quicker than the news of the stop is answered by the launch that stops.
                    early = &mut later => early.expect(200),
                };
            }
        });
        long.expect(200);
        later.expect(200);
        assert_eq!(daemon.count("a", "LaunchBegan").await, 2);
    });
}
