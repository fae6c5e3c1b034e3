//! Starts one server several times and records how it becomes ready. This component replaces the supervisor.
//!
//! The daemon's own launcher and terminator run the processes, so that none is left behind, however this program ends.

use std::sync::Arc;
use std::time::Duration;

use llama_warden_bus::{BusClosed, Clock, CommandSender, CommandSetId, Delivery, EventDraft, Publisher, Subscription};
use llama_warden_component::{Component, Ports};
use llama_warden_config::ServerSpec;
use llama_warden_detectors::{HealthPath, RecordedLine, Recording};
use llama_warden_events::{
    Envelope, Event, Incarnation, LaunchCommand, Refused, StopReason, SuperviseCommand, TerminateCommand, Uptime,
};
use llama_warden_readiness::{GroundTruth, Serving};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::recorder::OutputRecorder;
use llama_warden_terminal::output::print_note;

/// Pause between two probes. It bounds the error of the time of readiness, and so which lines came before it.
const PROBE_INTERVAL: Duration = Duration::from_millis(5);
/// Time to record after readiness: the ready line may come after the first answer.
const LINGER: Duration = Duration::from_millis(400);
/// Longest time for a stop, beyond its grace.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// The component that starts a server several times.
#[derive(Debug)]
pub struct RepeatedStarts {
    /// The server that is started.
    pub spec: Arc<ServerSpec>,
    /// Number of starts.
    pub starts: u8,
    /// Longest time from a spawn to readiness.
    pub timeout: Duration,
    /// Registered on the output lane already.
    pub recorder: OutputRecorder,
    /// Receives the result before the component ends.
    pub report: oneshot::Sender<Result<RecordedStarts, StartsError>>,
}

/// The records of all starts, and the identity of the executable.
#[derive(Debug)]
pub struct RecordedStarts {
    /// The number of the build, if it says one.
    pub build: Option<u64>,
    /// The options that its help lists.
    pub options: Vec<String>,
    /// Whether it answers on `/health`.
    pub health: HealthPath,
    /// The output of each start.
    pub recordings: Vec<Recording>,
}

/// Why the starts were not completed.
#[derive(Debug, thiserror::Error)]
pub enum StartsError {
    /// A start ended in a failure.
    #[error("start {start} failed: {detail}")]
    Failed {
        /// The number of the start, from 1.
        start: u8,
        /// Why it failed.
        detail: String,
        /// The last lines of its output.
        lines: Vec<String>,
    },
    /// A server was not ready in time.
    #[error("start {start} is not ready after {} s", timeout.as_secs_f64())]
    NotReady {
        /// The number of the start, from 1.
        start: u8,
        /// The longest time that it was given.
        timeout: Duration,
    },
    /// A server did not end.
    #[error("start {start} does not end")]
    NotStopped {
        /// The number of the start, from 1.
        start: u8,
    },
    /// A launch was refused.
    #[error("the launcher refused: {0}")]
    Refused(#[from] Refused),
    /// The bus is closed, or the component missed events.
    #[error("events were lost")]
    Lost,
    /// The user interrupted it.
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
    const SENDS: &'static [CommandSetId] =
        &[CommandSetId::of::<LaunchCommand>(), CommandSetId::of::<TerminateCommand>()];
    type Command = SuperviseCommand;
    type Error = BusClosed;

    async fn run(self, ports: Ports<SuperviseCommand>) -> Result<(), BusClosed> {
        let Ports { events, commands, inbox, clock, cancel } = ports;
        let (subscription, mut requests) = inbox.split();
        let outcome =
            RecordedStarts { build: None, options: Vec::new(), health: HealthPath::Answers, recordings: Vec::new() };
        let Self { spec, starts, timeout, recorder, report } = self;
        let mut sequence =
            StartSequence { spec, timeout, recorder, outcome, events: events.clone(), subscription, commands, clock };
        let ended = tokio::select! {
            ended = sequence.run(starts) => ended,
            // The only command that is sent here is `ShutDown`, for a signal.
            request = requests.recv() => {
                request.accept(None);
                Err(StartsError::Interrupted)
            }
            () = cancel.cancelled() => Err(StartsError::Interrupted),
        };
        // Fails only if the receiver has gone, and with it the interest.
        let _ = report.send(ended.map(|()| sequence.outcome));
        // On this event the host cancels every component; the launcher kills whatever still runs.
        events.publish(EventDraft::daemon(Event::DaemonStopped { survivors: Vec::new() })).await?;
        cancel.cancelled().await;
        Ok(())
    }
}

/// The starts so far, with the ports of the component but its inbox, which is read in parallel.
struct StartSequence {
    spec: Arc<ServerSpec>,
    timeout: Duration,
    recorder: OutputRecorder,
    outcome: RecordedStarts,
    events: Publisher,
    subscription: Subscription,
    commands: CommandSender,
    clock: Clock,
}

impl StartSequence {
    async fn run(&mut self, starts: u8) -> Result<(), StartsError> {
        let configured = Event::ServerConfigured { card: self.spec.card().into() };
        self.events.publish(EventDraft::server(self.spec.id.clone(), configured)).await?;
        for start in 1..=starts {
            let recording = self.start(start).await?;
            let (seconds, lines) = (recording.ready.as_secs_f64(), recording.lines.len());
            print_note(format_args!("start {start} of {starts}: ready after {seconds:.2} s, {lines} lines"));
            self.outcome.recordings.push(recording);
            self.stop(start).await?;
        }
        Ok(())
    }

