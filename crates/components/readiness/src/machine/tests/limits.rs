//! The cap, the stall timeout, and the limits on probes, hints and progress.

use super::*;

#[test]
fn probes_become_rarer_with_time() {
    let mut run = MachineRun::new(policy());
    let count =
        |actions: Vec<ReadinessAction>| actions.iter().filter(|action| **action == ReadinessAction::Probe).count();
    let first_second = count(run.run_until(SPAWNED + 1000, Some(ProbeAnswer::Refused)));
    let second_minute = {
        run.run_until(SPAWNED + 60_000, Some(ProbeAnswer::Refused));
        count(run.run_until(SPAWNED + 90_000, Some(ProbeAnswer::Refused)))
    };
    assert!((100..=260).contains(&first_second), "{first_second}");
    assert!((59..=61).contains(&second_minute), "{second_minute}");
}

#[test]
fn at_the_cap_a_silent_server_that_listens_is_assumed_ready() {
    for answer in [ProbeAnswer::NoAnswer, ProbeAnswer::Garbage, ProbeAnswer::NotFound, ProbeAnswer::Other(403)] {
        let mut run = MachineRun::new(policy());
        run.run_until(SPAWNED + 120_000, Some(answer));
        assert_eq!(run.actions.last(), Some(&ReadinessAction::IdentifyListener), "{answer:?}");
        let actions = run.listener(121_001, OWN);
        assert_eq!(run.verdicts(), ["ready via timeout"], "{answer:?}");
        assert_eq!(warnings(&actions), [Warning::ReadyAssumed]);
    }
}

#[test]
fn at_the_cap_nothing_is_assumed_of_a_port_without_our_listener() {
    let foreign = ListenerOwner::Foreign { pid: None, program: None };
    let unreadable = ListenerOwner::Unreadable { detail: "hidepid".to_owned() };
    for (owner, verdict) in
        [(ListenerOwner::Nobody, "ready-timeout"), (unreadable, "ready-timeout"), (foreign, "port-in-use")]
    {
        let mut run = MachineRun::new(policy());
        run.run_until(SPAWNED + 120_000, Some(ProbeAnswer::Refused));
        run.listener(121_001, owner);
        assert_eq!(run.verdicts(), [verdict]);
    }
}

#[test]
fn at_the_cap_a_server_that_listens_elsewhere_fails_with_that_address() {
    let elsewhere = || ListenerOwner::Elsewhere { address: "127.0.0.1:8099".to_owned() };
    for (on_timeout, percent) in [
        (OnTimeout::AssumeReady, None),
        (OnTimeout::AssumeReady, Some(50.0)),
        (OnTimeout::Fail, None),
        (OnTimeout::Fail, Some(50.0)),
    ] {
        let mut run = MachineRun::new(ReadinessPolicy { on_timeout, ..policy() });
        if percent.is_some() {
            run.percent(2000, percent);
        }
        run.run_until(SPAWNED + 120_000, Some(ProbeAnswer::Refused));
        let actions = run.listener(121_001, elsewhere());
        assert_eq!(run.verdicts(), ["ready-timeout"]);
        assert!(format!("{actions:?}").contains("it listens on 127.0.0.1:8099"), "{actions:?}");
    }
    let mut run = MachineRun::new(ReadinessPolicy { on_timeout: OnTimeout::Fail, ..policy() });
    run.run_until(SPAWNED + 120_000, Some(ProbeAnswer::Refused));
    run.listener(121_001, OWN);
    assert_eq!(run.verdicts(), ["ready-timeout"], "nothing is assumed where the policy is to fail");
}

#[test]
fn at_the_cap_a_late_answer_still_counts() {
    let cases = [(ProbeAnswer::Ok, "ready via health"), (ProbeAnswer::NotReady, "")];
    for (answer, verdict) in cases {
        let mut run = MachineRun::new(policy());
        run.run_until(SPAWNED + 120_000, None);
        run.answer(121_001, answer);
        run.listener(121_002, OWN);
        run.identity(121_003, Identity::Same);
        assert_eq!(run.verdicts().join(""), verdict, "{answer:?}");
    }
}

#[test]
fn past_the_cap_a_server_that_loads_goes_on_with_one_warning() {
    for loads_by_answer in [true, false] {
        let mut run = MachineRun::new(policy());
        let answer = if loads_by_answer { ProbeAnswer::NotReady } else { ProbeAnswer::NoAnswer };
        if !loads_by_answer {
            run.percent(2000, None);
        }
        run.run_until(SPAWNED + 300_000, Some(answer));
        assert_eq!(warnings(&run.actions), [Warning::LoadingPastCap]);
        assert_eq!(run.verdicts(), [""; 0]);
        run.run_until(SPAWNED + 300_600, None);
        run.answer(301_700, ProbeAnswer::Ok);
        run.listener(301_701, OWN);
        run.identity(301_702, Identity::Same);
        assert_eq!(run.verdicts(), ["ready via health"]);
    }
}

