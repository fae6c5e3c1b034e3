//! What changes which servers run, asked for by a client: loading and unloading, in the shapes of llama-server and llama-swap; and the
//! stream that tells of it.

use http::{HeaderValue, Response, StatusCode, header};
use llama_warden_events::SuperviseCommand;
use llama_warden_gates::QueueClient;
use llama_warden_state::Phase;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use crate::admitting::arrival;
use crate::answer::{AnswerBody, RouterAnswer};
use crate::caller::Caller;
use crate::faults::{Fault, RouteFaultCode, json_response};
use crate::models::{self, ModelNotice};
use crate::refusals::{not_ready_before, not_waited_for, refusal};
use crate::request::RouterService;
use crate::shared::GateEntry;
use llama_warden_targets::{Named, RequestClass};

/// Events that wait for a client that reads slowly; the router goes on without one whose connection takes no more.
const WAITING_EVENTS: usize = 64;

impl RouterService {
    /// Has a server started, as a request would that waits for it, and does not wait.
    pub(crate) fn load(&self, named: &Named, client: QueueClient) -> Result<RouterAnswer, Fault> {
        let (shared, spec) = (self.shared.clone(), &named.spec);
        if let Some(record) = shared.bus.snapshot().servers.get(&spec.id) {
            use Phase::{Launching, Loading, Ready, Starting, Unready};
            if let Launching | Starting | Loading { .. } | Ready { .. } | Unready { .. } = record.phase {
                let message = format!("model is already running: `{}`", spec.id);
                return Err(Fault::new(RouteFaultCode::ModelRunning, message));
            }
            let refused = not_waited_for(&shared, &spec.id, record, RequestClass::Auxiliary);
            let too_late = || not_ready_before(&shared, &spec.id, record, shared.settings.queue_timeout);
            if let Some(fault) = refused.or_else(too_late) {
                return Err(fault);
            }
        }
        let (server, arrival) = (spec.id.clone(), arrival(named, client));
        tokio::spawn(async move {
            // It asks nothing of the server; a refusal is in the list of models.
            if let Ok(GateEntry::Later(turn)) = shared.enter(&server, arrival, shared.settings.queue_timeout) {
                drop(shared.wait(&server, turn).await);
            }
        });
        Ok(success())
    }

    /// Has a server stopped once its requests have ended; a request starts it again.
    pub(crate) async fn unload(&self, named: &Named) -> Result<RouterAnswer, Fault> {
        let server = named.spec.id.clone();
        let snapshot = self.shared.bus.snapshot();
        let phase = snapshot.servers.get(&server).map(|record| record.phase);
        if let None | Some(Phase::Idle | Phase::Exited { .. } | Phase::Failed { .. }) = phase {
            return Err(Fault::new(RouteFaultCode::ModelNotRunning, format!("model is not running: `{server}`")));
        }
        let reply = self.shared.commands.post(SuperviseCommand::UnloadServer { server: server.clone() });
        reply.await.map_err(|refused| refusal(&server, &refused))?;
        Ok(success())
    }

    /// Has every server stopped that the caller may use.
    pub(crate) async fn unload_all(&self, caller: &Caller) -> Result<RouterAnswer, Fault> {
        let directory = self.shared.directory();
        for named in directory.servers().filter(|named| caller.may_use(named)) {
            match self.unload(named).await {
                Err(fault) if fault.code != RouteFaultCode::ModelNotRunning => return Err(fault),
                Ok(_) | Err(_) => {}
            }
        }
        let mut answer = Response::new(AnswerBody::whole("OK"));
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        Ok(answer)
    }

    /// The events of the models that the caller may use, until it leaves or the daemon ends.
    pub(crate) fn model_events(&self, caller: &Caller) -> RouterAnswer {
        let (shared, caller) = (self.shared.clone(), caller.clone());
        let mut notices = shared.models.subscribe();
        let (events, body) = mpsc::channel(WAITING_EVENTS);
        tokio::spawn(async move {
            loop {
                let notice = tokio::select! {
                    notice = notices.recv() => notice,
                    () = events.closed() => return,
                };
                let text = match notice {
                    Ok(ModelNotice::Event(Some(server), text)) => {
                        let directory = shared.directory();
                        if caller.find(&directory, server.as_str()).is_none_or(|named| named.spec.router.is_hidden) {
                            continue;
                        }
                        text
                    }
                    Ok(ModelNotice::Event(None, text)) => text,
                    Err(RecvError::Lagged(_)) => match models::reload() {
                        ModelNotice::Event(_, text) => text,
                        ModelNotice::End => return,
                    },
                    Ok(ModelNotice::End) | Err(RecvError::Closed) => return,
                };
                if events.send(text).await.is_err() {
                    return;
                }
            }
        });
        let mut answer = Response::new(AnswerBody::told(body));
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        answer
    }
}

fn success() -> RouterAnswer {
    json_response(StatusCode::OK, &json!({ "success": true })).map(AnswerBody::whole)
}
