//! The fold is total: what each event changes, and what a stale or impossible one does not.

#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

use std::sync::Arc;
use std::time::Duration;

use llama_warden_events::{
    BootId, CommandOutcome, CommandSummary, Envelope, Event, ExitOutcome, FailureReason, HookOutcome, HookPoint,
    Incarnation, LeftFailure, ProcessEnd, ReadyVia, Rung, Seq, ServerCard, ServerId, ServerTotals, Signal, StopReason,
    Timestamp, Uptime, Warning,
};
use llama_warden_state::{PhaseName, ServerRecord, Snapshot};
use proptest::prelude::*;

fn boot() -> BootId {
    BootId::from_random(1)
}

fn server() -> ServerId {
    ServerId::new("a").expect("valid")
}

fn configured() -> Event {
    Event::ServerConfigured {
        card: Arc::new(ServerCard {
            display_name: "A".to_owned(),
            model: None,
            port: 8001,
            host: "127.0.0.1".to_owned(),
            tier: None,
            thinking: false,
            enabled: true,
        }),
    }
}

fn spawned() -> Event {
    Event::ServerSpawned { pid: 42, start_ticks: 7, argv: ["llama-server"].into(), port: 8001 }
}

fn ready() -> Event {
    Event::ReadyReached { via: ReadyVia::Stderr, startup_seconds: 2.0 }
}

fn failed(reason: FailureReason) -> Event {
    Event::ServerFailed { reason, detail: "why".to_owned(), lines: vec!["last".to_owned()] }
}

fn exited(code: u8) -> Event {
    Event::ServerExited { end: ProcessEnd::Exited { code }, swept: 0 }
}

fn probed(ok: bool, failures: u32) -> Event {
    Event::HealthProbed { ok, latency_seconds: 0.0015, latency_ms: 1.5, failures, is_sleeping: false }
}

fn hook_failed() -> Event {
    let outcome = HookOutcome::Failed { detail: "exit code 3".to_owned(), lines: [].into() };
    Event::HookCompleted { hook: HookPoint::PostReady, outcome, seconds: 0.1 }
}

fn began() -> Event {
    Event::LaunchBegan { binary: "llama-server".into() }
}

fn stop_began() -> Event {
    Event::StopBegan { reason: StopReason::Requested, grace_seconds: 10.0 }
}

fn delivered(signal: Signal) -> Event {
    Event::SignalDelivered { signal, rung: Rung { index: 0, signal } }
}

/// A server in a snapshot to which events about it were applied, a second apart.
struct FoldedServer {
    snapshot: Snapshot,
}

impl FoldedServer {
    fn of(events: impl IntoIterator<Item = Event>) -> Self {
        let mut folded = Self { snapshot: Snapshot::new(boot()) };
        folded.add(0, [configured()]);
        folded.add(1, events);
        folded
    }

    fn add(&mut self, incarnation: u64, events: impl IntoIterator<Item = Event>) {
        for event in events {
            let seq = self.snapshot.seq.next();
            self.snapshot.apply(&envelope(seq, incarnation, event));
        }
    }

    fn record(&self) -> &ServerRecord {
        &self.snapshot.servers["a"]
    }

    fn phase(&self) -> PhaseName {
        self.record().phase.name()
    }
}

fn envelope(seq: Seq, incarnation: u64, event: Event) -> Envelope {
    Envelope {
        seq,
        boot: boot(),
        at: Timestamp::new("2026-01-01T00:00:00Z".parse().expect("valid")),
        elapsed: Uptime::new(Duration::from_secs(seq.get())),
        server: Some(server()),
        incarnation: (incarnation > 0).then_some(Incarnation::new(incarnation)),
        cause: None,
        event,
    }
}