#[test]
fn at_the_cap_progress_before_the_ready_line_excuses_nothing() {
    for (owner, verdict) in [(ListenerOwner::Nobody, "ready-timeout"), (OWN, "ready via timeout")] {
        let mut run = MachineRun::new(policy());
        run.percent(2000, Some(100.0));
        run.line(3000, HintStrength::Ready);
        run.run_until(SPAWNED + 120_000, Some(ProbeAnswer::Refused));
        run.listener(121_001, owner);
        assert_eq!(run.verdicts(), [verdict]);
    }
}

#[test]
fn at_the_cap_a_server_that_said_not_ready_and_then_fell_silent_is_not_assumed_ready() {
    for (answer, verdict) in [(ProbeAnswer::NoAnswer, "ready-timeout"), (ProbeAnswer::NotReady, "")] {
        let mut run = MachineRun::new(policy());
        run.answer(2000, ProbeAnswer::NotReady);
        run.line(3000, HintStrength::Ready);
        run.answer(3001, answer);
        run.run_until(SPAWNED + 120_000, Some(answer));
        assert_eq!(run.verdicts().join(""), verdict, "{answer:?}");
    }
}

#[test]
fn past_the_cap_a_ready_line_ends_the_patience() {
    let mut run = MachineRun::new(policy());
    run.percent(2000, Some(1.0));
    run.run_until(SPAWNED + 200_000, Some(ProbeAnswer::Refused));
    run.line(SPAWNED + 200_000, HintStrength::Ready);
    run.run_until(SPAWNED + 204_999, Some(ProbeAnswer::Refused));
    assert_eq!(run.verdicts(), [""; 0]);
    run.run_until(SPAWNED + 205_000, Some(ProbeAnswer::Refused));
    run.listener(SPAWNED + 205_001, ListenerOwner::Nobody);
    assert_eq!(run.verdicts(), ["ready-timeout"]);
}

#[test]
fn past_the_cap_progress_after_a_ready_line_goes_on_with_one_warning() {
    let mut run = MachineRun::new(policy());
    run.percent(2000, Some(1.0));
    run.run_until(SPAWNED + 200_000, Some(ProbeAnswer::Refused));
    run.line(SPAWNED + 200_000, HintStrength::Ready);
    run.percent(SPAWNED + 201_000, Some(50.0));
    run.run_until(SPAWNED + 300_000, Some(ProbeAnswer::Refused));
    assert_eq!(run.verdicts(), [""; 0]);
    assert_eq!(warnings(&run.actions), [Warning::LoadingPastCap]);
}

#[test]
fn the_policy_fail_ends_every_server_at_the_cap() {
    for answer in [ProbeAnswer::NotReady, ProbeAnswer::NoAnswer, ProbeAnswer::Refused] {
        let mut run = MachineRun::new(ReadinessPolicy { on_timeout: OnTimeout::Fail, ..policy() });
        run.run_until(SPAWNED + 119_999, Some(answer));
        assert_eq!(run.verdicts(), [""; 0]);
        run.run_until(SPAWNED + 120_000, Some(answer));
        if answer == ProbeAnswer::Refused {
            assert_eq!(run.actions.last(), Some(&ReadinessAction::IdentifyListener), "it may listen elsewhere");
            run.listener(121_001, ListenerOwner::Nobody);
        }
        assert_eq!(run.verdicts(), ["ready-timeout"]);
    }
}

#[test]
fn a_server_without_a_sign_of_life_has_stalled() {
    let mut run = MachineRun::new(ReadinessPolicy { stall_timeout: Some(Duration::from_secs(10)), ..policy() });
    // 503 once is a change and so a sign of life; 503 for ever is none.
    run.run_until(SPAWNED + 9000, Some(ProbeAnswer::NotReady));
    run.life(SPAWNED + 9000);
    run.run_until(SPAWNED + 18_999, Some(ProbeAnswer::NotReady));
    assert_eq!(run.verdicts(), [""; 0]);
    run.run_until(SPAWNED + 19_000, Some(ProbeAnswer::NotReady));
    assert_eq!(run.verdicts(), ["stalled"]);
}

#[test]
fn past_the_cap_the_stall_timeout_bounds_a_server_that_loads() {
    let mut run = MachineRun::new(ReadinessPolicy { stall_timeout: Some(Duration::from_secs(60)), ..policy() });
    run.run_until(SPAWNED + 1000, Some(ProbeAnswer::NotReady));
    run.life(SPAWNED + 100_000);
    run.run_until(SPAWNED + 200_000, Some(ProbeAnswer::NotReady));
    assert_eq!(warnings(&run.actions), [Warning::LoadingPastCap]);
    assert_eq!(run.verdicts(), ["stalled"]);
}

