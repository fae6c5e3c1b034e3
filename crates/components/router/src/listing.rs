//! The paths that the router answers itself, from the snapshot.

use std::collections::BTreeSet;

use http::StatusCode;
use llama_warden_config::{MaxLoaded, ServerSpec};
use llama_warden_events::ServerId;
use llama_warden_state::{Phase, ServerRecord, Snapshot};
use serde_json::{Value as Json, json};

use crate::answer::{AnswerBody, RouterAnswer};
use crate::caller::Caller;
use crate::faults::{Fault, RouteFaultCode, json_response};
use crate::models;
use crate::shared::Shared;
use llama_warden_targets::{Named, OwnPath};

/// The answer of `/health`: the router listens.
pub(crate) fn health() -> RouterAnswer {
    json_response(StatusCode::OK, &json!({ "status": "ok" })).map(AnswerBody::whole)
}

/// The answer to a path of the router's own.
pub(crate) fn own(
    shared: &Shared,
    path: &OwnPath,
    caller: &Caller,
    asleep: &BTreeSet<ServerId>,
) -> Result<RouterAnswer, Fault> {
    let snapshot = shared.bus.snapshot();
    let body = match path {
        OwnPath::Models => {
            json!({ "object": "list", "data": models(shared, &snapshot, caller, asleep) })
        }
        OwnPath::Model(name) => {
            let directory = shared.directory();
            let named = caller.find(&directory, name);
            let known = named.and_then(|named| Some((named, snapshot.servers.get(&named.spec.id)?)));
            let unknown = || Fault::new(RouteFaultCode::ModelNotFound, format!("there is no model `{name}`"));
            let (named, record) = known.ok_or_else(unknown)?;
            model(shared, named, record, asleep)
        }
        OwnPath::Running => {
            let directory = shared.directory();
            let may_see = |id: &ServerId| caller.key.is_none() || caller.find(&directory, id.as_str()).is_some();
            let running = snapshot.servers.iter().filter(|(id, record)| record.is_running() && may_see(id));
            let spec = |id: &ServerId| directory.find(Some(id.as_str())).ok().map(|named| &*named.spec);
            let running: Vec<Json> =
                running.map(|(id, record)| running_entry(shared, spec(id), (id, record))).collect();
            json!({ "running": running })
        }
        OwnPath::Props => props(shared),
    };
    Ok(json_response(StatusCode::OK, &body).map(AnswerBody::whole))
}

/// The shown servers that the caller may use.
fn models(shared: &Shared, snapshot: &Snapshot, caller: &Caller, asleep: &BTreeSet<ServerId>) -> Vec<Json> {
    let directory = shared.directory();
    let shown = directory.servers().filter(|named| !named.spec.router.is_hidden && caller.may_use(named));
    let entry = |named: &Named| {
        let id = &named.spec.id;
        Some(model(shared, named, snapshot.servers.get(id)?, asleep))
    };
    shown.filter_map(entry).collect()
}

fn model(shared: &Shared, named: &Named, record: &ServerRecord, asleep: &BTreeSet<ServerId>) -> Json {
    let id = &named.spec.id;
    let mut entry = models::entry(named, record, shared.facts(id).as_deref());
    if record.is_ready() && asleep.contains(id) {
        entry["status"] = json!({ "value": "sleeping" });
    }
    entry
}

/// What llama-server's own router says of itself.
fn props(shared: &Shared) -> Json {
    let most = match shared.settings.max_loaded {
        MaxLoaded::AtMost(most) => most.get(),
        // As llama-server writes that there is no limit.
        MaxLoaded::Auto | MaxLoaded::Unlimited => 0,
    };
    json!({
        "role": "router",
        "max_instances": most,
        "models_autoload": shared.settings.on_demand,
        "model_alias": "llama-warden",
        "model_path": "none",
        "default_generation_settings": { "params": null, "n_ctx": 0 },
        "ui_settings": {},
        "build_info": concat!("llama-warden-", env!("CARGO_PKG_VERSION")),
        "cors_proxy_enabled": false,
    })
}

/// In the shape of llama-swap, without the command line: it carries paths.
fn running_entry(shared: &Shared, spec: Option<&ServerSpec>, (id, record): (&ServerId, &ServerRecord)) -> Json {
    let standing = shared.standing(id);
    let state = match record.phase {
        Phase::Ready { .. } | Phase::Unready { .. } => "ready",
        Phase::Stopping { .. } => "stopping",
        _ => "starting",
    };
    json!({
        "model": id.as_str(),
        "state": state,
        "name": &*record.card.display_name,
        "description": "",
        "ttl": spec.and_then(|spec| spec.router.ttl).map_or(0, |ttl| ttl.as_secs()),
        "in_flight": standing.in_flight,
        "waiting": standing.waiting,
    })
}