#[test]
fn a_server_goes_through_its_phases_and_its_totals_grow() {
    let progress = Event::LoadProgressed { ratio: Some(0.5) };
    let mut folded = FoldedServer::of([began(), spawned(), progress.clone(), ready()]);
    assert_eq!((folded.phase(), folded.record().is_running()), (PhaseName::Ready, true));
    folded.add(1, [stop_began(), delivered(Signal::TERM), exited(0)]);
    let stopped = Event::ServerStopped { reason: StopReason::Requested, forced: false, stop_seconds: 0.2 };
    folded.add(1, [stopped]);
    let record = folded.record();
    let phases: Vec<_> = record.history.iter().map(|change| change.phase.as_str()).collect();
    assert_eq!(phases.join(" "), "launching starting loading ready stopping exited");
    assert_eq!(record.counters.exits.of(ExitOutcome::Stopped), 1);
    assert_eq!(record.counters.signals.of(Signal::TERM), 1);
    assert_eq!((record.ready_seconds.count(), record.stop_seconds.count()), (1, 1));
    assert_eq!(folded.snapshot.anomalies, 0);
}

#[test]
fn ends_count_by_what_led_to_them() {
    let kill = [stop_began(), delivered(Signal::TERM), delivered(Signal::KILL)];
    let cases: [(Vec<Event>, ExitOutcome, PhaseName); 6] = [
        (
            vec![began(), spawned(), exited(1), failed(FailureReason::ModelInvalid)],
            ExitOutcome::Failed,
            PhaseName::Failed,
        ),
        (vec![began(), spawned(), ready(), exited(0)], ExitOutcome::Ended, PhaseName::Exited),
        (
            vec![began(), spawned(), ready(), exited(139), failed(FailureReason::Crashed)],
            ExitOutcome::Crashed,
            PhaseName::Failed,
        ),
        (vec![began(), spawned(), stop_began(), exited(1)], ExitOutcome::Stopped, PhaseName::Exited),
        (
            [vec![began(), spawned(), ready()], kill.to_vec(), vec![exited(0)]].concat(),
            ExitOutcome::Killed,
            PhaseName::Exited,
        ),
        (
            vec![began(), spawned(), failed(FailureReason::ReadyTimeout), stop_began(), exited(0)],
            ExitOutcome::Stopped,
            PhaseName::Failed,
        ),
    ];
    for (events, outcome, phase) in cases {
        let folded = FoldedServer::of(events);
        assert_eq!(folded.record().counters.exits.keys().collect::<Vec<_>>(), [outcome]);
        assert_eq!(folded.phase(), phase, "{outcome}");
        assert_eq!((folded.record().is_running(), folded.snapshot.anomalies), (false, 0), "{outcome}");
    }
}

#[test]
fn a_failure_before_the_spawn_is_the_end_of_the_launch() {
    let mut folded = FoldedServer::of([began(), failed(FailureReason::ModelNotFound)]);
    assert_eq!(folded.phase(), PhaseName::Failed);
    assert_eq!(folded.record().counters.exits.total(), 0, "there was no process");
    folded.add(2, [began()]);
    let record = folded.record();
    assert_eq!((record.phase.name(), record.failure.is_none()), (PhaseName::Launching, true));
    assert!(record.last_failure.is_some(), "the latest failure stays visible");
}

#[test]
fn a_restart_counts_when_it_comes_and_not_when_it_is_cancelled() {
    let scheduled = Event::RestartScheduled { attempt: 1, max_attempts: Some(5), delay_seconds: 1.0 };
    let crash = [began(), spawned(), ready(), exited(1), failed(FailureReason::Crashed), scheduled.clone()];
    let mut folded = FoldedServer::of(crash);
    assert_eq!(folded.phase(), PhaseName::BackingOff);
    folded.add(1, [Event::RestartCancelled]);
    assert_eq!((folded.phase(), folded.record().counters.restarts_total()), (PhaseName::Failed, 0));
    folded.add(1, [scheduled]);
    folded.add(2, [began()]);
    assert_eq!(folded.record().counters.restarts_total(), 0, "there is no process yet");
    folded.add(2, [spawned()]);
    assert_eq!(folded.record().counters.restarts.of(FailureReason::Crashed), 1);
    folded.add(2, [exited(1), failed(FailureReason::PortInUse)]);
    folded.add(2, [Event::RestartAbandoned { attempts: 2, because: "budget".to_owned() }]);
    assert_eq!(folded.record().restart_abandoned.as_deref(), Some("budget"));
    assert_eq!(folded.record().counters.restarts_abandoned.of(FailureReason::PortInUse), 1);
    assert_eq!(folded.snapshot.anomalies, 0);
}

