//! Several servers: restarts, limits and switches. The tests publish the events of the launches themselves.

use std::time::Duration;

use llama_warden_component_kit::card;
use llama_warden_config::RestartPolicy;
use llama_warden_events::{
    BootId, CommandOutcome, Event, FailureReason, Incarnation, ProcessEnd, ReadyVia, RefusalReason, Seq, StopReason,
    SuperviseCommand, Uptime,
};
use llama_warden_state::Snapshot;
use llama_warden_supervisor::{
    DesiredServer, FaultyFile, RESTARTS_AT_ONCE, ServerGoal, SupervisorAction, SupervisorMachine,
};

use crate::fixtures::{self, envelope, id, machine, release_all};

const NOW: Uptime = Uptime::new(Duration::ZERO);

/// A machine, and the `seq` of its last event.
struct Fleet {
    machine: SupervisorMachine,
    seq: u64,
}

impl Fleet {
    fn new(names: &[&str], starts: Option<usize>, policy: RestartPolicy) -> Self {
        let mut machine = machine(starts);
        for name in names {
            machine.add(id(name), fixtures::policy(policy), 0);
        }
        Self { machine, seq: 0 }
    }

    fn publish(
        &mut self,
        name: &str,
        incarnation: u64,
        at: f64,
        events: impl IntoIterator<Item = Event>,
    ) -> Vec<SupervisorAction> {
        let mut actions = Vec::new();
        for event in events {
            self.seq += 1;
            let envelope = envelope(
                self.seq,
                Uptime::new(Duration::from_secs_f64(at)),
                id(name),
                Incarnation::new(incarnation),
                event,
            );
            actions.extend(self.machine.on_event(&envelope));
        }
        actions
    }

    fn command(&mut self, command: SuperviseCommand, id: Seq, now: Uptime) -> Vec<SupervisorAction> {
        let actions = self.machine.on_command(command, id, now);
        release_all(&mut self.machine, actions, now)
    }

    fn switch(&mut self, desired: &[DesiredServer], id: Option<Seq>) -> Vec<SupervisorAction> {
        let actions = self.machine.switch(desired, id, NOW);
        release_all(&mut self.machine, actions, NOW)
    }

    fn become_ready(&mut self, name: &str, incarnation: u64, at: f64) -> Vec<SupervisorAction> {
        let spawned = Event::ServerSpawned { pid: 1, start_ticks: 1, argv: [].into(), port: 8001 };
        let ready = Event::ReadyReached { via: ReadyVia::Health, startup_seconds: 1.0 };
        self.publish(name, incarnation, at, [Event::LaunchBegan { binary: "x".into() }, spawned, ready])
    }

    fn crash(&mut self, name: &str, incarnation: u64, at: f64) -> Vec<SupervisorAction> {
        let end = ProcessEnd::Exited { code: 1 };
        let failed = Event::ServerFailed { reason: FailureReason::Crashed, detail: String::new(), lines: vec![] };
        self.publish(name, incarnation, at, [Event::ServerExited { end, swept: 0 }, failed])
    }
}

fn member(name: &str, goal: ServerGoal, changed: bool) -> DesiredServer {
    DesiredServer { server: id(name), policy: fixtures::policy(RestartPolicy::Never), goal, changed }
}

fn launches(actions: &[SupervisorAction]) -> Vec<String> {
    let launch = |action: &SupervisorAction| match action {
        SupervisorAction::Launch { server, incarnation } => Some(format!("{server}#{incarnation}")),
        _ => None,
    };
    actions.iter().filter_map(launch).collect()
}

fn published(actions: &[SupervisorAction]) -> Vec<&'static str> {
    let kind = |action: &SupervisorAction| match action {
        SupervisorAction::Publish { incarnation: Some(_), event, .. } => Some(event.kind()),
        _ => None,
    };
    actions.iter().filter_map(kind).collect()
}

