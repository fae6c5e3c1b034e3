//! The relay of a request: to the launch that takes it, again where that is lost, and the answer back.

use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Body;
use llama_warden_events::{Incarnation, ServerId};
use llama_warden_held_body::{BodyFacts, HeldBody};
use llama_warden_server_link::SendError;
use llama_warden_targets::{Named, RequestClass};
use llama_warden_traffic::{RetryCause, WaitedFor};
use llama_warden_upstream::Upstream;
use tokio::time::{Instant, timeout_at};

use crate::admitting::Turn;
use crate::answer::{AnswerBody, CutShort, ModelServer, RouterAnswer, StreamFault, StreamFaults, to_client};
use crate::faults::{Fault, RouteFaultCode};
use crate::refusals::stopped_amid;
use crate::request::{Asked, RouterService};
use crate::shared::{Admitted, Permit, Shared};

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
        if class != RequestClass::Inspection
            && let Some(in_use) = asked.caller.enter()?
        {
            asked.tracked.hold(in_use);
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
        let waited_for_launch = matches!(admitted.waited_for, Some(WaitedFor::Start | WaitedFor::Eviction));
        let mut request = RelayedRequest {
            shared: &self.shared,
            asked,
            named,
            target,
            may_replay: class != RequestClass::Inspection && body.is_whole(),
            body,
            loaded: waited_for_launch.then(|| asked.wait.total()),
            queued: None,
            tries: Tries::default(),
        };
        loop {
            let Admitted { upstream, permit, .. } = admitted;
            admitted = match request.attempt(&upstream, permit).await? {
                RelayOutcome::Answered(answer) => return Ok(answer),
                RelayOutcome::Repeated(permit) => Admitted { upstream, permit, waited_for: None },
                RelayOutcome::Queued(turn) => self.admit(asked, named, class, turn).await?,
            };
        }
    }
}

/// A request that may go to its server.
struct RelayedRequest<'a> {
    shared: &'a Arc<Shared>,
    asked: &'a Asked,
    named: &'a Named,
    target: &'a str,
    body: HeldBody,
    /// It can be sent again after a launch has taken it.
    may_replay: bool,
    /// How long it waited for a launch, where it waited for one.
    loaded: Option<Duration>,
    /// From its head until it was first sent, but for that.
    queued: Option<Duration>,
    tries: Tries,
}

/// What has become of a request so far.
#[derive(Debug, Default)]
struct Tries {
    /// It was sent once more to a launch that lost it.
    was_repeated: bool,
    /// The launch that was the last to take it.
    taken_by: Option<Incarnation>,
    /// Launches that were lost with it.
    crashes: u32,
    /// Launches that were lost before they took it.
    untaken: u32,
    /// Ready launches that answered as if they were not.
    unready: u32,
}

/// What comes of a request that was sent.
enum RelayOutcome {
    Answered(RouterAnswer),
    /// It is sent once more to the same launch, in its place.
    Repeated(Permit),
    /// It waits for another turn at the gate.
    Queued(Turn),
}

