//! A trial against states that the test makes.

use std::sync::Arc;

use llama_warden_component_kit::{card, server};
use llama_warden_events::{BootId, CompletionAnswer, ReadyVia, RefusalReason};
use llama_warden_state::Phase;

use super::*;

const STABLE: Duration = Duration::from_secs(60);
const TRIAL: Replacement = Replacement::After { stable: STABLE, is_restarted: true };

struct Fixture {
    trial: Trial,
    snapshot: Snapshot,
    now: Uptime,
}

impl Fixture {
    /// A trial of a ready server.
    fn begin(replacement: Replacement) -> Self {
        let new = BuildFigures { binary: "/new".into(), ..BuildFigures::default() };
        let request = TrialRequest { server: server("a"), new, old: "/old".into(), id: Seq::new(1), replacement };
        let (trial, actions) = Trial::begin(request);
        assert_eq!(actions, [change(BuildChange::AddCanary { binary: "/new".into() })]);
        let mut fixture = Self { trial, snapshot: Snapshot::new(BootId::from_random(1)), now: Uptime::default() };
        fixture.set("a", |record| ready(record, 1));
        fixture
    }

    /// A trial whose canary passed and is gone, so that the server is told to run the new build.
    fn switching() -> Self {
        let mut fixture = Self::begin(TRIAL);
        fixture.set("a~canary", |record| ready(record, 1));
        assert_eq!(fixture.look(), [TrialAction::Compare]);
        let actions = fixture.trial.on_compared(comparison(tokens()));
        assert_eq!(actions, [change(BuildChange::RemoveCanary)]);
        assert_eq!(fixture.accepted(&BuildChange::RemoveCanary), [], "it still runs");
        fixture.remove("a~canary");
        assert_eq!(fixture.look(), [change(BuildChange::Try { binary: "/new".into() })]);
        fixture
    }

    fn set(&mut self, id: &str, change: impl FnOnce(&mut ServerRecord)) {
        let id = server(id);
        let record = self.snapshot.servers.entry(id.clone());
        let record = record.or_insert_with(|| ServerRecord::new(card(&id).into(), Uptime::default()).into());
        change(Arc::make_mut(record));
    }

    fn remove(&mut self, id: &str) {
        self.snapshot.servers.remove(&server(id));
    }

    fn look(&mut self) -> Vec<TrialAction> {
        self.trial.on_snapshot(&self.snapshot, self.now)
    }

    fn accepted(&mut self, change: &BuildChange) -> Vec<TrialAction> {
        self.trial.on_accepted(change, &self.snapshot, self.now)
    }

    fn pass(&mut self, time: Duration) {
        self.now = Uptime::new(self.now.as_duration() + time);
    }

    /// Removes the canary, and returns the outcome of the report that ends the trial.
    fn outcome_after_removal(&mut self) -> CanaryOutcome {
        self.remove("a~canary");
        let actions = self.accepted(&BuildChange::RemoveCanary);
        outcome(&actions)
    }
}

fn change(change: BuildChange) -> TrialAction {
    TrialAction::Change(change)
}

/// The outcome of the report, which is the last action.
fn outcome(actions: &[TrialAction]) -> CanaryOutcome {
    match actions.last() {
        Some(TrialAction::Complete(report)) => report.outcome.clone(),
        other => panic!("the trial is not over: {other:?}"),
    }
}

fn ready(record: &mut ServerRecord, incarnation: u64) {
    record.incarnation = Incarnation::new(incarnation);
    record.phase = Phase::Ready { via: ReadyVia::Health };
    record.failure = None;
}

fn fails(record: &mut ServerRecord, incarnation: u64) {
    record.incarnation = Incarnation::new(incarnation);
    record.phase = Phase::Idle;
    let failure = Arc::new(FailureRecord {
        reason: FailureReason::Crashed,
        detail: "it died".to_owned(),
        at: serde_json::from_str("\"2026-11-22T13:05:01Z\"").expect("a time"),
        incarnation: record.incarnation,
        lines: vec!["last words".to_owned()],
    });
    record.failure = Some(failure.clone());
    record.last_failure = Some(failure);
}

fn tokens() -> CompletionAnswer {
    CompletionAnswer::Tokens { tokens: 16, seconds: 1.0, tokens_per_second: 16.0 }
}

fn comparison(completion: CompletionAnswer) -> Comparison {
    let new = BuildFigures { completion: Some(completion), ..BuildFigures::default() };
    Comparison { old: None, new, options: Vec::new(), warnings: Vec::new() }
}