#[test]
fn a_crashed_server_comes_back_at_exactly_the_drawn_time_until_the_budget_is_spent() {
    let mut fleet = Fleet::new(&["a"], None, RestartPolicy::OnFailure);
    assert_eq!(launches(&fleet.machine.start_all([&id("a")])), ["a#1"]);
    let mut now = 1.0;
    for incarnation in 1..=2 {
        fleet.become_ready("a", incarnation, now);
        let actions = fleet.crash("a", incarnation, now);
        assert_eq!(published(&actions), ["RestartScheduled"]);
        let due = fleet.machine.next_deadline().expect("scheduled");
        let early = Uptime::new(due.as_duration() - Duration::from_micros(1));
        assert_eq!(launches(&fleet.machine.on_deadline(early)), [""; 0]);
        assert_eq!(launches(&fleet.machine.on_deadline(due)), [format!("a#{}", incarnation + 1)]);
        now = due.as_duration().as_secs_f64();
    }
    fleet.become_ready("a", 3, now);
    assert_eq!(published(&fleet.crash("a", 3, now)), ["RestartAbandoned"]);
    assert_eq!(fleet.machine.next_deadline(), None);
    assert_eq!(fleet.machine.failures().get("a"), Some(&3));
}

#[test]
fn an_unresponsive_server_comes_back_however_well_it_obeys_the_stop() {
    let mut fleet = Fleet::new(&["a"], None, RestartPolicy::OnFailure);
    fleet.machine.start_all([&id("a")]);
    fleet.become_ready("a", 1, 1.0);
    let failed = Event::ServerFailed { reason: FailureReason::Unresponsive, detail: String::new(), lines: vec![] };
    let actions = fleet.publish("a", 1, 2.0, [failed]);
    assert!(matches!(&actions[..], [SupervisorAction::Terminate { reason: StopReason::Failed, .. }]), "{actions:?}");
    let ended = [
        Event::StopBegan { reason: StopReason::Failed, grace_seconds: 10.0 },
        Event::ServerExited { end: ProcessEnd::Exited { code: 0 }, swept: 0 },
        Event::ServerStopped { reason: StopReason::Failed, forced: false, stop_seconds: 0.1 },
    ];
    assert_eq!(published(&fleet.publish("a", 1, 3.0, ended)), ["RestartScheduled"]);
}

#[test]
fn a_stop_cancels_a_scheduled_restart_and_a_start_forgets_the_failures() {
    let mut fleet = Fleet::new(&["a"], None, RestartPolicy::OnFailure);
    fleet.machine.start_all([&id("a")]);
    fleet.become_ready("a", 1, 1.0);
    fleet.crash("a", 1, 1.0);
    let stop = SuperviseCommand::StopServer { server: id("a"), grace: None, force: false };
    let actions = fleet.command(stop, Seq::new(90), NOW);
    assert_eq!(published(&actions), ["RestartCancelled"]);
    assert!(matches!(actions.last(), Some(SupervisorAction::Complete { outcome: CommandOutcome::Stopped, .. })));
    assert_eq!(fleet.machine.next_deadline(), None);
    let start = SuperviseCommand::StartServer { server: id("a") };
    assert_eq!(launches(&fleet.command(start, Seq::new(91), NOW)), ["a#2"]);
    assert!(fleet.machine.failures().is_empty());
}

#[test]
fn a_stop_cancels_a_restart_that_is_due_and_waits_for_its_turn() {
    let mut fleet = Fleet::new(&["a", "b"], Some(1), RestartPolicy::OnFailure);
    fleet.machine.start_all([&id("a")]);
    fleet.become_ready("a", 1, 1.0);
    fleet.crash("a", 1, 1.0);
    fleet.machine.start_all([&id("b")]);
    let due = fleet.machine.next_deadline().expect("a restart is scheduled");
    assert!(fleet.machine.on_deadline(due).is_empty(), "b loads, and one may load at a time");
    let stop = SuperviseCommand::StopServer { server: id("a"), grace: None, force: false };
    assert_eq!(published(&fleet.command(stop, Seq::new(90), due)), ["RestartCancelled"]);
}

