//! Servers as models, in the shapes of llama-server's own router: the entries of its list, and the events of its stream; and what
//! launches say of them.

use bytes::Bytes;
use llama_warden_events::{Envelope, Event, ProcessEnd, ServerId};
use llama_warden_state::{Phase, ServerRecord};
use llama_warden_targets::Named;
use serde_json::{Value as Json, json};

/// What a launch says of its model, in the words of llama-server.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ModelFacts {
    /// What it takes and gives: text, images, sound.
    pub(crate) architecture: Json,
    /// Sizes: of the context, of the vocabulary, of the model.
    pub(crate) meta: Option<Json>,
}

/// What the followers of models are told.
#[derive(Debug, Clone)]
pub(crate) enum ModelNotice {
    /// An event of this server, as text; of all where none is named.
    Event(Option<ServerId>, Bytes),
    /// The daemon ends.
    End,
}

/// An entry of the list of models. Arguments and the path of the model are left out, unlike in llama-server: whoever may ask a model
/// need not know them. `facts` are those of the latest launch that was ready.
pub(crate) fn entry(named: &Named, record: &ServerRecord, facts: Option<&ModelFacts>) -> Json {
    let mut entry = info(named, record, facts.filter(|_| record.process.is_some() && record.ready.is_some()));
    let spec = &named.spec;
    entry["name"] = (&*spec.display_name).into();
    entry["status"] = status(record);
    entry["source"] = "preset".into();
    entry["can_remove"] = false.into();
    if let Some(facts) = facts {
        entry["architecture"] = facts.architecture.clone();
        if let Some(trained) = facts.meta.as_ref().and_then(|meta| meta.get("n_ctx_train")) {
            entry["context_length"] = trained.clone();
        }
    }
    if !spec.router.metadata.is_empty() {
        entry["metadata"] = Json::Object(spec.router.metadata.clone());
    }
    entry
}

/// What a loaded model says of itself.
fn info(named: &Named, record: &ServerRecord, facts: Option<&ModelFacts>) -> Json {
    let spec = &named.spec;
    let created = record.process.as_ref().map_or(0, |process| process.spawned_at.as_unix_microseconds() / 1_000_000);
    let aliases: Vec<&str> = named.names().skip(1).collect();
    // The projector of a model that sees is an option; what it is for, only the launch knows.
    let architecture = facts.map_or_else(
        || modalities(|name| name == "vision" && spec.flags.contains_key("mmproj")),
        |facts| facts.architecture.clone(),
    );
    let mut info = json!({
        "id": spec.id.as_str(),
        "aliases": aliases,
        "tags": [],
        "object": "model",
        "owned_by": "llamacpp",
        "created": created,
        "architecture": architecture,
    });
    if let Some(meta) = facts.and_then(|facts| facts.meta.clone()) {
        info["meta"] = meta;
    }
    info
}

/// The architecture of a model that takes text, and what else `takes` says.
pub(crate) fn modalities(takes: impl Fn(&str) -> bool) -> Json {
    let others = [("vision", "image"), ("audio", "audio")];
    let others = others.into_iter().filter(|(word, _)| takes(word)).map(|(_, name)| name);
    let inputs: Vec<&str> = std::iter::once("text").chain(others).collect();
    json!({ "input_modalities": inputs, "output_modalities": ["text"] })
}

fn status(record: &ServerRecord) -> Json {
    let failed = |reason: Option<&str>| {
        let mut status = json!({ "value": "unloaded", "failed": true, "reason": reason });
        if let Some(code) = record.last_end.and_then(exit_code) {
            status["exit_code"] = code.into();
        }
        status
    };
    match record.phase {
        Phase::Ready { .. } | Phase::Unready { .. } => json!({ "value": "loaded" }),
        Phase::Launching | Phase::Starting => json!({ "value": "loading" }),
        Phase::Loading { progress } => json!({ "value": "loading", "progress": progress.map(loaded_so_far) }),
        Phase::Stopping { .. } => json!({ "value": "unloading" }),
        Phase::Failed { reason } => failed(Some(reason.as_str())),
        Phase::BackingOff { .. } => failed(record.last_failure.as_ref().map(|failure| failure.reason.as_str())),
        Phase::Idle | Phase::Exited { .. } => json!({ "value": "unloaded" }),
    }
}

fn loaded_so_far(ratio: f64) -> Json {
    json!({ "stages": ["text_model"], "current": "text_model", "value": ratio })
}

/// As a shell has it. `None` where the end of the process is not known.
fn exit_code(end: ProcessEnd) -> Option<i32> {
    match end {
        ProcessEnd::Exited { code } => Some(code.into()),
        ProcessEnd::Signaled { signal, .. } => Some(128 + signal.number()),
        ProcessEnd::OutOfMemory => Some(137),
        ProcessEnd::Unknown => None,
    }
}

/// What an event of the bus is to those that follow models. That a model is loaded is told by [`loaded`], once more is known of it.
pub(crate) fn notice(envelope: &Envelope, has_process: bool) -> Option<ModelNotice> {
    let loading = |progress| json!({ "status": "loading", "progress": loaded_so_far(progress) });
    let (kind, data) = match &envelope.event {
        Event::LaunchBegan { .. } => ("model_status", json!({ "status": "loading" })),
        Event::ServerSpawned { .. } => ("status_change", loading(0.0)),
        Event::LoadProgressed { ratio: Some(ratio) } => ("status_change", loading(*ratio)),
        Event::ServerExited { end, .. } => {
            ("status_change", json!({ "status": "unloaded", "exit_code": exit_code(*end) }))
        }
        Event::ServerFailed { reason, .. } if !has_process => {
            ("status_change", json!({ "status": "unloaded", "failed": true, "reason": reason.as_str() }))
        }
        Event::ConfigurationReloaded { .. } | Event::ProfileActivated { .. } => return Some(reload()),
        _ => return None,
    };
    Some(event(envelope.server.as_ref()?, kind, &data))
}

/// A model is loaded.
pub(crate) fn loaded(named: &Named, record: &ServerRecord, facts: &ModelFacts) -> ModelNotice {
    let data = json!({ "status": "loaded", "info": info(named, record, Some(facts)) });
    event(&named.spec.id, "status_change", &data)
}

/// The list is another one, or events were missed.
pub(crate) fn reload() -> ModelNotice {
    ModelNotice::Event(None, text(&json!({ "model": "*", "event": "models_reload" })))
}

fn event(server: &ServerId, kind: &str, data: &Json) -> ModelNotice {
    let told = json!({ "model": server.as_str(), "event": kind, "data": data });
    ModelNotice::Event(Some(server.clone()), text(&told))
}

fn text(event: &Json) -> Bytes {
    format!("data: {event}\n\n").into()
}