#[test]
fn a_look_for_what_is_missing_is_no_restart_and_the_launch_that_finds_it_is_one() {
    let scheduled = Event::RestartScheduled { attempt: 1, max_attempts: None, delay_seconds: 1.0 };
    let missing = [began(), failed(FailureReason::BinaryNotFound), scheduled];
    let mut folded = FoldedServer::of(missing.clone());
    (2..20).for_each(|launch| folded.add(launch, missing.clone()));
    folded.add(20, [began(), spawned()]);
    assert_eq!(folded.record().counters.restarts.of(FailureReason::BinaryNotFound), 1, "of 20 launches");
}

#[test]
fn late_and_repeated_events_change_nothing_but_the_count_of_anomalies() {
    let mut folded = FoldedServer::of([began(), spawned(), ready()]);
    let before = folded.record().clone();
    folded.add(1, [ready(), began(), spawned()]);
    folded.add(7, [exited(0), failed(FailureReason::Crashed)]);
    assert_eq!(*folded.record(), before);
    assert_eq!(folded.snapshot.anomalies, 5);
}

#[test]
fn news_of_a_launch_that_is_over_changes_nothing_and_is_no_anomaly() {
    let mut folded = FoldedServer::of([began(), spawned(), stop_began(), exited(0)]);
    let before = folded.record().clone();
    folded.add(1, [Event::LoadProgressed { ratio: Some(0.9) }, ready(), Event::ReadyRegained]);
    assert_eq!(*folded.record(), before);
    assert_eq!(folded.snapshot.anomalies, 0);
}

#[test]
fn a_stop_that_crosses_the_end_of_its_process_changes_nothing_and_is_no_anomaly() {
    let stopped = Event::ServerStopped { reason: StopReason::Requested, forced: true, stop_seconds: 1.0 };
    let rung = Rung { index: 1, signal: Signal::KILL };
    let escalated = Event::StopEscalated { rung, early: false };
    let scheduled = Event::RestartScheduled { attempt: 1, max_attempts: None, delay_seconds: 1.0 };
    // The stop begins after the end, and a rung is due after it.
    let mut crossed = FoldedServer::of([began(), spawned(), exited(1), failed(FailureReason::Crashed), scheduled]);
    let mut late = FoldedServer::of([began(), spawned(), stop_began(), exited(0)]);
    for (folded, events) in
        [(&mut crossed, vec![stop_began(), escalated.clone(), stopped]), (&mut late, vec![escalated])]
    {
        let before = folded.record().clone();
        folded.add(1, events);
        assert_eq!((folded.record(), folded.snapshot.anomalies), (&before, 0));
    }
}

#[test]
fn a_failed_server_that_outlives_kill_is_unkillable_and_says_why_it_was_stopped() {
    let mut folded = FoldedServer::of([began(), spawned(), ready(), failed(FailureReason::Wedged), stop_began()]);
    folded.add(1, [failed(FailureReason::Unkillable)]);
    let failure = folded.record().failure.clone().expect("it failed");
    assert_eq!(failure.reason, FailureReason::Unkillable);
    assert_eq!(failure.detail, "why; it was stopped because it had failed: why");
    folded.add(1, [failed(FailureReason::Unkillable), failed(FailureReason::Crashed)]);
    assert_eq!((folded.record().failure.as_ref(), folded.snapshot.anomalies), (Some(&failure), 0));
}

#[test]
fn an_event_out_of_line_or_of_another_run_is_not_taken() {
    let mut folded = FoldedServer::of([began()]);
    let before = folded.snapshot.clone();
    folded.snapshot.apply(&envelope(Seq::new(9), 1, spawned()));
    let foreign = Envelope { boot: BootId::from_random(2), ..envelope(before.seq.next(), 1, spawned()) };
    folded.snapshot.apply(&foreign);
    assert_eq!(folded.snapshot.anomalies, before.anomalies + 2);
    assert_eq!(folded.snapshot.servers, before.servers);
}

#[test]
fn a_stop_during_the_launch_ends_the_process_that_still_comes() {
    let mut folded = FoldedServer::of([began(), stop_began(), spawned()]);
    assert_eq!((folded.phase(), folded.record().is_running()), (PhaseName::Stopping, true));
    folded.add(1, [exited(0)]);
    assert_eq!((folded.phase(), folded.snapshot.anomalies), (PhaseName::Exited, 0));
}