#[test]
fn a_failure_that_was_missed_is_followed_by_a_restart_also_where_the_exit_was_seen() {
    let mut fleet = Fleet::new(&["a"], None, RestartPolicy::OnFailure);
    fleet.machine.start_all([&id("a")]);
    fleet.become_ready("a", 1, 1.0);
    let exited = Event::ServerExited { end: ProcessEnd::Exited { code: 1 }, swept: 0 };
    assert!(fleet.publish("a", 1, 2.0, [exited.clone()]).is_empty(), "the reason is still to come");
    let mut snapshot = Snapshot::new(BootId::from_random(1));
    let events = [
        Event::ServerConfigured { card: card(&id("a")).into() },
        Event::LaunchBegan { binary: "x".into() },
        Event::ServerSpawned { pid: 1, start_ticks: 1, argv: [].into(), port: 8001 },
        exited,
        Event::ServerFailed { reason: FailureReason::Crashed, detail: String::new(), lines: vec![] },
    ];
    for (event, seq) in events.into_iter().zip(1..) {
        snapshot.apply(&envelope(seq, NOW, id("a"), Incarnation::new(1), event));
    }
    assert_eq!(published(&fleet.machine.on_gap(&snapshot)), ["RestartScheduled"]);
    assert!(fleet.machine.on_gap(&snapshot).is_empty(), "once");
}

#[test]
fn a_stop_by_a_user_is_forgotten_when_its_server_leaves_the_configuration() {
    let mut fleet = Fleet::new(&["a"], None, RestartPolicy::Never);
    fleet.machine.start_all([&id("a")]);
    fleet.become_ready("a", 1, 1.0);
    let stop = SuperviseCommand::StopServer { server: id("a"), grace: None, force: false };
    fleet.command(stop, Seq::new(90), NOW);
    assert_eq!(fleet.machine.stopped_by_user().count(), 1);
    // Its stop is still under way when it comes back, and the reload starts it as any other new server.
    fleet.switch(&[], None);
    assert_eq!(fleet.machine.stopped_by_user().count(), 0);
}

#[test]
fn a_shutdown_that_is_asked_for_after_the_end_is_answered_too() {
    let mut fleet = Fleet::new(&["a"], None, RestartPolicy::Never);
    for (seq, ends) in [(90, 1), (91, 0)] {
        let shut_down = SuperviseCommand::ShutDown { trigger: "test".to_owned(), force: false };
        let actions = fleet.command(shut_down, Seq::new(seq), NOW);
        let count = |wanted: &dyn Fn(&SupervisorAction) -> bool| actions.iter().filter(|action| wanted(action)).count();
        let is_end = |action: &SupervisorAction| {
            matches!(action, SupervisorAction::Publish { event: Event::DaemonStopped { .. }, .. })
        };
        let is_answer =
            |action: &SupervisorAction| matches!(action, SupervisorAction::Complete { id, .. } if id.get() == seq);
        assert_eq!((count(&is_end), count(&is_answer)), (ends, 1), "{actions:?}");
    }
}

#[test]
fn no_more_servers_load_at_once_than_the_limit_says_and_they_come_in_order() {
    let mut fleet = Fleet::new(&["a", "b", "c"], Some(2), RestartPolicy::Never);
    let names = [id("c"), id("b"), id("a")];
    assert_eq!(launches(&fleet.machine.start_all(&names)).len(), 2);
    let next = fleet.become_ready("a", 1, 1.0);
    assert_eq!(launches(&next).len(), 1, "a place became free");
}

#[test]
fn servers_that_failed_together_do_not_all_load_together_again() {
    let names = ["a", "b", "c", "d"];
    let mut fleet = Fleet::new(&names, None, RestartPolicy::OnFailure);
    fleet.machine.start_all(&names.map(id));
    for name in names {
        fleet.become_ready(name, 1, 1.0);
    }
    for name in names {
        fleet.crash(name, 1, 1.0);
    }
    let late = Uptime::new(Duration::from_secs(100));
    assert_eq!(launches(&fleet.machine.on_deadline(late)).len(), RESTARTS_AT_ONCE);
}

