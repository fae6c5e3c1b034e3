//! What proves that a server is ready, and what only makes the machine look.

use super::*;

#[test]
fn ready_needs_the_probe_the_listener_and_the_model() {
    let mut bench = answered();
    assert_eq!(bench.listener(1002, OWN), []);
    let actions = bench.identity(1500, Identity::Same);
    let expected = Event::ReadyReached { via: ReadyVia::Health, startup_seconds: 0.5 };
    assert_eq!(actions, [Action::Publish(expected)]);
    assert_eq!(bench.machine.next_deadline(), None);
}

#[test]
fn what_cannot_be_verified_is_a_warning() {
    let mut bench = answered();
    bench.identity(1002, Identity::Unknown { because: "401".into() });
    let actions = bench.listener(1003, ListenerOwner::Unreadable { detail: "hidepid".into() });
    assert_eq!(bench.verdicts(), ["ready via health"]);
    assert_eq!(warnings(&actions), [Warning::ListenerUnverified, Warning::ModelUnverified]);
}

#[test]
fn what_nobody_answers_is_unverified_after_five_seconds() {
    let mut bench = answered();
    let actions = bench.run_until(6001, None);
    assert_eq!(bench.verdicts(), ["ready via health"]);
    assert_eq!(warnings(&actions), [Warning::ListenerUnverified, Warning::ModelUnverified]);
}

#[test]
fn a_stranger_on_the_port_is_port_in_use_whatever_model_it_serves() {
    let stranger = ListenerOwner::Foreign { pid: Some(7), program: Some("nginx".into()) };
    for identity_comes_first in [true, false] {
        let mut bench = answered();
        let other = Identity::Different { found: "`x`".into() };
        if identity_comes_first {
            assert_eq!(bench.identity(1002, other.clone()), []);
        }
        bench.listener(1003, stranger.clone());
        assert_eq!(bench.verdicts(), ["port-in-use"]);
    }
}

#[test]
fn another_model_on_our_own_listener_is_an_identity_mismatch() {
    let mut bench = answered();
    bench.listener(1002, OWN);
    bench.identity(1003, Identity::Different { found: "`x`".into() });
    assert_eq!(bench.verdicts(), ["identity-mismatch"]);
}

#[test]
fn an_answer_that_is_gone_again_makes_it_look_again() {
    for retreat in [
        Input::ListenerIdentified(ListenerOwner::Nobody),
        Input::IdentityChecked { round: 1, identity: Identity::NotReady },
    ] {
        let mut bench = answered();
        assert_eq!(bench.on(1002, retreat), []);
        assert!(bench.run_until(1100, None).contains(&Action::Probe));
        // What is left of the first confirmation does not count for the second one.
        bench.answer(1101, Answer::Ok);
        assert_eq!(bench.on(1102, Input::IdentityChecked { round: 1, identity: Identity::Same }), []);
        bench.listener(1103, OWN);
        assert_eq!(bench.verdicts(), [""; 0]);
        bench.identity(1104, Identity::Same);
        assert_eq!(bench.verdicts(), ["ready via health"]);
    }
}

#[test]
fn a_line_makes_it_look_and_names_the_proof_but_proves_nothing() {
    for strength in [HintStrength::NearlyReady, HintStrength::Ready] {
        let mut bench = Bench::new(terms());
        bench.on(SPAWNED, Input::Deadline);
        bench.answer(1001, Answer::NotReady);
        let actions = bench.line(60_000, strength);
        assert!(actions.contains(&Action::Probe), "{actions:?}");
        bench.answer(60_001, Answer::NotReady);
        assert_eq!(bench.verdicts(), [""; 0]);
        // A line comes up to 22 ms before the 200: it looks every few milliseconds now.
        let probes = bench.run_until(60_030, Some(Answer::NotReady)).iter().filter(|a| **a == Action::Probe).count();
        assert!((5..=10).contains(&probes), "{probes}");
        bench.run_until(60_034, None);
        bench.answer(60_035, Answer::Ok);
        bench.listener(60_036, OWN);
        bench.identity(60_037, Identity::Same);
        assert_eq!(bench.verdicts(), ["ready via stdout"]);
    }
}

#[test]
fn a_line_during_the_confirmation_names_the_proof() {
    let mut bench = answered();
    bench.listener(1002, OWN);
    bench.line(1003, HintStrength::Ready);
    bench.identity(1004, Identity::Same);
    assert_eq!(bench.verdicts(), ["ready via stdout"]);
}

#[test]
fn a_hanging_probe_holds_up_no_hint_and_no_more_than_two_are_on_their_way() {
    let mut bench = Bench::new(terms());
    assert_eq!(bench.on(SPAWNED, Input::Deadline), [Action::Probe]);
    assert_eq!(bench.run_until(2900, None), [], "by itself it waits for the answer");
    assert!(bench.line(3000, HintStrength::NearlyReady).contains(&Action::Probe));
    assert!(!bench.line(3001, HintStrength::Ready).contains(&Action::Probe), "two hang");
    assert_eq!(bench.answer(3002, Answer::NoAnswer), [Action::Probe], "the third one was remembered");
}

#[test]
fn a_trusted_line_is_ready_once_our_child_listens() {
    let mut bench = Bench::new(Terms { confirm: Confirm::None, ..terms() });
    assert!(!bench.line(1100, HintStrength::NearlyReady).contains(&Action::IdentifyListener));
    let actions = bench.line(1101, HintStrength::Ready);
    assert_eq!(actions[1..], [Action::IdentifyListener]);
    // It said so and does not listen: it is asked again.
    assert_eq!(bench.listener(1102, ListenerOwner::Nobody), []);
    bench.startup().in_flight = 0;
    assert!(bench.run_until(1200, None).contains(&Action::IdentifyListener));
    bench.listener(1201, OWN);
    assert_eq!(bench.verdicts(), ["ready via stdout"]);
}

#[test]
fn without_a_health_path_the_ready_line_is_the_proof() {
    // The answer before the line, and the line before the answer.
    for line_comes_first in [true, false] {
        let mut bench = Bench::new(terms());
        bench.on(SPAWNED, Input::Deadline);
        if line_comes_first {
            bench.line(1100, HintStrength::Ready);
            bench.answer(1101, Answer::NotFound);
        } else {
            bench.answer(1100, Answer::NotFound);
            bench.line(1101, HintStrength::Ready);
        }
        assert_eq!(bench.said[bench.said.len() - 2..], [Action::IdentifyListener, Action::CheckIdentity { round: 1 }]);
        bench.listener(1102, OWN);
        bench.identity(1103, Identity::Unknown { because: "404".into() });
        assert_eq!(bench.verdicts(), ["ready via stdout"]);
    }
}

#[test]
fn a_hint_is_no_proof_where_there_is_no_health_path() {
    let mut bench = Bench::new(terms());
    bench.on(SPAWNED, Input::Deadline);
    bench.answer(1100, Answer::NotFound);
    bench.line(1101, HintStrength::NearlyReady);
    assert!(!bench.said.contains(&Action::IdentifyListener));
}

#[test]
fn a_server_that_cannot_be_asked_is_never_asked() {
    let mut bench = Bench::new(Terms { askable: Askable::No, ..terms() });
    assert_eq!(bench.run_until(100_000, None), []);
    bench.line(100_001, HintStrength::NearlyReady);
    bench.line(100_002, HintStrength::Ready);
    bench.listener(100_003, OWN);
    assert_eq!(bench.verdicts(), ["ready via stdout"]);
    assert!(!bench.said.contains(&Action::Probe));
}