#[test]
fn a_launch_that_is_held_says_for_what_until_it_is_released() {
    let held = Event::LaunchHeld { because: "needs 2 GiB".to_owned() };
    let mut folded = FoldedServer::of([]);
    folded.add(0, [held]);
    assert_eq!(folded.record().held.as_deref(), Some("needs 2 GiB"));
    folded.add(0, [Event::LaunchReleased]);
    assert_eq!((&folded.record().held, folded.snapshot.anomalies), (&None, 0));
}

#[test]
fn a_refused_launch_is_a_failure_of_its_own_and_no_launch() {
    let mut folded = FoldedServer::of([began(), spawned(), ready(), exited(1), failed(FailureReason::Crashed)]);
    folded.add(2, [failed(FailureReason::Refused)]);
    let record = folded.record();
    assert_eq!((record.phase.name(), record.incarnation), (PhaseName::Failed, Incarnation::new(2)));
    assert_eq!(record.failure.as_ref().map(|failure| failure.reason), Some(FailureReason::Refused));
    assert_eq!((record.counters.launches, record.counters.failures.of(FailureReason::Refused)), (1, 1));
    assert_eq!((record.ready, record.argv.is_empty(), folded.snapshot.anomalies), (None, true, 0));
    folded.add(1, [failed(FailureReason::Refused)]);
    assert_eq!(folded.snapshot.anomalies, 1, "a stale one changes nothing");
    let mut running = FoldedServer::of([began(), spawned()]);
    running.add(2, [failed(FailureReason::Refused)]);
    assert_eq!((running.record().incarnation, running.snapshot.anomalies), (Incarnation::new(1), 1));
}

#[test]
fn the_latest_check_is_reported_while_the_process_runs() {
    let health = |folded: &FoldedServer| folded.record().health;
    let mut folded = FoldedServer::of([began(), spawned(), ready()]);
    assert_eq!(health(&folded), None);
    folded.add(1, [probed(true, 0), probed(false, 2)]);
    let seen = health(&folded).expect("checked");
    assert_eq!((seen.ok, seen.latency_ms, seen.failures), (false, 1.5, 2));
    folded.add(1, [exited(0)]);
    assert_eq!((health(&folded), folded.snapshot.anomalies), (None, 0));
    folded.add(1, [probed(true, 0)]);
    assert_eq!((health(&folded), folded.snapshot.anomalies), (None, 0), "it came too late, and changes nothing");
}

#[test]
fn a_lost_server_that_answers_again_is_ready_again() {
    let lost = Event::ReadyLost { detail: "503".to_owned() };
    let mut folded = FoldedServer::of([began(), spawned(), ready(), lost]);
    assert_eq!((folded.phase(), folded.record().is_ready()), (PhaseName::Unready, false));
    folded.add(1, [Event::ReadyRegained]);
    assert_eq!((folded.phase(), folded.record().is_ready()), (PhaseName::Ready, true));
    assert_eq!(folded.record().counters.became_ready.total(), 1, "it became ready once");
}

#[test]
fn a_hook_that_fails_is_a_warning_and_one_that_succeeds_is_none() {
    let hook = HookPoint::PostReady;
    let good = Event::HookCompleted { hook, outcome: HookOutcome::Succeeded, seconds: 0.1 };
    let folded = FoldedServer::of([began(), spawned(), ready(), good, hook_failed()]);
    let warnings: Vec<_> = folded.record().warnings.iter().map(|warning| warning.detail.as_str()).collect();
    assert_eq!((warnings, folded.snapshot.anomalies), (vec!["post-ready: exit code 3"], 0));
}

