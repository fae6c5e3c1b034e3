//! The paths that the router answers itself, from the snapshot, and what it says of servers that are not ready.

use http::{Response, StatusCode};
use llama_warden_events::ServerId;
use llama_warden_state::{Phase, ServerRecord, Snapshot};
use serde_json::{Value as Json, json};

use crate::answers::{Fault, RouteFaultCode, json_response};
use crate::caller::Caller;
use crate::names::Named;
use crate::relay::AnswerBody;
use crate::routes::{Burden, OwnPath};
use crate::shared::Shared;

/// The answer of `/health`: the router listens.
pub(crate) fn health() -> Response<AnswerBody> {
    json_response(StatusCode::OK, &json!({ "status": "ok" }))
}

/// The answer to a path of the router's own.
pub(crate) fn own(shared: &Shared, path: &OwnPath, caller: &Caller) -> Result<Response<AnswerBody>, Fault> {
    let snapshot = shared.bus.snapshot();
    let body = match path {
        OwnPath::Health => return Ok(health()),
        OwnPath::Models => {
            let data: Vec<Json> = models(shared, &snapshot, caller).collect();
            json!({ "object": "list", "data": data, "models": [] })
        }
        OwnPath::Model(name) => {
            let directory = shared.directory();
            let named = directory.find(Some(name)).ok().filter(|named| caller.may_use(named));
            let known = named.and_then(|named| Some((named, snapshot.servers.get(&named.spec.id)?)));
            let unknown = || Fault::new(RouteFaultCode::ModelNotFound, format!("there is no model `{name}`"));
            let (named, record) = known.ok_or_else(unknown)?;
            entry(named, record)
        }
        OwnPath::Running => {
            let directory = shared.directory();
            let may_see = |id: &ServerId| {
                caller.key.is_none() || directory.find(Some(id.as_str())).is_ok_and(|named| caller.may_use(named))
            };
            let running = snapshot.servers.iter().filter(|(id, record)| record.is_running() && may_see(id));
            let running: Vec<Json> = running.map(|(id, record)| running_entry(shared, id, record)).collect();
            json!({ "running": running })
        }
        OwnPath::Props => json!({ "role": "router", "default_generation_settings": { "params": {}, "n_ctx": 0 } }),
    };
    Ok(json_response(StatusCode::OK, &body))
}

/// The shown servers that the caller may use.
fn models(shared: &Shared, snapshot: &Snapshot, caller: &Caller) -> impl Iterator<Item = Json> {
    let directory = shared.directory();
    let entries = snapshot.servers.iter().filter_map(|(id, record)| {
        let named = directory.find(Some(id.as_str())).ok().filter(|named| named.spec.id == *id)?;
        (!named.spec.router.is_hidden && caller.may_use(named)).then(|| entry(named, record))
    });
    entries.collect::<Vec<_>>().into_iter()
}

/// A server as a model. Its arguments are left out: they carry paths.
fn entry(named: &Named, record: &ServerRecord) -> Json {
    let spec = &named.spec;
    let created = record.process.as_ref().map_or(0, |process| process.spawned_at.as_unix_microseconds() / 1_000_000);
    let names = spec.router.aliases.iter().chain(spec.router.variants.keys());
    let mut entry = json!({
        "id": spec.id.as_str(),
        "object": "model",
        "created": created,
        "owned_by": "llamacpp",
        "name": &*spec.display_name,
        "aliases": names.collect::<Vec<_>>(),
        "status": status(record),
    });
    if !spec.router.metadata.is_empty() {
        entry["metadata"] = Json::Object(spec.router.metadata.clone());
    }
    entry
}

fn status(record: &ServerRecord) -> Json {
    match record.phase {
        Phase::Ready { .. } | Phase::Unready { .. } => json!({ "value": "loaded" }),
        Phase::Launching | Phase::Starting => json!({ "value": "loading" }),
        Phase::Loading { progress } => json!({ "value": "loading", "progress": progress }),
        Phase::Stopping { .. } => json!({ "value": "unloading" }),
        Phase::Failed { reason } => json!({ "value": "unloaded", "failed": true, "reason": reason.as_str() }),
        Phase::BackingOff { .. } => {
            let reason = record.last_failure.as_ref().map(|failure| failure.reason.as_str());
            json!({ "value": "unloaded", "failed": true, "reason": reason })
        }
        Phase::Idle | Phase::Exited { .. } => json!({ "value": "unloaded" }),
    }
}

/// In the shape of llama-swap.
fn running_entry(shared: &Shared, id: &ServerId, record: &ServerRecord) -> Json {
    let standing = shared.standing(id);
    let state = match record.phase {
        Phase::Ready { .. } => "ready",
        Phase::Stopping { .. } => "stopping",
        _ => "starting",
    };
    json!({ "model": id.as_str(), "state": state, "in_flight": standing.in_flight, "waiting": standing.waiting })
}

/// Why a request does not wait for a server that is not ready; `None` where it does.
pub(crate) fn not_waited_for(shared: &Shared, named: &Named, burden: Burden) -> Option<Fault> {
    let snapshot = shared.bus.snapshot();
    let id = &named.spec.id;
    let record = snapshot.servers.get(id)?;
    match record.phase {
        Phase::Ready { .. } | Phase::Unready { .. } => return None,
        Phase::Launching | Phase::Starting | Phase::Loading { .. } if burden != Burden::Glance => return None,
        // One that is stopped and started again is waited for.
        Phase::Stopping { .. } if burden != Burden::Glance && shared.settings.on_demand => return None,
        _ => {}
    }
    if record.stopped_on_request {
        return Some(stopped(id));
    }
    if burden == Burden::Glance || !shared.settings.on_demand {
        let message = match &record.last_failure {
            Some(failure) => format!("`{id}` is not ready; it failed: {}", failure.reason),
            None => format!("`{id}` is not ready, and this request does not start it"),
        };
        let fault = Fault::new(RouteFaultCode::ServerFailed, message);
        // What is on its way without this request is worth another try.
        let comes = match record.phase {
            Phase::Launching | Phase::Starting | Phase::Loading { .. } | Phase::BackingOff { .. } => true,
            _ => shared.standing(id).waiting > 0,
        };
        return Some(if comes { fault.retry_when(shared.expected_wait(id), 10) } else { fault });
    }
    None
}

/// A person had the server stopped.
pub(crate) fn stopped(id: &ServerId) -> Fault {
    let message = format!("`{id}` was stopped by hand; `llama-warden start {id}` starts it");
    Fault::new(RouteFaultCode::ServerStopped, message)
}