#[test]
fn a_switch_stops_first_keeps_what_is_in_both_and_is_done_when_all_have_arrived() {
    let mut fleet = Fleet::new(&["a", "b", "c", "d"], None, RestartPolicy::Never);
    fleet.machine.start_all(&["a", "b", "d"].map(id));
    for name in ["a", "b", "d"] {
        fleet.become_ready(name, 1, 1.0);
    }
    // a stays, b is stopped, c is started, d changes, e is new.
    let members = [
        member("a", ServerGoal::Run, false),
        member("b", ServerGoal::Down, false),
        member("c", ServerGoal::Run, false),
        member("d", ServerGoal::Run, true),
        member("e", ServerGoal::Run, false),
    ];
    let actions = fleet.switch(&members, Some(Seq::new(50)));
    let stopped: Vec<_> = actions
        .iter()
        .filter_map(|action| match action {
            SupervisorAction::Terminate { server, reason, .. } => Some(format!("{server} {reason}")),
            _ => None,
        })
        .collect();
    assert_eq!(stopped, ["b reconfigured", "d restart"]);
    assert_eq!(launches(&actions), [""; 0], "memory is freed before it is needed");
    let down = |reason| {
        let end = ProcessEnd::Exited { code: 0 };
        [
            Event::StopBegan { reason, grace_seconds: 10.0 },
            Event::ServerExited { end, swept: 0 },
            Event::ServerStopped { reason, forced: false, stop_seconds: 0.1 },
        ]
    };
    assert_eq!(launches(&fleet.publish("b", 1, 2.0, down(StopReason::Reconfigured))), [""; 0]);
    let mut started = launches(&fleet.publish("d", 1, 2.0, down(StopReason::Restart)));
    started.sort();
    assert_eq!(started, ["c#1", "d#2", "e#1"]);
    fleet.become_ready("c", 1, 3.0);
    fleet.become_ready("d", 2, 3.0);
    let began = fleet.publish("e", 1, 3.0, [Event::LaunchBegan { binary: "x".into() }]);
    assert_eq!(began, []);
    let failed = Event::ServerFailed { reason: FailureReason::PortInUse, detail: String::new(), lines: vec![] };
    let actions = fleet.publish("e", 1, 3.0, [failed]);
    let done = SupervisorAction::Complete { server: None, id: Seq::new(50), outcome: CommandOutcome::Ready };
    assert_eq!(actions, [done], "a server that fails does not sink the switch");
}

#[test]
fn a_server_that_leaves_the_configuration_is_stopped_and_then_forgotten() {
    let mut fleet = Fleet::new(&["a"], None, RestartPolicy::OnFailure);
    fleet.machine.start_all([&id("a")]);
    fleet.become_ready("a", 1, 1.0);
    let actions = fleet.switch(&[], Some(Seq::new(50)));
    assert!(
        matches!(&actions[..], [SupervisorAction::Terminate { reason: StopReason::Reconfigured, .. }]),
        "{actions:?}"
    );
    let start = SuperviseCommand::StartServer { server: id("a") };
    assert_eq!(fleet.machine.refusal(&start, NOW).map(|refused| refused.reason), Some(RefusalReason::UnknownServer));
    let end = ProcessEnd::Exited { code: 0 };
    let actions = fleet.publish("a", 1, 2.0, [Event::ServerExited { end, swept: 0 }]);
    let removed = Event::ServerRemoved;
    let removed = SupervisorAction::Publish { server: Some(id("a")), incarnation: None, event: removed };
    assert!(actions.contains(&removed), "{actions:?}");
}

/// Fault S34.
#[test]
fn a_server_that_comes_back_to_the_configuration_starts_at_once_with_the_next_number() {
    let mut fleet = Fleet::new(&["a"], None, RestartPolicy::OnFailure);
    fleet.machine.start_all([&id("a")]);
    let back = [member("a", ServerGoal::Run, false)];
    let end = ProcessEnd::Exited { code: 0 };
    for launch in 1..=3 {
        fleet.become_ready("a", launch, 1.0);
        fleet.switch(&[], None);
        fleet.publish("a", launch, 2.0, [Event::ServerExited { end, swept: 0 }]);
        assert_eq!(launches(&fleet.switch(&back, None)), [format!("a#{}", launch + 1)]);
    }
    // Back before its process is gone: it waits for that end, and for nothing else.
    fleet.become_ready("a", 4, 3.0);
    fleet.switch(&[], None);
    assert_eq!(launches(&fleet.switch(&back, None)), [""; 0]);
    assert_eq!(launches(&fleet.publish("a", 4, 4.0, [Event::ServerExited { end, swept: 0 }])), ["a#5"]);
    assert!(fleet.machine.failures().is_empty());
}