#[test]
fn a_hook_that_something_waits_for_is_kept_with_its_launch_and_may_outlive_it() {
    let called_off = |hook| Event::HookCompleted { hook, outcome: HookOutcome::CalledOff, seconds: 0.1 };
    let mut folded = FoldedServer::of([began(), called_off(HookPoint::PreStart)]);
    let hooks = |folded: &FoldedServer| folded.record().hooks.clone();
    assert_eq!(hooks(&folded), [(HookPoint::PreStart, HookOutcome::CalledOff)].into());
    folded.add(2, [began()]);
    folded.add(1, [called_off(HookPoint::PreStop)]);
    assert_eq!((hooks(&folded), folded.snapshot.anomalies), ([].into(), 0), "the launch that it belongs to is over");
    assert_eq!(folded.record().warnings, []);
}

#[test]
fn a_stop_by_hand_is_known_also_where_its_launch_begins_after_it_and_a_start_takes_it_back() {
    let accepted = |command| Event::CommandAccepted { command, trace: None };
    let stop = || accepted(CommandSummary::Stop { force: false });
    let mut crossed = FoldedServer { snapshot: Snapshot::new(boot()) };
    crossed.add(0, [configured(), stop()]);
    crossed.add(1, [began(), stop_began()]);
    assert!(crossed.record().stopped_on_request);
    let mut started_again = FoldedServer::of([began(), spawned(), ready()]);
    started_again.add(0, [stop(), accepted(CommandSummary::Start)]);
    started_again.add(1, [stop_began()]);
    assert!(!started_again.record().stopped_on_request);
}

#[test]
fn an_accepted_start_is_due_until_it_launches_or_is_answered() {
    let accepted = |command| Event::CommandAccepted { command, trace: None };
    let failed_then = |command| {
        let mut story = FoldedServer::of([failed(FailureReason::ModelInvalid)]);
        story.add(0, [accepted(command)]);
        story
    };
    let mut launched = failed_then(CommandSummary::Start);
    assert!(launched.record().due_start.is_some());
    launched.add(2, [began()]);
    assert_eq!(launched.record().due_start, None);

    let mut answered = failed_then(CommandSummary::Start);
    let start = answered.snapshot.seq;
    answered.add(0, [accepted(CommandSummary::Stop { force: false })]);
    assert_eq!(answered.record().due_start, None, "a later stop wins");
    answered.add(0, [accepted(CommandSummary::Start)]);
    let latest = answered.snapshot.seq;
    for (cause, due) in [(start, Some(latest)), (latest, None)] {
        let completed = Event::CommandCompleted { outcome: CommandOutcome::Stopped };
        let envelope = envelope(answered.snapshot.seq.next(), 0, completed);
        answered.snapshot.apply(&Envelope { cause: Some(cause), ..envelope });
        assert_eq!(answered.record().due_start, due, "the answer to {cause:?}");
    }
}

#[test]
fn a_server_that_was_left_down_says_why_and_counts_nothing() {
    let mut folded = FoldedServer { snapshot: Snapshot::new(boot()) };
    folded.add(0, [configured(), Event::ServerLeftDown { failed: None }]);
    assert_eq!((folded.phase(), folded.record().stopped_on_request), (PhaseName::Idle, true));
    let failure = left_failure();
    folded.add(0, [Event::ServerLeftDown { failed: Some(failure.clone().into()) }]);
    let record = folded.record().clone();
    assert_eq!((folded.phase(), &record.restart_abandoned), (PhaseName::Failed, &failure.abandoned));
    assert_eq!(record.failure.map(|known| known.reason), Some(failure.reason));
    assert_eq!(record.counters, Default::default(), "the daemon before has counted");
    folded.add(1, [began(), spawned()]);
    assert_eq!((folded.phase(), folded.snapshot.anomalies), (PhaseName::Starting, 0));
    folded.add(1, [Event::ServerLeftDown { failed: None }]);
    assert_eq!(folded.snapshot.anomalies, 1);
}

fn left_failure() -> LeftFailure {
    let (reason, abandoned) = (FailureReason::Crashed, Some("budget".to_owned()));
    LeftFailure { reason, detail: "boom".to_owned(), abandoned }
}