impl RelayedRequest<'_> {
    /// Sends it to a launch.
    async fn attempt(&mut self, upstream: &Arc<Upstream>, permit: Permit) -> Result<RelayOutcome, Fault> {
        let sent = self.asked.tracked.sent();
        self.queued.get_or_insert_with(|| sent.saturating_sub(self.loaded.unwrap_or_default()));
        let limit = self.shared.settings.request_timeout;
        let until = limit.map(|limit| Instant::now() + limit);
        let answer = self.begin(upstream, permit);
        let answer = match until {
            None => answer.await,
            Some(until) => {
                let too_long = |_| Fault::new(RouteFaultCode::UpstreamTimeout, too_long(&upstream.server, limit));
                timeout_at(until, answer).await.map_err(too_long)?
            }
        };
        match answer {
            Ok(answer) => Ok(self.answered(upstream, answer, until).await),
            Err((error, permit)) => Box::pin(self.lost(upstream, error, permit)).await,
        }
    }

    /// The answer of a launch. What can be sent again until it has begun is waited for until then, anything else is passed on as it comes.
    async fn begin(
        &self,
        upstream: &Arc<Upstream>,
        permit: Permit,
    ) -> Result<RouterAnswer, (SendError, Option<Permit>)> {
        let (method, headers) = (&self.asked.parts.method, &self.asked.parts.headers);
        let fault = || stream_fault(self.shared, self.asked, upstream);
        let place = Some((permit, &fault as &StreamFaults<'_>));
        let mut answer = AnswerBody::relay(upstream.clone(), (method, self.target), headers, &self.body, place).await?;
        if self.may_replay {
            answer.body_mut().begin().await?;
            self.asked.tracked.answer_began();
        }
        Ok(answer)
    }

    /// Passes an answer on, unless it says that its launch is not ready after all.
    async fn answered(&mut self, upstream: &Upstream, answer: RouterAnswer, until: Option<Instant>) -> RelayOutcome {
        let may_wait = self.may_replay && self.tries.unready < MOST_UNREADY;
        let passed = if may_wait { unless_loading(answer).await } else { Some(answer) };
        let Some(mut answer) = passed else {
            let (server, unready) = (&upstream.server, self.tries.unready);
            tracing::debug!(%server, unready, "a ready server answered that it loads its model");
            self.tries.unready += 1;
            self.shared.act(|gates, now| gates.doubt(server, upstream.incarnation, now));
            return RelayOutcome::Queued(Turn::Again);
        };
        if let Some(until) = until {
            answer.body_mut().end_at(until);
        }
        let (server, queued) = (self.named.spec.id.as_str(), self.queued.unwrap_or_default());
        to_client(answer.headers_mut(), &ModelServer { server, request: &self.asked.id, queued, loaded: self.loaded });
        RelayOutcome::Answered(answer)
    }

    /// Decides what follows where no answer has begun: once, the same launch gets the request again; a launch that has ended is waited for.
    async fn lost(
        &mut self,
        upstream: &Upstream,
        error: SendError,
        permit: Option<Permit>,
    ) -> Result<RelayOutcome, Fault> {
        if let Some(fault) = self.body.rest_fault() {
            return Err(fault.into());
        }
        let (server, incarnation, tries) = (&upstream.server, upstream.incarnation, &mut self.tries);
        let Tries { crashes, was_repeated, .. } = *tries;
        tracing::debug!(%server, %error, crashes, was_repeated, "a request was lost");
        let was_taken = !matches!(error, SendError::NotTaken | SendError::Connect(_));
        if was_taken {
            tries.taken_by = Some(incarnation);
        } else {
            // Whoever waits does not run into the same before it is known whether the launch has ended.
            self.shared.act(|gates, now| gates.doubt(server, incarnation, now));
        }
        let is_there = self.shared.upstream(server, incarnation).is_some();
        let may_repeat = !was_repeated && is_there && (self.may_replay || !was_taken);
        if let Some(permit) = permit.filter(|_| may_repeat) {
            tries.was_repeated = true;
            self.asked.tracked.retried(if was_taken { RetryCause::Lost } else { RetryCause::Connection });
            return Ok(RelayOutcome::Repeated(permit));
        }
        let fault = |what: &str| {
            Fault::new(RouteFaultCode::ServerCrashed, format!("`{server}` was lost before it answered{what}: {error}"))
        };
        let stopped = stopped_amid(self.shared, server, incarnation, "before it answered");
        // What never reached a launch cannot be what ended it, nor can what it was asked be where a person stopped it.
        let was_at_work = tries.taken_by == Some(incarnation) && stopped.is_none();
        *(if was_at_work { &mut tries.crashes } else { &mut tries.untaken }) += 1;
        if tries.crashes == 2 {
            return Err(fault(" twice, the second time after a restart").never_again());
        }
        let may_wait = self.may_replay && tries.untaken <= MOST_UNTAKEN;
        if !may_wait || !self.shared.is_gone(upstream, UNTIL_GONE).await {
            let crashed = || fault("").retry_when(self.shared.expected_wait(server), 1);
            return Err(stopped.unwrap_or_else(crashed));
        }
        self.asked.tracked.retried(RetryCause::Crash);
        Ok(RelayOutcome::Queued(if was_at_work { Turn::AfterLoss(incarnation) } else { Turn::Again }))
    }
}

/// The answer, unless it says that the model is being loaded.
async fn unless_loading(answer: RouterAnswer) -> Option<RouterAnswer> {
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
fn stream_fault(shared: &Arc<Shared>, asked: &Asked, upstream: &Upstream) -> StreamFault {
    let (path, id) = (asked.path().to_owned(), asked.id().to_owned());
    let (shared, server, incarnation) = (shared.clone(), upstream.server.clone(), upstream.incarnation);
    Box::new(move |why| {
        let lost = || Fault::new(RouteFaultCode::ServerCrashed, format!("`{server}` was lost amid its answer"));
        let fault = match why {
            CutShort::Lost(_) => stopped_amid(&shared, &server, incarnation, "amid its answer").unwrap_or_else(lost),
            CutShort::TooLong => {
                Fault::new(RouteFaultCode::UpstreamTimeout, too_long(&server, shared.settings.request_timeout))
            }
        };
        fault.stream_end(&path, &id)
    })
}

fn too_long(server: &ServerId, limit: Option<Duration>) -> String {
    let limit = limit.unwrap_or_default();
    format!("the answer of `{server}` is not whole after {limit:?} (`router.request-timeout`)")
}
