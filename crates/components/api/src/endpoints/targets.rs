//! Targets for Prometheus' `http_sd_config`: the ready servers that serve metrics of their own.
//!
//! While the daemon starts, the answer is 503: Prometheus keeps its list unless it gets a 200, so no target vanishes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use axum::routing::on;
use http::uri::Authority;
use http::{HeaderMap, StatusCode, header};
use llama_warden_api_types::{Access, ApiProblem, TargetGroup};
use llama_warden_events::ServerId;
use llama_warden_state::{DaemonPhase, ServerRecord, Snapshot};

use crate::app::{App, json};
use crate::endpoints::peers::AllQuery;
use crate::problem::ProblemResponse;
use crate::query::{StrictQuery, query_schema};
use crate::route::{PROBLEM_BODY, Route, answer, json_body};
use llama_warden_http_server::{Transport, is_loopback};

pub(super) const TARGETS: Route = Route {
    access: Access::Open,
    query: Some(query_schema::<AllQuery>),
    summary: "Targets for Prometheus' http_sd_config: the ready servers that serve --metrics",
    answers: &[
        answer(200, "Always the full list of those that the client can reach.", &[json_body::<Vec<TargetGroup>>()]),
        answer(503, "The daemon is starting.", &[PROBLEM_BODY]),
    ],
    ..Route::get("getTargets", "/api/v1/sd", |method| on(method, targets))
};

async fn targets(
    State(app): State<App>,
    Extension(transport): Extension<Transport>,
    headers: HeaderMap,
    StrictQuery(query): StrictQuery<AllQuery>,
) -> Result<Response, ProblemResponse> {
    let snapshot = app.bus.snapshot();
    if snapshot.daemon.phase == DaemonPhase::Starting {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let problem = ApiProblem::new(status, "not-ready", "starting", "the daemon is starting");
        return Err(problem.next_step("ask again in a second").into());
    }
    let named = headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse().ok());
    let asker = TargetCaller { address: transport.reached_from_afar(), named };
    let mut found = groups(&snapshot, &asker);
    if query.all.is_on() {
        let peers = app.peers.targets().await;
        found.extend(peers.into_iter().flat_map(|peer| peer.groups).filter_map(|group| asker.narrowed(group)));
    }
    Ok(json(StatusCode::OK, &found))
}

/// How the client reached the daemon, which decides what else it can reach.
struct TargetCaller {
    /// The address under which another machine reached the daemon; `None` for a client on this machine.
    address: Option<IpAddr>,
    /// The `Host` header.
    named: Option<Authority>,
}

impl TargetCaller {
    /// The host under which this client can reach a server; `None` if it cannot.
    ///
    /// A server that listens on every address is reached under the host that the client used for the daemon. A loopback address is
    /// the client's own: another machine would scrape itself.
    fn reaches(&self, host: &str) -> Option<String> {
        let bare = host.trim_matches(['[', ']']);
        let can_have = |host: &str| self.address.is_none() || !is_loopback(host);
        match bare.parse::<IpAddr>() {
            _ if bare.ends_with(".sock") || !can_have(bare) => None,
            Ok(address) if address.is_unspecified() => {
                let named =
                    self.named.as_ref().map(Authority::host).filter(|host| can_have(host.trim_matches(['[', ']'])));
                let own = self.address.unwrap_or(Ipv4Addr::LOCALHOST.into());
                Some(named.map_or_else(|| url_host(own), str::to_owned))
            }
            Ok(address) => Some(url_host(address)),
            Err(_) => Some(bare.to_owned()),
        }
    }
}

impl TargetCaller {
    /// The targets of a peer that this client can reach: a loopback address among them is one of this machine.
    fn narrowed(&self, mut group: TargetGroup) -> Option<TargetGroup> {
        let can_reach = |target: &String| {
            let host = target.parse::<Authority>().ok();
            host.is_some_and(|host| self.reaches(host.host()).is_some())
        };
        group.targets.retain(can_reach);
        (!group.targets.is_empty()).then_some(group)
    }
}

fn url_host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// The targets of a snapshot that `asker` can reach, one group per server.
fn groups(snapshot: &Snapshot, asker: &TargetCaller) -> Vec<TargetGroup> {
    let ready = snapshot.servers.iter().filter(|(id, server)| server.is_ready() && !id.is_canary());
    ready.filter_map(|(id, server)| group(id, server, asker)).collect()
}

fn group(id: &ServerId, server: &ServerRecord, asker: &TargetCaller) -> Option<TargetGroup> {
    let option = |name: &str| server.argv.option(name);
    if !server.argv.iter().any(|argument| argument == "--metrics") {
        return None;
    }
    let process = server.process.as_ref()?;
    // Newer builds take a list of hosts.
    let host = server.card.host.split(',').find_map(|host| asker.reaches(host.trim()))?;
    let model = server.card.model.as_deref().and_then(|model| model.file_name()).unwrap_or_default();
    let mut labels = BTreeMap::from([
        ("server", id.to_string()),
        ("__meta_llama_warden_server", id.to_string()),
        ("__meta_llama_warden_model", model.to_string_lossy().into_owned()),
        ("__meta_llama_warden_tier", server.card.tier.clone().unwrap_or_default()),
        ("__meta_llama_warden_display_name", server.card.display_name.clone()),
    ]);
    if let Some(prefix) = option("--api-prefix") {
        labels.insert("__metrics_path__", format!("{}/metrics", prefix.trim_end_matches('/')));
    }
    if option("--ssl-cert-file").is_some() {
        labels.insert("__scheme__", "https".to_owned());
    }
    let labels = labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Some(TargetGroup { targets: vec![format!("{host}:{}", process.port)], labels })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(address: Option<[u8; 4]>, named: &str) -> TargetCaller {
        TargetCaller { address: address.map(IpAddr::from), named: named.parse().ok() }
    }

    #[test]
    fn a_server_on_every_address_is_reached_as_the_daemon_is() {
        for (host, named, expected) in [
            ("127.0.0.1", "box:9888", Some("127.0.0.1")),
            ("localhost", "box:9888", Some("localhost")),
            ("gpu.lan", "", Some("gpu.lan")),
            ("::1", "", Some("[::1]")),
            ("[::1]", "", Some("[::1]")),
            ("0.0.0.0", "box:9888", Some("box")),
            ("::", "[fd00::1]:9888", Some("[fd00::1]")),
            ("0.0.0.0", "a b", Some("127.0.0.1")),
            ("0.0.0.0", "", Some("127.0.0.1")),
            ("/run/a.sock", "box", None),
        ] {
            assert_eq!(asker(None, named).reaches(host).as_deref(), expected, "{host} {named}");
        }
    }

    #[test]
    fn a_loopback_server_is_no_target_of_another_machine() {
        let own = Some([10, 0, 0, 1]);
        for (host, named, expected) in [
            ("127.0.0.1", "box:9888", None),
            ("127.8.8.8", "box:9888", None),
            ("localhost", "box:9888", None),
            ("::1", "box:9888", None),
            ("[::1]", "box:9888", None),
            ("gpu.lan", "box:9888", Some("gpu.lan")),
            ("10.0.0.1", "box:9888", Some("10.0.0.1")),
            ("0.0.0.0", "box:9888", Some("box")),
            ("0.0.0.0", "", Some("10.0.0.1")),
            ("0.0.0.0", "localhost:9888", Some("10.0.0.1")),
            ("/run/a.sock", "box", None),
        ] {
            assert_eq!(asker(own, named).reaches(host).as_deref(), expected, "{host} {named}");
        }
    }
}
