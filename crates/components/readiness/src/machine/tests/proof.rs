//! Proofs make a server ready; hints only make the machine probe.

use super::*;

#[test]
fn ready_needs_the_probe_the_listener_and_the_model() {
    let mut run = answered();
    assert_eq!(run.listener(1002, OWN), []);
    let actions = run.identity(1500, Identity::Same);
    let expected = Event::ReadyReached { via: ReadyVia::Health, startup_seconds: 0.5 };
    assert_eq!(actions, [ReadinessAction::Publish(expected)]);
    assert_eq!(run.machine.next_deadline(), None);
}

#[test]
fn what_cannot_be_verified_is_a_warning() {
    let mut run = answered();
    run.identity(1002, Identity::Unknown { because: "401".into() });
    let actions = run.listener(1003, ListenerOwner::Unreadable { detail: "hidepid".into() });
    assert_eq!(run.verdicts(), ["ready via health"]);
    assert_eq!(warnings(&actions), [Warning::ListenerUnverified, Warning::ModelUnverified]);
}

#[test]
fn what_nobody_answers_is_unverified_after_five_seconds() {
    let mut run = answered();
    let actions = run.run_until(6001, None);
    assert_eq!(run.verdicts(), ["ready via health"]);
    assert_eq!(warnings(&actions), [Warning::ListenerUnverified, Warning::ModelUnverified]);
}

#[test]
fn a_stranger_on_the_port_is_port_in_use_whatever_model_it_serves() {
    let stranger = ListenerOwner::Foreign { pid: Some(7), program: Some("nginx".into()) };
    for identity_comes_first in [true, false] {
        let mut run = answered();
        let other = Identity::Different { found: "`x`".into() };
        if identity_comes_first {
            assert_eq!(run.identity(1002, other.clone()), []);
        }
        run.listener(1003, stranger.clone());
        assert_eq!(run.verdicts(), ["port-in-use"]);
    }
}

#[test]
fn another_model_on_our_own_listener_is_an_identity_mismatch() {
    let mut run = answered();
    run.listener(1002, OWN);
    run.identity(1003, Identity::Different { found: "`x`".into() });
    assert_eq!(run.verdicts(), ["identity-mismatch"]);
}

#[test]
fn an_answer_that_is_gone_again_makes_it_look_again() {
    for retreat in [
        ReadinessInput::ListenerIdentified(ListenerOwner::Nobody),
        ReadinessInput::IdentityChecked { round: 1, identity: Identity::NotReady },
        ReadinessInput::Answered(ProbeAnswer::Refused),
    ] {
        let mut run = answered();
        assert_eq!(run.on(1002, retreat), []);
        assert!(run.run_until(1100, None).contains(&ReadinessAction::Probe));
        // Answers to the first confirmation do not count for the second one.
        run.answer(1101, ProbeAnswer::Ok);
        assert_eq!(run.on(1102, ReadinessInput::IdentityChecked { round: 1, identity: Identity::Same }), []);
        run.listener(1103, OWN);
        assert_eq!(run.verdicts(), [""; 0]);
        run.identity(1104, Identity::Same);
        assert_eq!(run.verdicts(), ["ready via health"]);
    }
}

#[test]
fn a_server_that_has_gone_is_not_ready_whichever_question_found_that() {
    for gone in [
        ReadinessInput::Answered(ProbeAnswer::Refused),
        ReadinessInput::IdentityChecked { round: 1, identity: Identity::NotReady },
    ] {
        let mut run = answered();
        run.listener(1002, ListenerOwner::Nobody);
        run.run_until(1100, None);
        run.answer(1101, ProbeAnswer::Ok);
        run.on(1102, ReadinessInput::IdentityChecked { round: 2, identity: Identity::Same });
        run.on(1103, gone);
        run.run_until(20_000, Some(ProbeAnswer::Refused));
        assert_eq!(run.verdicts(), [""; 0], "nobody says who listens, and it refuses connections");
        run.exit(20_001, None);
        assert_eq!(run.verdicts(), ["exited-before-ready"]);
    }
}

#[test]
fn a_line_makes_it_look_and_names_the_proof_but_proves_nothing() {
    for strength in [HintStrength::NearlyReady, HintStrength::Ready] {
        let mut run = MachineRun::new(policy());
        run.on(SPAWNED, ReadinessInput::Deadline);
        run.answer(1001, ProbeAnswer::NotReady);
        let actions = run.line(60_000, strength);
        assert!(actions.contains(&ReadinessAction::Probe), "{actions:?}");
        run.answer(60_001, ProbeAnswer::NotReady);
        assert_eq!(run.verdicts(), [""; 0]);
        // A line comes up to 22 ms before the 200: it probes every few milliseconds now.
        let probes =
            run.run_until(60_030, Some(ProbeAnswer::NotReady)).iter().filter(|a| **a == ReadinessAction::Probe).count();
        assert!((5..=10).contains(&probes), "{probes}");
        run.run_until(60_034, None);
        run.answer(60_035, ProbeAnswer::Ok);
        run.listener(60_036, OWN);
        run.identity(60_037, Identity::Same);
        assert_eq!(run.verdicts(), ["ready via stdout"]);
    }
}

