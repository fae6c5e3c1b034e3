//! Streams that a client resumes by the id of its conversation: which server has one is in the id (`ID::MODEL`), else every server that
//! is ready is asked.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use llama_warden_events::ServerId;
use llama_warden_http_server::RequestBody;
use serde_json::{Value as Json, json};

use crate::answer::{AnswerBody, ModelServer, RouterAnswer, to_client};
use crate::caller::Caller;
use crate::faults::{Fault, RouteFaultCode, json_response};
use crate::request::{Asked, RouterService};
use llama_warden_held_body::HeldBody;
use llama_warden_targets::StreamQuestion;
use llama_warden_upstream::Upstream;

const LOOKUP: &str = "/v1/streams/lookup";

impl RouterService {
    pub(crate) async fn answer_stream(
        &self,
        asked: &Asked,
        question: StreamQuestion,
        body: RequestBody,
    ) -> Result<RouterAnswer, Fault> {
        let (method, caller) = (&asked.parts.method, &asked.caller);
        let held = self.read(asked, body).await?;
        let StreamQuestion::Of(conversation) = question else {
            return self.list_streams(caller, (method.clone(), asked.path()), held.0).await;
        };
        let missing = || Fault::new(RouteFaultCode::StreamMissing, "the request names no conversation: add `conv_id`");
        let conversation = conversation.ok_or_else(missing)?;
        match self.stream_owner(caller, &conversation).await {
            // Not through the gate: the stream is in flight there, and its end is what a closing gate waits for.
            Some(upstream) => {
                let server = upstream.server.clone();
                asked.tracked.named(&server, None);
                asked.tracked.sent();
                let (question, headers) = ((method, asked.target()), &asked.parts.headers);
                let sent = AnswerBody::relay(upstream, question, headers, &held.0, None).await;
                let mut answer = sent.map_err(|(error, _)| {
                    let message = format!("`{server}` was lost before it answered: {error}");
                    Fault::new(RouteFaultCode::ServerCrashed, message).retry_after(1)
                })?;
                let (server, queued) = (server.as_str(), asked.begun.elapsed());
                to_client(answer.headers_mut(), &ModelServer { server, request: &asked.id, queued, loaded: None });
                Ok(answer)
            }
            None if *method == Method::DELETE => Ok(no_content()),
            None => {
                let message = format!("no ready server has a stream of `{conversation}`");
                Err(Fault::new(RouteFaultCode::StreamNotFound, message))
            }
        }
    }

    /// The launch that has the stream of a conversation; `None` where none has it.
    pub(crate) async fn stream_owner(&self, caller: &Caller, conversation: &str) -> Option<Arc<Upstream>> {
        let directory = self.shared.directory();
        let named = conversation.rsplit_once("::").and_then(|(_, model)| directory.find(Some(model)).ok());
        let reachable = self.reachable(caller);
        let of = |server: &ServerId| reachable.iter().find(|upstream| upstream.server == *server).cloned();
        if let Some(upstream) = named.and_then(|named| of(&named.spec.id)) {
            return Some(upstream);
        }
        let body = HeldBody::whole(json!({ "conversation_ids": [conversation] }).to_string());
        let found = self.ask_each(reachable.clone(), Method::POST, LOOKUP, &body).await;
        let (owner, _) = found.into_iter().find(|(_, found)| found.as_array().is_some_and(|list| !list.is_empty()))?;
        of(&owner)
    }

    /// What every server says of streams, as one list.
    pub(crate) async fn list_streams(
        &self,
        caller: &Caller,
        (method, target): (Method, &str),
        body: HeldBody,
    ) -> Result<RouterAnswer, Fault> {
        let is_lookup = target == LOOKUP;
        let lists = self.ask_each(self.reachable(caller), method, target, &body).await;
        let lists: Vec<Vec<Json>> = lists.into_iter().filter_map(|(_, list)| list.as_array().cloned()).collect();
        if lists.is_empty() && !is_lookup {
            return Err(Fault::new(RouteFaultCode::PathNotFound, "no ready server lists its streams"));
        }
        Ok(json_response(StatusCode::OK, &Json::Array(lists.concat())).map(AnswerBody::whole))
    }
}

/// The answer to the end of a stream that nobody has, which is as it should be.
pub(crate) fn no_content() -> RouterAnswer {
    let mut answer = Response::new(AnswerBody::whole(Bytes::new()));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}