#[test]
fn a_switch_leaves_alone_what_it_does_not_change() {
    let mut fleet = Fleet::new(&["a", "b"], None, RestartPolicy::OnFailure);
    fleet.machine.start_all(&["a", "b"].map(id));
    fleet.become_ready("a", 1, 1.0);
    fleet.become_ready("b", 1, 1.0);
    fleet.crash("b", 1, 1.0);
    let due = fleet.machine.next_deadline();
    let same = [member("a", ServerGoal::AsItIs, false), member("b", ServerGoal::AsItIs, false)];
    let actions = fleet.switch(&same, Some(Seq::new(50)));
    assert_eq!((launches(&actions).len(), published(&actions).len()), (0, 0));
    assert_eq!(fleet.machine.next_deadline(), due, "its restart is scheduled as before");
}

/// Fault S20.
#[test]
fn a_stop_by_hand_holds_until_somebody_asks_for_the_server_again() {
    let mut fleet = Fleet::new(&["a"], None, RestartPolicy::Always);
    fleet.machine.start_all([&id("a")]);
    fleet.become_ready("a", 1, 1.0);
    assert!(fleet.machine.stopped_by_user().next().is_none());
    let now = Uptime::new(Duration::from_secs(2));
    let stop = SuperviseCommand::StopServer { server: id("a"), grace: None, force: false };
    fleet.command(stop, Seq::new(50), now);
    assert!(fleet.machine.stopped_by_user().eq([&id("a")]), "from the command on, not from the end of the process");
    let reason = StopReason::Requested;
    let end = ProcessEnd::Exited { code: 0 };
    fleet.publish("a", 1, 3.0, [Event::ServerExited { end, swept: 0 }]);
    fleet.publish("a", 1, 3.0, [Event::ServerStopped { reason, forced: false, stop_seconds: 0.1 }]);
    assert!(fleet.machine.stopped_by_user().eq([&id("a")]));
    fleet.command(SuperviseCommand::StartServer { server: id("a") }, Seq::new(60), now);
    assert!(fleet.machine.stopped_by_user().next().is_none());
}

#[test]
fn a_launch_that_failed_for_a_file_comes_again_once_that_file_changes() {
    for (reason, file) in [
        (FailureReason::ModelInvalid, Some(FaultyFile::Model)),
        (FailureReason::BinaryBroken, Some(FaultyFile::Executable)),
        (FailureReason::BadArgument, None),
    ] {
        let mut fleet = Fleet::new(&["a"], None, RestartPolicy::OnFailure);
        fleet.machine.start_all([&id("a")]);
        let failed = Event::ServerFailed { reason, detail: String::new(), lines: vec![] };
        let actions = fleet.publish("a", 1, 1.0, [Event::LaunchBegan { binary: "x".into() }, failed]);
        let watched = actions.iter().find_map(|action| match action {
            SupervisorAction::WatchFile { file, .. } => Some(*file),
            _ => None,
        });
        assert_eq!((watched, fleet.machine.next_deadline()), (file, None));
        let changed = |fleet: &mut Fleet, incarnation| {
            launches(&fleet.machine.on_file_changed(&id("a"), Incarnation::new(incarnation), NOW))
        };
        assert_eq!(changed(&mut fleet, 1), ["a#2"]);
        assert_eq!(changed(&mut fleet, 1), [""; 0], "it is launched already");
    }
    let mut fleet = Fleet::new(&["a"], None, RestartPolicy::OnFailure);
    fleet.machine.start_all([&id("a")]);
    let failed = Event::ServerFailed { reason: FailureReason::ModelInvalid, detail: String::new(), lines: vec![] };
    fleet.publish("a", 1, 1.0, [Event::LaunchBegan { binary: "x".into() }, failed]);
    let stop = SuperviseCommand::StopServer { server: id("a"), grace: None, force: false };
    fleet.command(stop, Seq::new(60), NOW);
    assert_eq!(launches(&fleet.machine.on_file_changed(&id("a"), Incarnation::new(1), NOW)), [""; 0], "it was stopped");
}