#[test]
fn progress_is_told_once_per_percent() {
    let mut run = MachineRun::new(policy());
    let inputs = [None, None, Some(10.2), Some(10.9), None, Some(11.0), Some(100.0)];
    let published_progress: Vec<_> = inputs
        .into_iter()
        .flat_map(|percent| run.percent(2000, percent))
        .map(|action| match action {
            ReadinessAction::Publish(Event::LoadProgressed { ratio }) => ratio,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(published_progress, [None, Some(10.2 / 100.0), Some(0.11), Some(1.0)]);
}

#[test]
fn a_server_that_says_not_ready_is_loading() {
    let mut run = MachineRun::new(policy());
    let published_progress = run.run_until(SPAWNED + 5000, Some(ProbeAnswer::NotReady));
    let published_progress = published_progress
        .iter()
        .filter(|action| matches!(action, ReadinessAction::Publish(Event::LoadProgressed { ratio: None })));
    assert_eq!(published_progress.count(), 1);
}

#[test]
fn only_the_first_hints_are_published() {
    let mut run = MachineRun::new(policy());
    for ms in 0..100 {
        run.line(2000 + ms, HintStrength::NearlyReady);
    }
    let hints =
        run.actions.iter().filter(|action| matches!(action, ReadinessAction::Publish(Event::ReadyHinted { .. })));
    assert_eq!(hints.count(), usize::from(MOST_HINTS));
}

/// Fault S11.
#[test]
fn time_in_which_nobody_watched_counts_for_no_limit() {
    let strict =
        ReadinessPolicy { on_timeout: OnTimeout::Fail, stall_timeout: Some(Duration::from_secs(10)), ..policy() };
    let mut run = MachineRun::new(strict);
    run.life(5000);
    // An hour's sleep; then a line comes, or none.
    run.on(3_600_000, ReadinessInput::Deadline);
    assert_eq!(run.verdicts(), [""; 0]);
    run.run_until(3_604_999, Some(ProbeAnswer::Refused));
    assert_eq!(run.verdicts(), [""; 0]);
    run.run_until(3_605_000, Some(ProbeAnswer::Refused));
    assert_eq!(run.verdicts(), ["ready-timeout"], "its time was over long ago");
    let mut run = MachineRun::new(ReadinessPolicy { stall_timeout: Some(Duration::from_secs(10)), ..policy() });
    run.on(3_600_000, ReadinessInput::Deadline);
    run.run_until(3_609_999, Some(ProbeAnswer::NotReady));
    assert_eq!(run.verdicts(), [""; 0]);
    run.run_until(3_611_000, Some(ProbeAnswer::NotReady));
    assert_eq!(run.verdicts(), ["stalled"]);
    // The answers to the confirmation came meanwhile, or the end of the process, and are unread.
    let mut run = answered();
    run.on(3_600_000, ReadinessInput::Deadline);
    run.run_until(3_604_999, None);
    assert_eq!(run.verdicts(), [""; 0]);
    run.exit(3_604_999, None);
    assert_eq!(run.verdicts(), ["exited-before-ready"]);
}

#[test]
fn the_time_of_a_server_that_downloads_its_model_counts_from_the_end_of_the_download() {
    for on_timeout in [OnTimeout::Fail, OnTimeout::AssumeReady] {
        let stall_timeout = Some(Duration::from_secs(30));
        let mut run = MachineRun::new(ReadinessPolicy { on_timeout, stall_timeout, fetches_model: true, ..policy() });
        run.run_until(SPAWNED + 600_000, Some(ProbeAnswer::Refused));
        assert_eq!(run.verdicts(), [""; 0], "{on_timeout:?}: a silent download has no limit");
        let loading =
            |action: &&ReadinessAction| matches!(action, ReadinessAction::Publish(Event::LoadProgressed { .. }));
        assert_eq!(run.actions.iter().filter(loading).count(), 1, "it counts as loading from the start");
        assert_eq!(warnings(&run.actions), [Warning::LoadingPastCap]);
        run.on(
            601_000,
            ReadinessInput::Output(OutputSummary {
                has_model: true,
                last_line: Some(at(601_000)),
                ..OutputSummary::default()
            }),
        );
        let cap = run.startup().cap;
        assert_eq!(cap, Some(at(721_000)));
        run.run_until(625_000, Some(ProbeAnswer::Refused));
        assert_eq!(run.verdicts(), [""; 0]);
        run.run_until(640_000, Some(ProbeAnswer::Refused));
        assert_eq!(run.verdicts(), ["stalled"], "{on_timeout:?}: then silence counts again");
    }
}
