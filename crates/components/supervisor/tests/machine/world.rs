//! One server whose launcher and terminator are simulated.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use llama_warden_config::RestartPolicy;
use llama_warden_events::{
    CommandOutcome, Event, FailureReason, Incarnation, ProcessEnd, ReadyVia, RefusalReason, Refused, Seq, ServerId,
    Signal, StopReason, SuperviseCommand, Uptime,
};
use llama_warden_supervisor::{Action, Machine};
use proptest::prelude::*;

use crate::support::{self, id, machine, restart};

const NOW: Uptime = Uptime::new(Duration::ZERO);

/// Turns actions into the events that a launcher and a terminator would publish.
struct World {
    machine: Machine,
    server: ServerId,
    seq: u64,
    running: Option<Incarnation>,
    launches: u64,
    stops: Vec<(StopReason, Option<Duration>)>,
    outcomes: BTreeMap<Seq, CommandOutcome>,
    announcements: Vec<Action>,
    /// What the launcher still has to tell.
    pending: VecDeque<(Incarnation, Event)>,
    becomes: Becomes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Becomes {
    Ready,
    FailedBeforeSpawn,
    FailedWhileLoading,
    /// Nothing happens after the spawn until the test says so.
    Loading,
}

impl World {
    fn new(becomes: Becomes) -> Self {
        let server = id("a");
        let mut machine = machine(None);
        machine.add(server.clone(), restart(RestartPolicy::Never), 0);
        Self {
            machine,
            server,
            seq: 0,
            running: None,
            launches: 0,
            stops: Vec::new(),
            outcomes: BTreeMap::new(),
            announcements: Vec::new(),
            pending: VecDeque::new(),
            becomes,
        }
    }

    fn take(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Launch { incarnation, .. } => {
                    assert_eq!(self.running, None, "never two launches at once");
                    assert!(incarnation.get() > self.launches, "launches are numbered upwards");
                    self.launches = incarnation.get();
                    self.running = Some(incarnation);
                    self.launcher_tells(incarnation);
                }
                Action::Terminate { incarnation, reason, grace, .. } => {
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
                Action::Complete { id, outcome, .. } => {
                    let before = self.outcomes.insert(id, outcome);
                    assert_eq!(before, None, "a command is answered once");
                }
                announcement => self.announcements.push(announcement),
            }
        }
    }

    fn launcher_tells(&mut self, incarnation: Incarnation) {
        let spawned = Event::ServerSpawned { pid: 1, start_ticks: 1, argv: [].into(), port: 8001 };
        let failed = |reason| Event::ServerFailed { reason, detail: "why".to_owned(), lines: vec![] };
        let tell = &mut self.pending;
        tell.push_back((incarnation, Event::LaunchBegan { binary: "llama-server".into() }));
        match self.becomes {
            Becomes::Ready => {
                tell.push_back((incarnation, spawned));
                tell.push_back((incarnation, Event::ReadyReached { via: ReadyVia::Health, startup_seconds: 1.0 }));
            }
            Becomes::Loading => tell.push_back((incarnation, spawned)),
            Becomes::FailedBeforeSpawn => tell.push_back((incarnation, failed(FailureReason::ModelNotFound))),
            Becomes::FailedWhileLoading => {
                tell.push_back((incarnation, spawned));
                let end = ProcessEnd::Exited { code: 1 };
                tell.push_back((incarnation, Event::ServerExited { end, swept: 0 }));
                tell.push_back((incarnation, failed(FailureReason::ModelInvalid)));
            }
        }
    }

    /// Lets one pending event happen.
    fn step(&mut self) -> bool {
        let Some((incarnation, event)) = self.pending.pop_front() else { return false };
        if self.running != Some(incarnation) && matches!(event, Event::ServerExited { .. }) {
            return true;
        }
        let over = matches!(event, Event::ServerExited { .. })
            || matches!(event, Event::ServerFailed { .. }) && self.becomes == Becomes::FailedBeforeSpawn;
        if over {
            self.running = None;
        }
        self.event(incarnation, event);
        true
    }

    fn event(&mut self, incarnation: Incarnation, event: Event) {
        self.seq += 1;
        let envelope = support::envelope(self.seq, NOW, self.server.clone(), incarnation, event);
        let actions = self.machine.on_event(&envelope);
        self.take(actions);
    }

    fn settle(&mut self) {
        while self.step() {}
    }

