//! One server with a simulated launcher and terminator.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use llama_warden_config::RestartPolicy;
use llama_warden_events::{
    CommandOutcome, Event, FailureReason, Incarnation, ProcessEnd, ReadyVia, RefusalReason, Refused, Seq, ServerId,
    Signal, StopReason, SuperviseCommand, Uptime,
};
use llama_warden_supervisor::{SupervisorAction, SupervisorMachine};
use proptest::prelude::*;

use crate::fixtures::{self, id, machine, release_all};

const NOW: Uptime = Uptime::new(Duration::ZERO);

/// Turns actions into the events that a launcher and a terminator would publish.
struct SingleServer {
    machine: SupervisorMachine,
    server: ServerId,
    seq: u64,
    running: Option<Incarnation>,
    launches: u64,
    stops: Vec<(StopReason, Option<Duration>)>,
    outcomes: BTreeMap<Seq, CommandOutcome>,
    published: Vec<SupervisorAction>,
    /// Events that the launcher and the terminator have not published yet.
    pending: VecDeque<(Incarnation, Event)>,
    result: LaunchResult,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LaunchResult {
    Ready,
    FailedBeforeSpawn,
    FailedWhileLoading,
    /// Nothing follows the spawn until the test publishes it.
    Loading,
}

impl SingleServer {
    fn new(result: LaunchResult) -> Self {
        let server = id("a");
        let mut machine = machine(None);
        machine.add(server.clone(), fixtures::policy(RestartPolicy::Never), 0);
        Self {
            machine,
            server,
            seq: 0,
            running: None,
            launches: 0,
            stops: Vec::new(),
            outcomes: BTreeMap::new(),
            published: Vec::new(),
            pending: VecDeque::new(),
            result,
        }
    }

    fn perform(&mut self, actions: Vec<SupervisorAction>) {
        for action in release_all(&mut self.machine, actions, NOW) {
            match action {
                SupervisorAction::Launch { incarnation, .. } => {
                    assert_eq!(self.running, None, "never two launches at once");
                    assert!(incarnation.get() > self.launches, "launches are numbered upwards");
                    self.launches = incarnation.get();
                    self.running = Some(incarnation);
                    self.script_launch(incarnation);
                }
                SupervisorAction::Terminate { incarnation, reason, grace, .. } => {
                    self.stops.push((reason, grace));
                    if self.running == Some(incarnation) {
                        self.pending.retain(|(_, event)| !matches!(event, Event::ReadyReached { .. }));
                        let end = ProcessEnd::Signaled { signal: Signal::TERM, core_dumped: false };
                        let began = Event::StopBegan { reason, grace_seconds: 10.0 };
                        let stopped = Event::ServerStopped { reason, forced: false, stop_seconds: 0.1 };
                        self.pending.push_back((incarnation, began));
                        self.pending.push_back((incarnation, Event::ServerExited { end, swept: 0 }));
                        self.pending.push_back((incarnation, stopped));
                    }
                }
                SupervisorAction::Complete { id, outcome, .. } => {
                    let before = self.outcomes.insert(id, outcome);
                    assert_eq!(before, None, "a command is answered once");
                }
                publication => self.published.push(publication),
            }
        }
    }

    fn script_launch(&mut self, incarnation: Incarnation) {
        let spawned = Event::ServerSpawned { pid: 1, start_ticks: 1, argv: [].into(), port: 8001 };
        let failed = |reason| Event::ServerFailed { reason, detail: "why".to_owned(), lines: vec![] };
        let pending = &mut self.pending;
        pending.push_back((incarnation, Event::LaunchBegan { binary: "llama-server".into() }));
        match self.result {
            LaunchResult::Ready => {
                pending.push_back((incarnation, spawned));
                pending.push_back((incarnation, Event::ReadyReached { via: ReadyVia::Health, startup_seconds: 1.0 }));
            }
            LaunchResult::Loading => pending.push_back((incarnation, spawned)),
            LaunchResult::FailedBeforeSpawn => pending.push_back((incarnation, failed(FailureReason::ModelNotFound))),
            LaunchResult::FailedWhileLoading => {
                pending.push_back((incarnation, spawned));
                let end = ProcessEnd::Exited { code: 1 };
                pending.push_back((incarnation, Event::ServerExited { end, swept: 0 }));
                pending.push_back((incarnation, failed(FailureReason::ModelInvalid)));
            }
        }
    }