#[test]
fn a_build_that_passes_is_switched_once_it_was_ready_for_the_time_of_the_trial() {
    let mut fixture = Fixture::switching();
    assert_eq!(fixture.look(), [], "the old build is stopped first");
    fixture.set("a", |record| ready(record, 2));
    assert_eq!(fixture.look(), []);
    fixture.pass(STABLE - Duration::from_secs(1));
    assert_eq!(fixture.look(), []);
    assert_eq!(fixture.trial.next_deadline(), Some(Uptime::new(STABLE)));
    fixture.pass(Duration::from_secs(1));
    let actions = fixture.look();
    assert_eq!(actions[0], change(BuildChange::Keep));
    assert_eq!(outcome(&actions), CanaryOutcome::Switched);
    assert!(fixture.trial.is_over() && fixture.look().is_empty());
}

#[test]
fn a_build_that_fails_before_or_after_it_is_ready_is_rolled_back() {
    for was_ready in [false, true] {
        let mut fixture = Fixture::switching();
        if was_ready {
            fixture.set("a", |record| ready(record, 2));
            assert_eq!(fixture.look(), []);
        }
        fixture.set("a", |record| fails(record, 2));
        assert_eq!(fixture.look(), [change(BuildChange::Revert)]);
        assert_eq!(fixture.accepted(&BuildChange::Revert), []);
        fixture.set("a", |record| ready(record, 3));
        let CanaryOutcome::RolledBack { detail } = outcome(&fixture.look()) else { panic!("not rolled back") };
        assert_eq!(detail, "crashed: it died; the old build is ready again");
    }
}

#[test]
fn an_old_build_that_fails_too_is_told() {
    let mut fixture = Fixture::switching();
    fixture.set("a", |record| fails(record, 2));
    assert_eq!(fixture.look(), [change(BuildChange::Revert)]);
    fixture.set("a", |record| fails(record, 3));
    let CanaryOutcome::RolledBack { detail } = outcome(&fixture.look()) else { panic!("not rolled back") };
    assert!(detail.ends_with("with the old build again: crashed: it died"), "{detail}");
}

#[test]
fn a_restart_during_the_trial_begins_its_time_anew() {
    let mut fixture = Fixture::switching();
    fixture.set("a", |record| ready(record, 2));
    assert_eq!(fixture.look(), []);
    fixture.set("a", |record| {
        record.incarnation = Incarnation::new(3);
        record.phase = Phase::Starting;
    });
    fixture.pass(STABLE);
    assert_eq!(fixture.look(), []);
    assert_eq!(fixture.trial.next_deadline(), None);
    fixture.set("a", |record| ready(record, 3));
    assert_eq!(fixture.look(), []);
    assert_eq!(fixture.trial.next_deadline(), Some(Uptime::new(STABLE * 2)));
}

#[test]
fn a_server_that_is_stopped_or_leaves_the_configuration_during_the_trial_gets_its_old_build_back() {
    let stopped = |fixture: &mut Fixture| fixture.set("a", |record| record.stopped_on_request = true);
    let gone = |fixture: &mut Fixture| fixture.remove("a");
    for end in [stopped as fn(&mut Fixture), gone] {
        let mut fixture = Fixture::switching();
        fixture.set("a", |record| ready(record, 2));
        assert_eq!(fixture.look(), []);
        end(&mut fixture);
        assert_eq!(fixture.look(), [change(BuildChange::Revert)]);
        assert!(matches!(outcome(&fixture.look()), CanaryOutcome::RolledBack { .. }));
    }
}

#[test]
fn a_canary_that_fails_ends_the_trial_with_its_reason_and_nothing_is_replaced() {
    for at in ["starting", "measuring"] {
        let mut fixture = Fixture::begin(TRIAL);
        if at == "measuring" {
            fixture.set("a~canary", |record| ready(record, 1));
            assert_eq!(fixture.look(), [TrialAction::Compare]);
        }
        fixture.set("a~canary", |record| fails(record, 1));
        assert_eq!(fixture.look(), [change(BuildChange::RemoveCanary)], "{at}");
        let CanaryOutcome::Failed { reason, lines, .. } = fixture.outcome_after_removal() else { panic!("{at}") };
        assert_eq!((reason, lines), (FailureReason::Crashed, vec!["last words".to_owned()]));
    }
}

#[test]
fn a_crash_while_it_is_asked_is_the_reason_and_not_the_missing_answer() {
    let mut fixture = Fixture::begin(Replacement::No);
    fixture.set("a~canary", |record| ready(record, 1));
    assert_eq!(fixture.look(), [TrialAction::Compare]);
    let missing = CompletionAnswer::Missing { detail: "the connection broke off".to_owned() };
    assert_eq!(fixture.trial.on_compared(comparison(missing)), [change(BuildChange::RemoveCanary)]);
    fixture.set("a~canary", |record| fails(record, 1));
    assert_eq!(fixture.look(), []);
    let outcome = fixture.outcome_after_removal();
    assert!(matches!(outcome, CanaryOutcome::Failed { reason: FailureReason::Crashed, .. }), "{outcome:?}");
}

