//! A daemon whose router relays to stand-ins.

use llama_warden_stand_in::Script;

use crate::{Endpoint, Port, Sandbox, TestDaemon, TestRequest, TestResponse, WAIT_LIMIT, eventually, sample};

/// A daemon with a router.
#[derive(Debug)]
pub struct RoutedDaemon {
    /// The daemon.
    pub daemon: TestDaemon,
    router: Port,
}

impl RoutedDaemon {
    /// Starts one with further keys of `[router]` and these servers: their ids, scripts and further keys.
    pub async fn up(sandbox: &Sandbox, keys: &str, servers: &[(&str, Script, &str)]) -> Self {
        Self::up_at(sandbox, "127.0.0.1", keys, servers).await
    }

    /// Starts one whose router listens at another host.
    pub async fn up_at(sandbox: &Sandbox, host: &str, keys: &str, servers: &[(&str, Script, &str)]) -> Self {
        let router = Port::lease();
        let mut fleet = sandbox.fleet();
        fleet.section(&format!("[router]\nlisten = \"{host}:{}\"\n{keys}", router.number()));
        for (id, script, keys) in servers {
            fleet.server_with(id, script.clone(), keys);
        }
        Self { daemon: sandbox.up(&fleet).await, router }
    }

    /// The port of its router.
    pub fn port(&self) -> u16 {
        self.router.number()
    }

    /// Sends a request to the router.
    ///
    /// # Panics
    /// If there is no answer.
    pub async fn send(&self, request: TestRequest) -> TestResponse {
        request.send(&Endpoint::Tcp(self.port())).await.expect("the router answers")
    }

    /// A number of the router's metrics.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let metrics = self.daemon.metrics().await;
        sample(&metrics, &format!("llama_warden_router_{name}"), labels).unwrap_or_default()
    }

    /// Waits until the metrics say that so many requests of a server are in flight, wait and are detached.
    pub async fn counts(&self, server: &str, expected: [f64; 3]) {
        let labels = [("server", server)];
        eventually(&format!("{expected:?} of {server} in flight, waiting, detached"), WAIT_LIMIT, async || {
            let mut found = [0.0; 3];
            for (place, name) in ["requests_in_flight", "requests_waiting", "requests_detached"].iter().enumerate() {
                found[place] = self.metric(name, &labels).await;
            }
            found == expected
        })
        .await;
    }

    /// Waits until nothing is in flight, nobody waits, and no body of a request is held.
    pub async fn is_idle(&self, server: &str) {
        self.counts(server, [0.0; 3]).await;
        eventually("no body is held", WAIT_LIMIT, async || self.metric("body_bytes", &[]).await == 0.0).await;
        let running = self.send(TestRequest::get("/running")).await.expect(200).json();
        let of_server = running["running"].as_array().into_iter().flatten().find(|entry| entry["model"] == server);
        let at_gate = of_server.map_or(0, |entry| {
            entry["in_flight"].as_u64().unwrap_or_default() + entry["waiting"].as_u64().unwrap_or_default()
        });
        assert_eq!(at_gate, 0, "{running}");
    }
}
