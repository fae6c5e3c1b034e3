//! Starts one server again and again, and takes down how it becomes ready: a component in the supervisor's place.
//!
//! Processes are the launcher's, as in the daemon, so that none is ever left behind, whatever becomes of us.

use std::sync::Arc;
use std::time::Duration;

use llama_warden_bus::{BusClosed, Clock, CommandSender, Delivery, EventDraft, Publisher, Subscription};
use llama_warden_component::{Component, Ports};
use llama_warden_config::ServerSpec;
use llama_warden_events::{
    Envelope, Event, Incarnation, LaunchCommand, Refused, ServerCard, StopReason, SuperviseCommand, TerminateCommand,
    Uptime,
};
use llama_warden_readiness::{GroundTruth, HealthPath, RecordedLine, Recording, Serving};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::recorder::OutputRecorder;

/// Between two questions: the finer, the surer which lines came before readiness.
const PACE: Duration = Duration::from_millis(5);
/// How long a ready server is listened to: its line may come after its first answer.
const LINGER: Duration = Duration::from_millis(400);
/// Longest time for a stop, beyond what the ladder takes.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// Starts a server several times.
#[derive(Debug)]
pub struct RepeatedStarts {
    pub spec: Arc<ServerSpec>,
    pub starts: u8,
    pub timeout: Duration,
    pub recorder: OutputRecorder,
    pub report: oneshot::Sender<Result<RecordedStarts, StartsError>>,
}

/// What the starts brought.
#[derive(Debug)]
pub struct RecordedStarts {
    pub build: Option<u64>,
    pub options: Vec<String>,
    pub health: HealthPath,
    pub recordings: Vec<Recording>,
}

/// Why the starts did not come to an end.
#[derive(Debug, thiserror::Error)]
pub enum StartsError {
    #[error("start {start} failed: {detail}")]
    Failed { start: u8, detail: String, lines: Vec<String> },
    #[error("start {start} is not ready after {} s", timeout.as_secs_f64())]
    NotReady { start: u8, timeout: Duration },
    #[error("start {start} does not end")]
    NotStopped { start: u8 },
    #[error("the launcher refused: {0}")]
    Refused(#[from] Refused),
    #[error("events were lost")]
    Lost,
    #[error("interrupted")]
    Interrupted,
}

impl From<BusClosed> for StartsError {
    fn from(_: BusClosed) -> Self {
        Self::Lost
    }
}

impl Component for RepeatedStarts {
    const NAME: &'static str = "repeated-starts";
    type Command = SuperviseCommand;
    type Error = BusClosed;

    async fn run(self, ports: Ports<SuperviseCommand>) -> Result<(), BusClosed> {
        let mut sequence = StartSequence {
            outcome: RecordedStarts {
                build: None,
                options: Vec::new(),
                health: HealthPath::Answers,
                recordings: Vec::new(),
            },
            spec: self.spec,
            timeout: self.timeout,
            recorder: self.recorder,
        };
        let Ports { events, mut subscription, commands, mut inbox, clock, cancel } = ports;
        let mut ports = SequencePorts { events: events.clone(), subscription: &mut subscription, commands, clock };
        let ended = tokio::select! {
            ended = sequence.run(&mut ports, self.starts) => ended,
            // The only command that anybody sends here is to end.
            request = inbox.recv() => {
                request.into_iter().for_each(|request| request.accept(None));
                Err(StartsError::Interrupted)
            }
            () = cancel.cancelled() => Err(StartsError::Interrupted),
        };
        // Nobody waits for it any more if it cannot be told.
        let _ = self.report.send(ended.map(|()| sequence.outcome));
        // The host ends every component now, and the launcher with its end whatever still runs.
        events.publish(EventDraft::daemon(Event::DaemonStopped { survivors: Vec::new() })).await?;
        cancel.cancelled().await;
        Ok(())
    }
}

/// The ports without the inbox, which is heard beside the work.
struct SequencePorts<'a> {
    events: Publisher,
    subscription: &'a mut Subscription,
    commands: CommandSender,
    clock: Clock,
}

struct StartSequence {
    spec: Arc<ServerSpec>,
    timeout: Duration,
    recorder: OutputRecorder,
    outcome: RecordedStarts,
}

