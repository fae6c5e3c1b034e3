//! Targets for Prometheus' `http_sd_config`: the ready servers that serve metrics of their own.
//!
//! While the daemon starts, the answer is 503: Prometheus keeps its list unless it gets a 200, so no target vanishes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use axum::extract::State;
use axum::response::Response;
use axum::routing::on;
use http::uri::Authority;
use http::{HeaderMap, StatusCode, header};
use llama_warden_api_types::{Access, ApiProblem, TargetGroup};
use llama_warden_events::{ArgumentList, ServerId};
use llama_warden_state::{DaemonPhase, ServerRecord, Snapshot};

use crate::app::{App, json};
use crate::problem::ProblemResponse;
use crate::route::{PROBLEM_BODY, Route, answer, json_body};

pub(super) const TARGETS: Route = Route {
    access: Access::Open,
    summary: "Targets for Prometheus' http_sd_config: the ready servers that serve --metrics",
    answers: &[
        answer(200, "Always the full list.", &[json_body::<Vec<TargetGroup>>()]),
        answer(503, "The daemon is starting.", &[PROBLEM_BODY]),
    ],
    ..Route::get("getTargets", "/api/v1/sd", |method| on(method, targets))
};

async fn targets(State(app): State<App>, headers: HeaderMap) -> Result<Response, ProblemResponse> {
    let snapshot = app.bus.snapshot();
    if snapshot.daemon.phase == DaemonPhase::Starting {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let problem = ApiProblem::new(status, "not-ready", "starting", "the daemon is starting");
        return Err(problem.next_step("ask again in a second").into());
    }
    let requested_host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    Ok(json(StatusCode::OK, &groups(&snapshot, requested_host)))
}

/// The targets of a snapshot, one group per server. `requested_host` is the `Host` header of the request.
fn groups(snapshot: &Snapshot, requested_host: Option<&str>) -> Vec<TargetGroup> {
    let ready = snapshot.servers.iter().filter(|(_, server)| server.is_ready());
    ready.filter_map(|(id, server)| group(id, server, requested_host)).collect()
}

fn group(id: &ServerId, server: &ServerRecord, requested_host: Option<&str>) -> Option<TargetGroup> {
    let option = |name: &str| value_of(&server.argv, name);
    if !server.argv.iter().any(|argument| argument == "--metrics") {
        return None;
    }
    let process = server.process.as_ref()?;
    let host = reachable(&server.card.host, requested_host)?;
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

/// The value of an option, as its own argument or after `=`.
fn value_of<'a>(argv: &'a ArgumentList, name: &str) -> Option<&'a str> {
    let mut arguments = argv.iter();
    while let Some(argument) = arguments.next() {
        match argument.split_once('=') {
            None if argument == name => return arguments.next(),
            Some((option, value)) if option == name => return Some(value),
            _ => {}
        }
    }
    None
}

/// The host under which the client can reach a server; `None` for a unix socket. A server that listens on every address is
/// reachable under the host that the client used for the daemon.
fn reachable(host: &str, requested_host: Option<&str>) -> Option<String> {
    if host.ends_with(".sock") {
        return None;
    }
    match host.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() => {
            let authority: Option<Authority> = requested_host.and_then(|host| host.parse().ok());
            Some(authority.map_or_else(|| "127.0.0.1".to_owned(), |authority| authority.host().to_owned()))
        }
        Ok(IpAddr::V6(address)) => Some(format!("[{address}]")),
        _ => Some(host.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_every_address_is_reached_as_the_daemon_is() {
        for (host, requested_host, expected) in [
            ("127.0.0.1", Some("box:9888"), Some("127.0.0.1")),
            ("gpu.lan", None, Some("gpu.lan")),
            ("::1", None, Some("[::1]")),
            ("0.0.0.0", Some("box:9888"), Some("box")),
            ("::", Some("[fd00::1]:9888"), Some("[fd00::1]")),
            ("0.0.0.0", Some("a b"), Some("127.0.0.1")),
            ("0.0.0.0", None, Some("127.0.0.1")),
            ("/run/a.sock", Some("box"), None),
        ] {
            assert_eq!(reachable(host, requested_host).as_deref(), expected, "{host} {requested_host:?}");
        }
    }

    #[test]
    fn the_value_of_an_option_is_found_in_either_form() {
        let argv = ArgumentList::from(["llama-server", "--api-prefix", "/a", "--ssl-cert-file=/c"]);
        assert_eq!(value_of(&argv, "--api-prefix"), Some("/a"));
        assert_eq!(value_of(&argv, "--ssl-cert-file"), Some("/c"));
        assert_eq!(value_of(&argv, "--ssl-cert"), None);
    }
}