#[test]
fn an_unloaded_server_is_not_missed_until_it_has_been_ready_or_fails_or_a_person_stops_it() {
    let evicted = || {
        let stop = Event::StopBegan { reason: StopReason::Evicted, grace_seconds: 10.0 };
        let stopped = Event::ServerStopped { reason: StopReason::Evicted, forced: false, stop_seconds: 0.1 };
        FoldedServer::of([began(), spawned(), ready(), stop, exited(0), stopped])
    };
    let is_missed = |folded: &FoldedServer| folded.snapshot.missing_servers().count() == 1;
    let mut folded = evicted();
    assert!(folded.record().is_unloaded && !is_missed(&folded));
    folded.add(2, [began(), spawned()]);
    assert!(!is_missed(&folded), "it loads for a request");
    folded.add(2, [ready()]);
    assert!(!folded.record().is_unloaded && !is_missed(&folded));
    let stop = Event::CommandAccepted { command: CommandSummary::Stop { force: false }, trace: None };
    for (incarnation, event) in [(1, stop), (1, failed(FailureReason::Unkillable))] {
        let mut folded = evicted();
        folded.add(incarnation, [event]);
        assert!(is_missed(&folded));
    }
    let mut folded = FoldedServer::of([]);
    folded.add(0, [Event::LaunchSkipped { because: "max-loaded is 1".to_owned() }]);
    assert!(!is_missed(&folded));
    folded.add(1, [began(), failed(FailureReason::SpawnFailed)]);
    assert!(is_missed(&folded));
}

#[test]
fn the_use_of_a_server_ends_with_its_process_and_says_when_it_was_used_last() {
    let mut folded = FoldedServer::of([began(), spawned(), ready(), Event::UseBegan]);
    assert!(folded.record().usage.is_active);
    folded.add(1, [exited(0)]);
    assert!(!folded.record().usage.is_active);
    let last_used = Uptime::new(Duration::from_secs(2));
    folded.add(2, [began()]);
    folded.add(1, [Event::UseEnded { last_used }]);
    assert_eq!(folded.snapshot.anomalies, 0, "the end of a request is late, and not impossible");
}

fn any_event() -> impl Strategy<Value = Event> {
    prop::sample::select(vec![
        configured(),
        began(),
        spawned(),
        Event::LoadProgressed { ratio: None },
        ready(),
        probed(true, 0),
        Event::ReadyLost { detail: "503".to_owned() },
        Event::ReadyRegained,
        hook_failed(),
        failed(FailureReason::Crashed),
        failed(FailureReason::Unkillable),
        Event::ServerWarned { warning: Warning::ReadyAssumed, detail: String::new() },
        stop_began(),
        delivered(Signal::TERM),
        delivered(Signal::KILL),
        Event::StopEscalated { rung: Rung { index: 1, signal: Signal::KILL }, early: false },
        exited(0),
        exited(1),
        Event::ServerStopped { reason: StopReason::Requested, forced: false, stop_seconds: 1.0 },
        Event::RestartScheduled { attempt: 1, max_attempts: Some(5), delay_seconds: 1.0 },
        Event::RestartCancelled,
        Event::RestartAbandoned { attempts: 5, because: "budget".to_owned() },
        Event::ServerLeftDown { failed: None },
        Event::ServerLeftDown { failed: Some(left_failure().into()) },
        Event::TotalsRestored { totals: ServerTotals { launches: 2, ..ServerTotals::default() }.into() },
        Event::ServerRemoved,
        Event::DaemonStopped { survivors: vec![] },
    ])
}

proptest! {
    #[test]
    fn any_sequence_of_events_keeps_the_invariants(events in prop::collection::vec((any_event(), 0_u64..4), 0..80)) {
        let mut folded = FoldedServer { snapshot: Snapshot::new(boot()) };
        for (event, incarnation) in events {
            folded.add(incarnation, [event]);
            for record in folded.snapshot.servers.values() {
                let phase = record.phase.name();
                prop_assert!(!(record.is_running() && phase.is_settled_down()), "{phase} with a process");
                prop_assert!(!record.is_ready() || record.is_running());
                prop_assert!(record.counters.became_ready.total() <= record.counters.launches);
                prop_assert!(record.counters.exits.total() <= record.counters.launches);
                prop_assert!(record.history.len() <= ServerRecord::HISTORY);
            }
            prop_assert!(folded.snapshot.running_servers() <= folded.snapshot.servers.len());
        }
        prop_assert_eq!(folded.snapshot.events.values().sum::<u64>(), folded.snapshot.seq.get());
    }
}