    /// Publishes one pending event; false if there is none.
    fn publish_next(&mut self) -> bool {
        let Some((incarnation, event)) = self.pending.pop_front() else { return false };
        if self.running != Some(incarnation) && matches!(event, Event::ServerExited { .. }) {
            return true;
        }
        let over = matches!(event, Event::ServerExited { .. })
            || matches!(event, Event::ServerFailed { .. }) && self.result == LaunchResult::FailedBeforeSpawn;
        if over {
            self.running = None;
        }
        self.publish(incarnation, event);
        true
    }

    fn publish(&mut self, incarnation: Incarnation, event: Event) {
        self.seq += 1;
        let envelope = fixtures::envelope(self.seq, NOW, self.server.clone(), incarnation, event);
        let actions = self.machine.on_event(&envelope);
        self.perform(actions);
    }

    fn publish_all(&mut self) {
        while self.publish_next() {}
    }

    fn command(&mut self, command: SuperviseCommand) -> Seq {
        self.seq += 1;
        let id = Seq::new(self.seq);
        let actions = self.machine.on_command(command, id, NOW);
        self.perform(actions);
        id
    }

    fn start(&mut self) -> Seq {
        let server = self.server.clone();
        self.command(SuperviseCommand::StartServer { server })
    }

    fn stop(&mut self) -> Seq {
        let server = self.server.clone();
        self.command(SuperviseCommand::StopServer { server, grace: None, force: false })
    }