    fn command(&mut self, command: SuperviseCommand) -> Seq {
        self.seq += 1;
        let id = Seq::new(self.seq);
        let actions = self.machine.on_command(command, id, NOW);
        self.take(actions);
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

#[test]
fn a_started_server_completes_its_command_when_it_is_ready() {
    let mut world = World::new(Becomes::Ready);
    let id = world.start();
    assert_eq!(world.outcomes.get(&id), None);
    world.settle();
    assert_eq!(world.outcomes[&id], CommandOutcome::Ready);
    let again = world.start();
    assert_eq!((world.outcomes[&again].clone(), world.launches), (CommandOutcome::Ready, 1));
}

#[test]
fn a_failure_before_the_spawn_and_one_while_loading_reach_the_caller_with_their_reason() {
    for (becomes, reason) in [
        (Becomes::FailedBeforeSpawn, FailureReason::ModelNotFound),
        (Becomes::FailedWhileLoading, FailureReason::ModelInvalid),
    ] {
        let mut world = World::new(becomes);
        let id = world.start();
        world.settle();
        assert_eq!(world.outcomes[&id], CommandOutcome::Failed { reason, detail: "why".to_owned() });
        assert_eq!((world.launches, world.running), (1, None), "no retry without a policy");
        world.becomes = Becomes::Ready;
        let again = world.start();
        world.settle();
        assert_eq!(world.outcomes[&again], CommandOutcome::Ready, "the earlier failure is forgotten");
    }
}

#[test]
fn a_failed_server_whose_process_still_runs_is_stopped() {
    let mut world = World::new(Becomes::Loading);
    let id = world.start();
    world.settle();
    let failed =
        Event::ServerFailed { reason: FailureReason::ReadyTimeout, detail: "not ready".to_owned(), lines: vec![] };
    world.event(Incarnation::new(1), failed);
    assert_eq!(world.stops, [(StopReason::Failed, None)]);
    assert!(matches!(world.outcomes[&id], CommandOutcome::Failed { reason: FailureReason::ReadyTimeout, .. }));
    world.settle();
    assert_eq!((world.running, world.launches), (None, 1));
}

#[test]
fn a_stop_before_the_launcher_has_begun_waits_for_it_and_then_signals() {
    let mut world = World::new(Becomes::Ready);
    let start = world.start();
    let stop = world.stop();
    assert_eq!(world.stops, [], "a signal would find nothing yet");
    assert_eq!(world.outcomes[&start], CommandOutcome::Superseded { by: stop });
    world.settle();
    assert_eq!(world.stops, [(StopReason::Requested, None)]);
    assert_eq!((world.outcomes[&stop].clone(), world.running), (CommandOutcome::Stopped, None));
}

#[test]
fn a_start_while_stopping_waits_for_the_end_and_launches_again() {
    let mut world = World::new(Becomes::Ready);
    world.start();
    world.settle();
    let stop = world.stop();
    let start = world.start();
    world.settle();
    assert_eq!(world.outcomes[&stop], CommandOutcome::Stopped);
    assert_eq!(world.outcomes[&start], CommandOutcome::Ready);
    assert_eq!((world.running, world.launches), (Some(Incarnation::new(2)), 2));
}

#[test]
fn a_restart_is_done_when_a_later_launch_is_ready() {
    let mut world = World::new(Becomes::Ready);
    world.start();
    world.settle();
    let restart = world.restart();
    assert_eq!(world.stops, [(StopReason::Restart, None)]);
    assert_eq!(world.outcomes.get(&restart), None);
    world.settle();
    assert_eq!((world.outcomes[&restart].clone(), world.running), (CommandOutcome::Ready, Some(Incarnation::new(2))));
}

#[test]
fn a_repeated_stop_joins_and_a_forced_one_reaches_the_terminator() {
    let mut world = World::new(Becomes::Ready);
    world.start();
    world.settle();
    let first = world.stop();
    let second = world.stop();
    assert_eq!(world.stops.len(), 1);
    let server = world.server.clone();
    let forced = world.command(SuperviseCommand::StopServer { server, grace: None, force: true });
    assert_eq!(world.stops[1], (StopReason::Requested, Some(Duration::ZERO)));
    world.settle();
    for id in [first, second, forced] {
        assert_eq!(world.outcomes[&id], CommandOutcome::Stopped);
    }
}

#[test]
fn a_crash_leaves_the_server_down_and_a_stop_of_it_is_done_at_once() {
    let mut world = World::new(Becomes::Ready);
    world.start();
    world.settle();
    let end = ProcessEnd::Signaled { signal: Signal::KILL, core_dumped: false };
    world.running = None;
    world.event(Incarnation::new(1), Event::ServerExited { end, swept: 0 });
    let crashed = Event::ServerFailed { reason: FailureReason::Crashed, detail: String::new(), lines: vec![] };
    world.event(Incarnation::new(1), crashed);
    assert_eq!((world.launches, world.stops.len()), (1, 0));
    let stop = world.stop();
    assert_eq!(world.outcomes[&stop], CommandOutcome::Stopped);
}

#[test]
fn a_shutdown_stops_everything_takes_no_start_and_announces_its_end_once() {
    let mut world = World::new(Becomes::Ready);
    world.start();
    world.settle();
    let trigger = "test".to_owned();
    let shutdown = world.command(SuperviseCommand::ShutDown { trigger, force: false });
    let server = world.server.clone();
    let refused = world.machine.refusal(&SuperviseCommand::StartServer { server });
    assert_eq!(refused.map(|refused| refused.reason), Some(RefusalReason::ShuttingDown));
    world.settle();
    assert_eq!(world.outcomes[&shutdown], CommandOutcome::Stopped);
    assert_eq!(
        world.announcements,
        [Action::AnnounceStopping { trigger: "test".to_owned() }, Action::AnnounceStopped { survivors: vec![] }]
    );
}

#[test]
fn a_shutdown_kills_near_its_deadline_and_names_the_survivors_at_it() {
    let mut world = World::new(Becomes::Ready);
    world.start();
    world.settle();
    let trigger = "test".to_owned();
    let actions = world.machine.on_command(SuperviseCommand::ShutDown { trigger, force: false }, Seq::new(90), NOW);
    assert!(actions.iter().any(|action| matches!(action, Action::Terminate { grace: None, .. })));
    let at = |seconds| Uptime::new(Duration::from_secs(seconds));
    assert_eq!(world.machine.next_deadline(), Some(at(27)));
    let forced = world.machine.on_deadline(at(27));
    assert!(matches!(&forced[..], [Action::Terminate { grace: Some(Duration::ZERO), .. }]), "{forced:?}");
    assert_eq!(world.machine.next_deadline(), Some(at(30)));
    assert_eq!(world.machine.on_deadline(at(30)), [Action::AnnounceStopped { survivors: vec![world.server.clone()] }]);
    assert_eq!(world.machine.next_deadline(), None);
}

#[test]
fn an_unknown_server_is_refused_with_the_known_ones_named() {
    let world = World::new(Becomes::Ready);
    let refused = world.machine.refusal(&SuperviseCommand::StartServer { server: id("b") }).expect("refused");
    assert_eq!(refused.reason, RefusalReason::UnknownServer);
    assert!(refused.detail.ends_with("there are: a"), "{}", refused.detail);
}

#[test]
fn a_refused_launch_reaches_the_caller() {
    let mut world = World::new(Becomes::Ready);
    let start = world.start();
    let refused = Refused::new(RefusalReason::QueueFull, "too many");
    let server = world.server.clone();
    let actions = world.machine.on_launch_refused(&server, Incarnation::new(1), &refused, NOW);
    world.running = None;
    world.take(actions);
    assert!(matches!(world.outcomes[&start], CommandOutcome::Failed { reason: FailureReason::Refused, .. }));
}

proptest! {
    #[test]
    fn whatever_crosses_every_command_is_answered_once_and_the_last_wish_wins(
        becomes in prop_oneof![Just(Becomes::Ready), Just(Becomes::FailedBeforeSpawn), Just(Becomes::FailedWhileLoading)],
        script in prop::collection::vec((0_u8..3, 0_usize..6), 1..40),
    ) {
        let mut world = World::new(becomes);
        let mut asked = 0;
        let mut last_is_stop = true;
        for (command, steps) in script {
            match command {
                0 => world.start(),
                1 => world.stop(),
                _ => world.restart(),
            };
            last_is_stop = command == 1;
            asked += 1;
            for _ in 0..steps {
                world.step();
            }
        }
        world.settle();
        prop_assert_eq!(world.outcomes.len(), asked);
        let should_run = !last_is_stop && becomes == Becomes::Ready;
        prop_assert_eq!(world.running.is_some(), should_run);
    }
}
