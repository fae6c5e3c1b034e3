//! The relay of a request: to the launch that takes it, again where that is lost, and the answer back.

use std::time::Duration;

use http::{Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Body;
use llama_warden_events::ServerId;
use llama_warden_held_body::{BodyFacts, HeldBody};
use llama_warden_server_link::SendError;
use llama_warden_targets::{Named, RequestClass};
use llama_warden_traffic::{RetryCause, WaitedFor};
use tokio::time::{Instant, timeout_at};

use crate::admitting::Turn;
use crate::answers::{Fault, RouteFaultCode};
use crate::relay::{AnswerBody, CutShort, ModelServer, StreamFault, StreamFaults, to_client};
use crate::request::{Asked, RouterAnswer, RouterService};
use crate::shared::Admitted;

/// How often a request is sent again to a ready server that answers as if it were not. Then its answer passes.
const MOST_UNREADY: u32 = 5;

/// Launches that end before they take a request, one after the other. Then its client is told.
const MOST_UNTAKEN: u32 = 5;

/// What it says.
const LOADING: &[u8] = b"loading model";

/// Longest answer that may say so.
const LONGEST_UNREADY: u64 = 4096;

/// Longest time from the loss of a connection to the fact that its launch has ended.
const UNTIL_GONE: Duration = Duration::from_secs(5);

impl RouterService {
    /// Waits for the server and relays the request; once more where its first answer was lost before it began.
    pub(crate) async fn relay(
        &self,
        asked: &Asked,
        named: &Named,
        (class, target): (RequestClass, &str),
        (mut body, facts): (HeldBody, BodyFacts),
    ) -> Result<RouterAnswer, Fault> {
        if class != RequestClass::Inspection {
            asked.tracked.hold(asked.caller.enter()?);
        }
        if named.edits() && facts.is_json {
            body = body.edited(&named.spec.router.strip, &named.set());
        }
        asked.keep(&body);
        let mut admitted = self.admit(asked, named, class, Turn::First).await?;
        // After the wait: what was restored meanwhile may be what it continues.
        if let Some(keeper) = &self.shared.keeper
            && named.spec.router.keeps_cache
            && class == RequestClass::Inference
            && facts.is_json
            && body.is_whole()
        {
            keeper.follow(&asked.tracked, &named.spec.id, &body.concatenated());
        }
        let for_launch = matches!(admitted.waited_for, Some(WaitedFor::Start | WaitedFor::Eviction));
        let loaded = for_launch.then(|| asked.wait.total());
        let may_replay = class != RequestClass::Inspection && body.is_whole();
        let (mut was_repeated, mut taken_by, mut crashes, mut untaken, mut unready) = (false, None, 0, 0, 0);
        let mut queued = None;
        loop {
            let Admitted { upstream, permit, .. } = admitted;
            let (server, incarnation) = (upstream.server.clone(), upstream.incarnation);
            let fault = || stream_fault(asked, &server, self.shared.settings.request_timeout);
            let place = Some((permit, &fault as &StreamFaults<'_>));
            let (method, headers) = (&asked.parts.method, &asked.parts.headers);
            let sent = asked.tracked.sent();
            let queued = *queued.get_or_insert_with(|| sent.saturating_sub(loaded.unwrap_or_default()));
            let relayed = async {
                let sent = AnswerBody::relay(upstream.clone(), (method, target), headers, &body, place);
                let mut answer = sent.await?;
                // What cannot be sent again is passed on as it comes.
                if may_replay {
                    answer.body_mut().begin().await?;
                    asked.tracked.answer_began();
                }
                Ok(answer)
            };
            let limit = self.shared.settings.request_timeout.map(|limit| (limit, Instant::now() + limit));
            let relayed = match limit {
                None => relayed.await,
                Some((limit, until)) => {
                    let too_long = |_| Fault::new(RouteFaultCode::UpstreamTimeout, too_long(&server, Some(limit)));
                    timeout_at(until, relayed).await.map_err(too_long)?
                }
            };
            let (error, permit) = match relayed {
                Ok(answer) => {
                    let mut answer = if may_replay && unready < MOST_UNREADY {
                        match still_loading(answer).await {
                            Some(answer) => answer,
                            None => {
                                tracing::debug!(%server, unready, "a ready server answered that it loads its model");
                                unready += 1;
                                self.shared.act(|gates, now| gates.doubt(&server, incarnation, now));
                                admitted = self.admit(asked, named, class, Turn::Again).await?;
                                continue;
                            }
                        }
                    } else {
                        answer
                    };
                    if let Some((_, until)) = limit {
                        answer.body_mut().end_at(until);
                    }
                    let told = ModelServer { server: named.spec.id.as_str(), request: &asked.id, queued, loaded };
                    to_client(answer.headers_mut(), &told);
                    return Ok(answer);
                }
                Err(lost) => lost,
            };
            if let Some(fault) = body.rest_fault() {
                return Err(fault.into());
            }
            tracing::debug!(%server, %error, crashes, was_repeated, "a request was lost");
            let was_taken = !matches!(error, SendError::NotTaken | SendError::Connect(_));
            if was_taken {
                taken_by = Some(incarnation);
            } else {
                // Whoever waits does not run into the same before it is known whether the launch has ended.
                self.shared.act(|gates, now| gates.doubt(&server, incarnation, now));
            }
            let is_there = self.shared.upstream(&server, incarnation).is_some();
            if let Some(permit) = permit.filter(|_| !was_repeated && is_there && (may_replay || !was_taken)) {
                was_repeated = true;
                asked.tracked.retried(if was_taken { RetryCause::Lost } else { RetryCause::Connection });
                admitted = Admitted { upstream, permit, waited_for: None };
                continue;
            }
            let fault = |what: &str| {
                Fault::new(
                    RouteFaultCode::ServerCrashed,
                    format!("`{server}` was lost before it answered{what}: {error}"),
                )
            };
            // What never reached a launch cannot be what ended it.
            let was_at_work = taken_by == Some(incarnation);
            *(if was_at_work { &mut crashes } else { &mut untaken }) += 1;
            if crashes == 2 {
                return Err(fault(" twice, the second time after a restart").never_again());
            }
            let is_gone = Box::pin(self.shared.is_gone(&upstream, UNTIL_GONE));
            if !may_replay || untaken > MOST_UNTAKEN || !is_gone.await {
                return Err(fault("").retry_when(self.shared.expected_wait(&server), 1));
            }
            asked.tracked.retried(RetryCause::Crash);
            let turn = if was_at_work { Turn::AfterLoss(incarnation) } else { Turn::Again };
            admitted = self.admit(asked, named, class, turn).await?;
        }
    }
}

/// The answer, unless it says that the model is being loaded.
async fn still_loading(answer: RouterAnswer) -> Option<RouterAnswer> {
    let is_short = answer.body().size_hint().exact().is_some_and(|length| length <= LONGEST_UNREADY);
    if answer.status() != StatusCode::SERVICE_UNAVAILABLE || !is_short {
        return Some(answer);
    }
    let (parts, body) = answer.into_parts();
    let text = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let says_so = text.to_ascii_lowercase().windows(LOADING.len()).any(|part| part == LOADING);
    (!says_so).then(|| Response::from_parts(parts, AnswerBody::whole(text)))
}

/// What the client of a stream gets where it ends early.
fn stream_fault(asked: &Asked, server: &ServerId, limit: Option<Duration>) -> StreamFault {
    let (path, id, server) = (asked.path().to_owned(), asked.id().to_owned(), server.clone());
    Box::new(move |why| {
        let fault = match why {
            CutShort::Lost(_) => {
                Fault::new(RouteFaultCode::ServerCrashed, format!("`{server}` was lost amid its answer"))
            }
            CutShort::TooLong => Fault::new(RouteFaultCode::UpstreamTimeout, too_long(&server, limit)),
        };
        fault.stream_end(&path, &id)
    })
}

fn too_long(server: &ServerId, limit: Option<Duration>) -> String {
    let limit = limit.unwrap_or_default();
    format!("the answer of `{server}` is not whole after {limit:?} (`router.request-timeout`)")
}