impl StartSequence {
    async fn run(&mut self, ports: &mut SequencePorts<'_>, starts: u8) -> Result<(), StartsError> {
        let card = ServerCard {
            display_name: String::from(&self.spec.display_name),
            model: Some(self.spec.model.clone()),
            port: self.spec.port,
            host: String::from(&self.spec.host),
            tier: None,
            thinking: false,
            enabled: true,
        };
        let configured = Event::ServerConfigured { card: card.into() };
        ports.events.publish(EventDraft::server(self.spec.id.clone(), configured)).await?;
        for start in 1..=starts {
            let recording = self.start(ports, start).await?;
            let (seconds, lines) = (recording.ready.as_secs_f64(), recording.lines.len());
            eprintln!("start {start} of {starts}: ready after {seconds:.2} s, {lines} lines");
            self.outcome.recordings.push(recording);
            self.stop(ports, start).await?;
        }
        Ok(())
    }

    async fn start(&mut self, ports: &mut SequencePorts<'_>, start: u8) -> Result<Recording, StartsError> {
        let (server, incarnation) = (self.spec.id.clone(), Incarnation::new(start.into()));
        ports.commands.send(LaunchCommand::LaunchServer { server, incarnation }).await?;
        let (spawned, port) = self.spawned(ports, start).await?;
        let spawned = ports.clock.instant(spawned);
        let truth = GroundTruth::of(&self.spec, port).await;
        let asked = async {
            loop {
                if let Some(served) = truth.ask().await {
                    return served;
                }
                tokio::time::sleep(PACE).await;
            }
        };
        let served = tokio::select! {
            served = asked => served,
            failure = failure(ports.subscription, start) => return Err(failure),
            () = tokio::time::sleep_until(spawned + self.timeout) => {
                return Err(StartsError::NotReady { start, timeout: self.timeout });
            }
        };
        tokio::select! {
            () = tokio::time::sleep_until(Instant::now() + LINGER) => {}
            failure = failure(ports.subscription, start) => return Err(failure),
        }
        if served.serving == Serving::Completing {
            self.outcome.health = HealthPath::Missing;
        }
        let lines = self.recorder.lines(incarnation).into_iter().map(|taken| RecordedLine {
            at: taken.at.saturating_duration_since(spawned),
            stream: taken.stream,
            line: taken.line,
        });
        let ready = served.at.saturating_duration_since(spawned);
        Ok(Recording { port, lines: lines.collect(), ready })
    }

    /// Waits for the process; notes what its executable said on the way.
    async fn spawned(&mut self, ports: &mut SequencePorts<'_>, start: u8) -> Result<(Uptime, u16), StartsError> {
        loop {
            let envelope = next(ports.subscription).await?;
            match &envelope.event {
                Event::BinaryIdentified(identity) => {
                    self.outcome.build = identity.build;
                    self.outcome.options = identity.options.to_vec();
                }
                Event::ServerSpawned { port, .. } => return Ok((envelope.elapsed, *port)),
                event => {
                    if let Some(failure) = failure_of(event, start) {
                        return Err(failure);
                    }
                }
            }
        }
    }

    async fn stop(&self, ports: &mut SequencePorts<'_>, start: u8) -> Result<(), StartsError> {
        let (server, incarnation) = (self.spec.id.clone(), Incarnation::new(start.into()));
        let reason = StopReason::Requested;
        ports.commands.send(TerminateCommand::TerminateServer { server, incarnation, reason, grace: None }).await?;
        let stopped = async {
            loop {
                if matches!(next(ports.subscription).await?.event, Event::ServerStopped { .. }) {
                    return Ok(());
                }
            }
        };
        let limit = STOP_TIMEOUT + self.spec.stop.grace;
        tokio::time::timeout(limit, stopped).await.unwrap_or(Err(StartsError::NotStopped { start }))
    }
}

/// Waits for what ends a start before its time.
async fn failure(subscription: &mut Subscription, start: u8) -> StartsError {
    loop {
        match next(subscription).await.map(|envelope| failure_of(&envelope.event, start)) {
            Ok(None) => {}
            Ok(Some(failure)) | Err(failure) => return failure,
        }
    }
}

async fn next(subscription: &mut Subscription) -> Result<Arc<Envelope>, StartsError> {
    match subscription.next().await {
        Some(Delivery::Event(envelope)) => Ok(envelope),
        Some(Delivery::Gap { .. }) | None => Err(StartsError::Lost),
    }
}

fn failure_of(event: &Event, start: u8) -> Option<StartsError> {
    match event {
        Event::ServerFailed { reason, detail, lines } => {
            Some(StartsError::Failed { start, detail: format!("{reason}: {detail}"), lines: lines.clone() })
        }
        Event::ServerExited { end, .. } => Some(StartsError::Failed {
            start,
            detail: format!("it ended before it was stopped: {end}"),
            lines: Vec::new(),
        }),
        _ => None,
    }
}