    fn restart(&mut self) -> Seq {
        let server = self.server.clone();
        self.command(SuperviseCommand::RestartServer { server, grace: None, force: false })
    }
}

fn daemon_event(event: Event) -> SupervisorAction {
    SupervisorAction::Publish { server: None, incarnation: None, event }
}

#[test]
fn a_started_server_completes_its_command_when_it_is_ready() {
    let mut simulation = SingleServer::new(LaunchResult::Ready);
    let id = simulation.start();
    assert_eq!(simulation.outcomes.get(&id), None);
    simulation.publish_all();
    assert_eq!(simulation.outcomes[&id], CommandOutcome::Ready);
    let again = simulation.start();
    assert_eq!((simulation.outcomes[&again].clone(), simulation.launches), (CommandOutcome::Ready, 1));
}

#[test]
fn a_failure_before_the_spawn_and_one_while_loading_reach_the_caller_with_their_reason() {
    for (result, reason) in [
        (LaunchResult::FailedBeforeSpawn, FailureReason::ModelNotFound),
        (LaunchResult::FailedWhileLoading, FailureReason::ModelInvalid),
    ] {
        let mut simulation = SingleServer::new(result);
        let id = simulation.start();
        simulation.publish_all();
        assert_eq!(simulation.outcomes[&id], CommandOutcome::Failed { reason, detail: "why".to_owned() });
        assert_eq!((simulation.launches, simulation.running), (1, None), "no retry without a policy");
        simulation.result = LaunchResult::Ready;
        let again = simulation.start();
        simulation.publish_all();
        assert_eq!(simulation.outcomes[&again], CommandOutcome::Ready, "the earlier failure is forgotten");
    }
}

#[test]
fn a_failed_server_whose_process_still_runs_is_stopped() {
    let mut simulation = SingleServer::new(LaunchResult::Loading);
    let id = simulation.start();
    simulation.publish_all();
    let failed =
        Event::ServerFailed { reason: FailureReason::ReadyTimeout, detail: "not ready".to_owned(), lines: vec![] };
    simulation.publish(Incarnation::new(1), failed);
    assert_eq!(simulation.stops, [(StopReason::Failed, None)]);
    assert!(matches!(simulation.outcomes[&id], CommandOutcome::Failed { reason: FailureReason::ReadyTimeout, .. }));
    simulation.publish_all();
    assert_eq!((simulation.running, simulation.launches), (None, 1));
}

#[test]
fn a_stop_before_the_launcher_has_begun_waits_for_it_and_then_signals() {
    let mut simulation = SingleServer::new(LaunchResult::Ready);
    let start = simulation.start();
    let stop = simulation.stop();
    assert_eq!(simulation.stops, [], "a signal would find nothing yet");
    assert_eq!(simulation.outcomes[&start], CommandOutcome::Superseded { by: stop });
    simulation.publish_all();
    assert_eq!(simulation.stops, [(StopReason::Requested, None)]);
    assert_eq!((simulation.outcomes[&stop].clone(), simulation.running), (CommandOutcome::Stopped, None));
}

#[test]
fn a_start_while_stopping_waits_for_the_end_and_launches_again() {
    let mut simulation = SingleServer::new(LaunchResult::Ready);
    simulation.start();
    simulation.publish_all();
    let stop = simulation.stop();
    let start = simulation.start();
    simulation.publish_all();
    assert_eq!(simulation.outcomes[&stop], CommandOutcome::Stopped);
    assert_eq!(simulation.outcomes[&start], CommandOutcome::Ready);
    assert_eq!((simulation.running, simulation.launches), (Some(Incarnation::new(2)), 2));
}

#[test]
fn a_restart_is_done_when_a_later_launch_is_ready() {
    let mut simulation = SingleServer::new(LaunchResult::Ready);
    simulation.start();
    simulation.publish_all();
    let restart = simulation.restart();
    assert_eq!(simulation.stops, [(StopReason::Restart, None)]);
    assert_eq!(simulation.outcomes.get(&restart), None);
    simulation.publish_all();
    assert_eq!(
        (simulation.outcomes[&restart].clone(), simulation.running),
        (CommandOutcome::Ready, Some(Incarnation::new(2)))
    );
}

#[test]
fn a_repeated_stop_joins_and_a_forced_one_reaches_the_terminator() {
    let mut simulation = SingleServer::new(LaunchResult::Ready);
    simulation.start();
    simulation.publish_all();
    let first = simulation.stop();
    let second = simulation.stop();
    assert_eq!(simulation.stops.len(), 1);
    let server = simulation.server.clone();
    let forced = simulation.command(SuperviseCommand::StopServer { server, grace: None, force: true });
    assert_eq!(simulation.stops[1], (StopReason::Requested, Some(Duration::ZERO)));
    simulation.publish_all();
    for id in [first, second, forced] {
        assert_eq!(simulation.outcomes[&id], CommandOutcome::Stopped);
    }
}

#[test]
fn a_crash_leaves_the_server_down_and_a_stop_of_it_is_done_at_once() {
    let mut simulation = SingleServer::new(LaunchResult::Ready);
    simulation.start();
    simulation.publish_all();
    let end = ProcessEnd::Signaled { signal: Signal::KILL, core_dumped: false };
    simulation.running = None;
    simulation.publish(Incarnation::new(1), Event::ServerExited { end, swept: 0 });
    let crashed = Event::ServerFailed { reason: FailureReason::Crashed, detail: String::new(), lines: vec![] };
    simulation.publish(Incarnation::new(1), crashed);
    assert_eq!((simulation.launches, simulation.stops.len()), (1, 0));
    let stop = simulation.stop();
    assert_eq!(simulation.outcomes[&stop], CommandOutcome::Stopped);
}

#[test]
fn a_shutdown_stops_everything_takes_no_start_and_announces_its_end_once() {
    let mut simulation = SingleServer::new(LaunchResult::Ready);
    simulation.start();
    simulation.publish_all();
    let trigger = "test".to_owned();
    let shutdown = simulation.command(SuperviseCommand::ShutDown { trigger, force: false });
    let server = simulation.server.clone();
    let refused = simulation.machine.refusal(&SuperviseCommand::StartServer { server }, NOW);
    assert_eq!(refused.map(|refused| refused.reason), Some(RefusalReason::ShuttingDown));
    simulation.publish_all();
    assert_eq!(simulation.outcomes[&shutdown], CommandOutcome::Stopped);
    assert_eq!(
        simulation.published,
        [
            daemon_event(Event::DaemonStopping { trigger: "test".to_owned() }),
            daemon_event(Event::DaemonStopped { survivors: vec![] })
        ]
    );
}

#[test]
fn a_shutdown_kills_near_its_deadline_and_names_the_survivors_at_it() {
    let mut simulation = SingleServer::new(LaunchResult::Ready);
    simulation.start();
    simulation.publish_all();
    let trigger = "test".to_owned();
    let actions =
        simulation.machine.on_command(SuperviseCommand::ShutDown { trigger, force: false }, Seq::new(90), NOW);
    let actions = release_all(&mut simulation.machine, actions, NOW);
    assert!(actions.iter().any(|action| matches!(action, SupervisorAction::Terminate { grace: None, .. })));
    let at = |seconds| Uptime::new(Duration::from_secs(seconds));
    assert_eq!(simulation.machine.next_deadline(), Some(at(27)));
    let forced = simulation.machine.on_deadline(at(27));
    assert!(matches!(&forced[..], [SupervisorAction::Terminate { grace: Some(Duration::ZERO), .. }]), "{forced:?}");
    assert_eq!(simulation.machine.next_deadline(), Some(at(30)));
    assert_eq!(
        simulation.machine.on_deadline(at(30)),
        [daemon_event(Event::DaemonStopped { survivors: vec![simulation.server.clone()] })]
    );
    assert_eq!(simulation.machine.next_deadline(), None);
}

#[test]
fn an_unknown_server_is_refused_with_the_known_ones_named() {
    let simulation = SingleServer::new(LaunchResult::Ready);
    let refused = simulation.machine.refusal(&SuperviseCommand::StartServer { server: id("b") }, NOW).expect("refused");
    assert_eq!(refused.reason, RefusalReason::UnknownServer);
    assert!(refused.detail.ends_with("there are: a"), "{}", refused.detail);
}

#[test]
fn a_refused_launch_reaches_the_caller() {
    let mut simulation = SingleServer::new(LaunchResult::Ready);
    let start = simulation.start();
    let refused = Refused::new(RefusalReason::QueueFull, "too many");
    let server = simulation.server.clone();
    let actions = simulation.machine.on_launch_refused(&server, Incarnation::new(1), &refused, NOW);
    simulation.running = None;
    simulation.perform(actions);
    assert!(matches!(simulation.outcomes[&start], CommandOutcome::Failed { reason: FailureReason::Refused, .. }));
}

proptest! {
    #[test]
    fn whatever_crosses_every_command_is_answered_once_and_the_last_request_wins(
        result in prop_oneof![Just(LaunchResult::Ready), Just(LaunchResult::FailedBeforeSpawn), Just(LaunchResult::FailedWhileLoading)],
        script in prop::collection::vec((0_u8..3, 0_usize..6), 1..40),
    ) {
        let mut simulation = SingleServer::new(result);
        let mut asked = 0;
        let mut last_is_stop = true;
        for (command, steps) in script {
            match command {
                0 => simulation.start(),
                1 => simulation.stop(),
                _ => simulation.restart(),
            };
            last_is_stop = command == 1;
            asked += 1;
            for _ in 0..steps {
                simulation.publish_next();
            }
        }
        simulation.publish_all();
        prop_assert_eq!(simulation.outcomes.len(), asked);
        let should_run = !last_is_stop && result == LaunchResult::Ready;
        prop_assert_eq!(simulation.running.is_some(), should_run);
    }
}
