//! Who makes room for whom, as the settings of `[router]` say it: what a request evicts, and what it never does.

use llama_warden_events::{Event, EvictionCause};
use llama_warden_stand_in::Script;
use llama_warden_state::PhaseName;
use llama_warden_tests::{RoutedDaemon, Sandbox, TestRequest, TestResponse, WAIT_LIMIT, eventually, sandbox};

/// A daemon with these keys of `[router]`, whose servers start for requests. Each has further keys.
async fn routed(sandbox: &Sandbox, keys: &str, servers: &[(&str, &str)]) -> RoutedDaemon {
    let script = Script { token_ms: 1, ..Script::default() };
    let servers: Vec<_> =
        servers.iter().map(|(id, keys)| (*id, script.clone(), format!("enabled = false\n{keys}"))).collect();
    let servers: Vec<_> = servers.iter().map(|(id, script, keys)| (*id, script.clone(), keys.as_str())).collect();
    RoutedDaemon::up(sandbox, keys, &servers).await
}

async fn ask(routed: &RoutedDaemon, model: &str) -> TestResponse {
    let body = format!(r#"{{"model": "{model}", "messages": [], "max_tokens": 1}}"#);
    routed.send(TestRequest::post("/v1/chat/completions").body(body)).await
}

async fn run(routed: &RoutedDaemon, models: &[&str]) {
    for model in models {
        ask(routed, model).await.expect(200);
    }
}

/// The servers that are ready, by name.
async fn ready(routed: &RoutedDaemon) -> Vec<String> {
    let servers = routed.daemon.status().await.servers;
    let ready = servers.into_iter().filter(|server| server.phase == PhaseName::Ready);
    ready.map(|server| server.model_id.to_string()).collect()
}

/// What went for a server, and why: one entry for each eviction.
async fn evicted_for(routed: &RoutedDaemon, target: &str) -> Vec<(Vec<String>, EvictionCause)> {
    let events = routed.daemon.events_of(target).await;
    let planned = events.into_iter().filter_map(|event| match event.event {
        Event::EvictionPlanned { victims, because } => {
            Some((victims.iter().map(ToString::to_string).collect(), because))
        }
        _ => None,
    });
    planned.collect()
}

#[test]
fn the_server_whose_eviction_costs_least_makes_room() {
    sandbox(async |sandbox| {
        // The dear one has been idle for longer.
        let servers = [("a", "router = { evict-cost = 1000 }"), ("b", ""), ("c", "")];
        let routed = routed(sandbox, "max-loaded = 2", &servers).await;
        run(&routed, &["a", "b"]).await;
        eventually("both may be evicted, since they have run for five seconds", WAIT_LIMIT, async || {
            let servers = routed.daemon.status().await.servers;
            servers.iter().filter(|server| server.uptime_seconds >= 6).count() == 2
        })
        .await;
        run(&routed, &["a", "b", "c"]).await;
        assert_eq!(ready(&routed).await, ["a", "c"]);
        assert_eq!(evicted_for(&routed, "c").await, [(vec!["b".to_owned()], EvictionCause::Count)]);
    });
}

#[test]
fn members_of_a_persistent_group_make_room_for_one_another_and_for_nobody_else() {
    sandbox(async |sandbox| {
        let keys = "max-loaded = 1\n[router.groups.always]\nservers = ['embed*']\npersistent = true";
        let routed = routed(sandbox, keys, &[("embed-1", ""), ("embed-2", ""), ("chat", "")]).await;
        run(&routed, &["chat", "embed-1"]).await;
        assert_eq!(evicted_for(&routed, "embed-1").await, [(vec!["chat".to_owned()], EvictionCause::Count)]);
        let refused = ask(&routed, "chat").await.expect(503);
        assert_eq!(refused.json()["error"]["code"], "server_failed");
        assert_eq!(refused.headers["x-should-retry"], "false", "{}", refused.text());
        assert_eq!(ready(&routed).await, ["embed-1"]);
        run(&routed, &["embed-2"]).await;
        assert_eq!(evicted_for(&routed, "embed-2").await, [(vec!["embed-1".to_owned()], EvictionCause::Count)]);
        assert_eq!((evicted_for(&routed, "chat").await, routed.daemon.count("chat", "LaunchBegan").await), (vec![], 1));
    });
}

#[test]
fn servers_run_together_as_the_combinations_allow() {
    sandbox(async |sandbox| {
        let keys = "combinations = [['small-*', 'embed'], ['embed', 'big']]";
        let routed = routed(sandbox, keys, &[("small-1", ""), ("small-2", ""), ("embed", ""), ("big", "")]).await;
        run(&routed, &["small-1", "embed", "small-2"]).await;
        assert_eq!(ready(&routed).await, ["embed", "small-1", "small-2"]);
        run(&routed, &["big"]).await;
        assert_eq!(ready(&routed).await, ["big", "embed"]);
        let small = vec!["small-1".to_owned(), "small-2".to_owned()];
        assert_eq!(evicted_for(&routed, "big").await, [(small, EvictionCause::Combination)]);
        run(&routed, &["small-1"]).await;
        assert_eq!(ready(&routed).await, ["embed", "small-1"]);
    });
}

#[test]
fn a_group_limits_its_members_and_an_exclusive_one_leaves_only_persistent_others() {
    sandbox(async |sandbox| {
        let keys = "[router.groups.gpu]\nservers = ['gpu-*']\nat-most = 1\n[router.groups.alone]\nservers = ['alone']\n\
                    exclusive = true\n[router.groups.always]\nservers = ['embed']\npersistent = true";
        let servers = [("gpu-1", ""), ("gpu-2", ""), ("free", ""), ("embed", ""), ("alone", "")];
        let routed = routed(sandbox, keys, &servers).await;
        run(&routed, &["gpu-1", "free", "embed", "gpu-2"]).await;
        assert_eq!(ready(&routed).await, ["embed", "free", "gpu-2"]);
        assert_eq!(evicted_for(&routed, "gpu-2").await, [(vec!["gpu-1".to_owned()], EvictionCause::Group)]);
        run(&routed, &["alone"]).await;
        assert_eq!(ready(&routed).await, ["alone", "embed"]);
        let others = vec!["free".to_owned(), "gpu-2".to_owned()];
        assert_eq!(evicted_for(&routed, "alone").await, [(others, EvictionCause::Group)]);
    });
}