#[test]
fn a_line_during_the_confirmation_names_the_proof() {
    let mut run = answered();
    run.listener(1002, OWN);
    run.line(1003, HintStrength::Ready);
    run.identity(1004, Identity::Same);
    assert_eq!(run.verdicts(), ["ready via stdout"]);
}

#[test]
fn a_hanging_probe_holds_up_no_hint_and_no_more_than_two_are_on_their_way() {
    let mut run = MachineRun::new(policy());
    assert_eq!(run.on(SPAWNED, ReadinessInput::Deadline), [ReadinessAction::Probe]);
    assert_eq!(run.run_until(2900, None), [], "by itself it waits for the answer");
    assert!(run.line(3000, HintStrength::NearlyReady).contains(&ReadinessAction::Probe));
    assert!(!run.line(3001, HintStrength::Ready).contains(&ReadinessAction::Probe), "two hang");
    assert_eq!(run.answer(3002, ProbeAnswer::NoAnswer), [ReadinessAction::Probe], "the third one was remembered");
}

#[test]
fn any_listener_is_fine_where_the_configuration_says_so_and_the_model_is_still_checked() {
    let any = ReadinessPolicy { listener: ListenerPolicy::Any, ..policy() };
    let mut run = MachineRun::new(any);
    run.on(SPAWNED, ReadinessInput::Deadline);
    assert!(!run.answer(1001, ProbeAnswer::Ok).contains(&ReadinessAction::IdentifyListener));
    run.identity(1002, Identity::Same);
    assert_eq!(run.verdicts(), ["ready via health"]);
    let mut run = MachineRun::new(any);
    run.on(SPAWNED, ReadinessInput::Deadline);
    run.answer(1001, ProbeAnswer::Ok);
    run.identity(1002, Identity::Different { found: "`other`".into() });
    assert_eq!(run.verdicts(), ["identity-mismatch"]);
    let mut run = MachineRun::new(ReadinessPolicy { confirm: Confirm::None, ..any });
    run.line(1101, HintStrength::Ready);
    assert_eq!(run.verdicts(), ["ready via stdout"]);
}

#[test]
fn a_trusted_line_is_ready_once_our_child_listens() {
    let mut run = MachineRun::new(ReadinessPolicy { confirm: Confirm::None, ..policy() });
    assert!(!run.line(1100, HintStrength::NearlyReady).contains(&ReadinessAction::IdentifyListener));
    let actions = run.line(1101, HintStrength::Ready);
    assert_eq!(actions[1..], [ReadinessAction::IdentifyListener]);
    // It actions so and does not listen: it is asked again.
    assert_eq!(run.listener(1102, ListenerOwner::Nobody), []);
    run.startup().probes_in_flight = 0;
    assert!(run.run_until(1200, None).contains(&ReadinessAction::IdentifyListener));
    run.listener(1201, OWN);
    assert_eq!(run.verdicts(), ["ready via stdout"]);
}

#[test]
fn without_a_health_path_the_ready_line_is_the_proof() {
    // The answer before the line, and the line before the answer.
    for line_comes_first in [true, false] {
        let mut run = MachineRun::new(policy());
        run.on(SPAWNED, ReadinessInput::Deadline);
        if line_comes_first {
            run.line(1100, HintStrength::Ready);
            run.answer(1101, ProbeAnswer::NotFound);
        } else {
            run.answer(1100, ProbeAnswer::NotFound);
            run.line(1101, HintStrength::Ready);
        }
        assert_eq!(
            run.actions[run.actions.len() - 2..],
            [ReadinessAction::IdentifyListener, ReadinessAction::CheckIdentity { round: 1 }]
        );
        run.listener(1102, OWN);
        run.identity(1103, Identity::Unknown { because: "404".into() });
        assert_eq!(run.verdicts(), ["ready via stdout"]);
    }
}

#[test]
fn a_hint_is_no_proof_where_there_is_no_health_path() {
    let mut run = MachineRun::new(policy());
    run.on(SPAWNED, ReadinessInput::Deadline);
    run.answer(1100, ProbeAnswer::NotFound);
    run.line(1101, HintStrength::NearlyReady);
    assert!(!run.actions.contains(&ReadinessAction::IdentifyListener));
}

#[test]
fn a_server_that_cannot_be_asked_is_never_asked() {
    let mut run = MachineRun::new(ReadinessPolicy { probeable: Probeable::No, ..policy() });
    assert_eq!(run.run_until(100_000, None), []);
    run.line(100_001, HintStrength::NearlyReady);
    run.line(100_002, HintStrength::Ready);
    run.listener(100_003, OWN);
    assert_eq!(run.verdicts(), ["ready via stdout"]);
    assert!(!run.actions.contains(&ReadinessAction::Probe));
}