    async fn start(&mut self, start: u8) -> Result<Recording, StartsError> {
        let (server, incarnation) = (self.spec.id.clone(), Incarnation::new(start.into()));
        self.commands.send(LaunchCommand::LaunchServer { server, incarnation }).await?;
        let (spawned, port) = self.spawned(start).await?;
        let spawned = self.clock.instant(spawned);
        let truth = GroundTruth::of(&self.spec, port).await;
        let probing = async {
            loop {
                if let Some(answer) = truth.ask().await {
                    return answer;
                }
                tokio::time::sleep(PROBE_INTERVAL).await;
            }
        };
        // The server may fail, or never answer, while it is probed.
        let answer = tokio::select! {
            answer = probing => answer,
            failure = failure(&mut self.subscription, start) => return Err(failure),
            () = tokio::time::sleep_until(spawned + self.timeout) => {
                return Err(StartsError::NotReady { start, timeout: self.timeout });
            }
        };
        tokio::select! {
            () = tokio::time::sleep_until(Instant::now() + LINGER) => {}
            failure = failure(&mut self.subscription, start) => return Err(failure),
        }
        if answer.serving == Serving::Completing {
            self.outcome.health = HealthPath::Missing;
        }
        let lines = self.recorder.lines(incarnation).into_iter().map(|line| RecordedLine {
            at: line.at.saturating_duration_since(spawned),
            stream: line.stream,
            line: line.line,
        });
        let ready = answer.at.saturating_duration_since(spawned);
        Ok(Recording { port, lines: lines.collect(), ready })
    }

    /// Waits for the process, and keeps the identity of its executable. Returns the time of the spawn and the port.
    async fn spawned(&mut self, start: u8) -> Result<(Uptime, u16), StartsError> {
        loop {
            let envelope = next(&mut self.subscription).await?;
            match &envelope.event {
                Event::BinaryIdentified(identity) => {
                    self.outcome.build = identity.build;
                    self.outcome.options = identity.options.to_vec();
                }
                Event::ServerSpawned { port, .. } => return Ok((envelope.elapsed, *port)),
                event => check(event, start)?,
            }
        }
    }

    async fn stop(&mut self, start: u8) -> Result<(), StartsError> {
        let (server, incarnation) = (self.spec.id.clone(), Incarnation::new(start.into()));
        let reason = StopReason::Requested;
        self.commands.send(TerminateCommand::TerminateServer { server, incarnation, reason, grace: None }).await?;
        let stopped = async {
            loop {
                if matches!(next(&mut self.subscription).await?.event, Event::ServerStopped { .. }) {
                    return Ok(());
                }
            }
        };
        let limit = STOP_TIMEOUT + self.spec.stop.grace;
        tokio::time::timeout(limit, stopped).await.unwrap_or(Err(StartsError::NotStopped { start }))
    }
}

/// Waits for an event that makes a start fail.
async fn failure(subscription: &mut Subscription, start: u8) -> StartsError {
    loop {
        let checked = next(subscription).await.and_then(|envelope| check(&envelope.event, start));
        if let Err(failure) = checked {
            return failure;
        }
    }
}

async fn next(subscription: &mut Subscription) -> Result<Arc<Envelope>, StartsError> {
    match subscription.next().await {
        Some(Delivery::Event(envelope)) => Ok(envelope),
        Some(Delivery::Gap { .. }) | None => Err(StartsError::Lost),
    }
}

/// Fails for an event that ends a start before it is stopped.
fn check(event: &Event, start: u8) -> Result<(), StartsError> {
    let (detail, lines) = match event {
        Event::ServerFailed { reason, detail, lines } => (format!("{reason}: {detail}"), lines.clone()),
        Event::ServerExited { end, .. } => (format!("the process ended before it was stopped: {end}"), Vec::new()),
        _ => return Ok(()),
    };
    Err(StartsError::Failed { start, detail, lines })
}

#[cfg(test)]
mod tests {
    use llama_warden_component_kit::{compliance, spec};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn repeated_starts_comply() {
        compliance::check(|_| RepeatedStarts {
            spec: spec("a", ""),
            starts: 1,
            timeout: Duration::from_secs(1),
            recorder: OutputRecorder::default(),
            report: oneshot::channel().0,
        })
        .await;
    }
}