#[test]
fn a_canary_that_waits_for_memory_or_is_stopped_or_goes_away_ends_the_trial() {
    let held = |fixture: &mut Fixture| fixture.set("a~canary", |record| record.held = Some("9 GiB".to_owned()));
    let stopped = |fixture: &mut Fixture| fixture.set("a~canary", |record| record.stopped_on_request = true);
    let gone = |fixture: &mut Fixture| fixture.remove("a~canary");
    for (end, part) in
        [(held as fn(&mut Fixture), "no memory for both"), (stopped, "another command"), (gone, "configuration")]
    {
        let mut fixture = Fixture::begin(Replacement::No);
        fixture.set("a~canary", |record| record.phase = Phase::Idle);
        assert_eq!(fixture.look(), []);
        end(&mut fixture);
        assert_eq!(fixture.look(), [change(BuildChange::RemoveCanary)]);
        let CanaryOutcome::Failed { detail, .. } = fixture.outcome_after_removal() else { panic!("{part}") };
        assert!(detail.contains(part), "{detail}");
    }
}

#[test]
fn a_cancelled_trial_removes_its_canary_and_replaces_nothing() {
    let mut fixture = Fixture::begin(TRIAL);
    assert_eq!(fixture.trial.cancel(), [change(BuildChange::RemoveCanary)]);
    assert_eq!(fixture.outcome_after_removal(), CanaryOutcome::Cancelled);

    let mut fixture = Fixture::begin(TRIAL);
    fixture.set("a~canary", |record| ready(record, 1));
    assert_eq!(fixture.look(), [TrialAction::Compare]);
    fixture.trial.on_compared(comparison(tokens()));
    assert_eq!(fixture.trial.cancel(), [], "its removal is under way");
    assert_eq!(fixture.outcome_after_removal(), CanaryOutcome::Cancelled);

    let mut fixture = Fixture::switching();
    assert_eq!(fixture.trial.cancel(), [], "a replacement that has begun goes on");
    fixture.set("a", |record| ready(record, 2));
    assert_eq!(fixture.look(), []);
    fixture.pass(STABLE);
    assert_eq!(outcome(&fixture.look()), CanaryOutcome::Switched);
}

#[test]
fn a_refused_change_ends_the_trial_with_its_words() {
    let refused = Refused::new(RefusalReason::ShuttingDown, "the daemon is shutting down");
    let mut fixture = Fixture::begin(Replacement::No);
    let CanaryOutcome::Failed { detail, .. } = outcome(&fixture.trial.on_refused(&refused)) else {
        panic!("not failed")
    };
    assert!(detail.contains("shutting down"), "{detail}");
    let mut fixture = Fixture::switching();
    assert!(matches!(outcome(&fixture.trial.on_refused(&refused)), CanaryOutcome::RolledBack { .. }));
    assert_eq!(fixture.trial.on_refused(&refused), [], "once");
}

#[test]
fn a_port_that_the_old_build_still_occupies_is_waited_for_as_long_as_the_restart_policy_does() {
    let busy = |fixture: &mut Fixture| {
        fixture.set("a", |record| {
            fails(record, 2);
            let failure = FailureRecord::clone(record.failure.as_deref().expect("it failed"));
            record.last_failure = Some(FailureRecord { reason: FailureReason::PortInUse, ..failure }.into());
        });
    };
    let mut fixture = Fixture::switching();
    busy(&mut fixture);
    assert_eq!(fixture.look(), []);
    fixture.set("a", |record| ready(record, 3));
    assert_eq!(fixture.look(), []);
    assert!(fixture.trial.next_deadline().is_some(), "it is watched");

    let mut fixture = Fixture::switching();
    busy(&mut fixture);
    fixture.set("a", |record| record.restart_abandoned = Some("5 failures".to_owned()));
    assert_eq!(fixture.look(), [change(BuildChange::Revert)]);
}

#[test]
fn a_build_that_fails_before_it_is_ready_is_told_with_the_options_that_it_gets() {
    let note = |treatment| {
        let because = "of its help".into();
        llama_warden_events::OptionNote {
            option: "mlock".into(),
            treatment,
            spelled: [].into(),
            because,
            dialect: None,
        }
    };
    let mut fixture = Fixture::begin(Replacement::No);
    fixture.set("a~canary", |record| {
        fails(record, 1);
        record.dialect = Some("llama-server".into());
        record.notes = [Arc::new(note(llama_warden_events::OptionTreatment::Dropped))].into();
    });
    fixture.look();
    fixture.remove("a~canary");
    let actions = fixture.accepted(&BuildChange::RemoveCanary);
    let Some(TrialAction::Complete(report)) = actions.last() else { panic!("{actions:?}") };
    assert_eq!(report.old.as_ref().map(|old| &*old.binary), Some(std::path::Path::new("/old")));
    assert_eq!(report.options[0].option, "mlock");
}
