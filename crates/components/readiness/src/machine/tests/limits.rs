//! The cap, the stall timeout, and what is told and asked only so often.

use super::*;

#[test]
fn probes_become_rarer_with_time() {
    let mut bench = Bench::new(terms());
    let count = |actions: Vec<Action>| actions.iter().filter(|action| **action == Action::Probe).count();
    let first_second = count(bench.run_until(SPAWNED + 1000, Some(Answer::Refused)));
    let second_minute = {
        bench.run_until(SPAWNED + 60_000, Some(Answer::Refused));
        count(bench.run_until(SPAWNED + 90_000, Some(Answer::Refused)))
    };
    assert!((100..=260).contains(&first_second), "{first_second}");
    assert!((59..=61).contains(&second_minute), "{second_minute}");
}

#[test]
fn at_the_cap_a_silent_server_that_listens_is_assumed_ready() {
    for answer in [Answer::NoAnswer, Answer::Garbage, Answer::NotFound, Answer::Other(403)] {
        let mut bench = Bench::new(terms());
        bench.run_until(SPAWNED + 120_000, Some(answer));
        assert_eq!(bench.said.last(), Some(&Action::IdentifyListener), "{answer:?}");
        let actions = bench.listener(121_001, OWN);
        assert_eq!(bench.verdicts(), ["ready via timeout"], "{answer:?}");
        assert_eq!(warnings(&actions), [Warning::ReadyAssumed]);
    }
}

#[test]
fn at_the_cap_nothing_is_assumed_of_a_port_without_our_listener() {
    let foreign = ListenerOwner::Foreign { pid: None, program: None };
    for (owner, verdict) in [(ListenerOwner::Nobody, "ready-timeout"), (foreign, "port-in-use")] {
        let mut bench = Bench::new(terms());
        bench.run_until(SPAWNED + 120_000, Some(Answer::Refused));
        bench.listener(121_001, owner);
        assert_eq!(bench.verdicts(), [verdict]);
    }
}

#[test]
fn at_the_cap_a_late_answer_still_counts() {
    let cases = [(Answer::Ok, "ready via health"), (Answer::NotReady, "")];
    for (answer, verdict) in cases {
        let mut bench = Bench::new(terms());
        bench.run_until(SPAWNED + 120_000, None);
        bench.answer(121_001, answer);
        bench.listener(121_002, OWN);
        bench.identity(121_003, Identity::Same);
        assert_eq!(bench.verdicts().join(""), verdict, "{answer:?}");
    }
}

#[test]
fn past_the_cap_a_server_that_loads_goes_on_with_one_warning() {
    for loads_by_answer in [true, false] {
        let mut bench = Bench::new(terms());
        let answer = if loads_by_answer { Answer::NotReady } else { Answer::NoAnswer };
        if !loads_by_answer {
            bench.percent(2000, None);
        }
        bench.run_until(SPAWNED + 300_000, Some(answer));
        assert_eq!(warnings(&bench.said), [Warning::LoadingPastCap]);
        assert_eq!(bench.verdicts(), [""; 0]);
        bench.run_until(SPAWNED + 300_600, None);
        bench.answer(301_700, Answer::Ok);
        bench.listener(301_701, OWN);
        bench.identity(301_702, Identity::Same);
        assert_eq!(bench.verdicts(), ["ready via health"]);
    }
}

#[test]
fn at_the_cap_progress_before_the_ready_line_excuses_nothing() {
    for (owner, verdict) in [(ListenerOwner::Nobody, "ready-timeout"), (OWN, "ready via timeout")] {
        let mut bench = Bench::new(terms());
        bench.percent(2000, Some(100.0));
        bench.line(3000, HintStrength::Ready);
        bench.run_until(SPAWNED + 120_000, Some(Answer::Refused));
        bench.listener(121_001, owner);
        assert_eq!(bench.verdicts(), [verdict]);
    }
}

#[test]
fn at_the_cap_a_server_that_said_not_ready_and_then_fell_silent_is_not_assumed_ready() {
    for (answer, verdict) in [(Answer::NoAnswer, "ready-timeout"), (Answer::NotReady, "")] {
        let mut bench = Bench::new(terms());
        bench.answer(2000, Answer::NotReady);
        bench.line(3000, HintStrength::Ready);
        bench.answer(3001, answer);
        bench.run_until(SPAWNED + 120_000, Some(answer));
        assert_eq!(bench.verdicts().join(""), verdict, "{answer:?}");
    }
}

#[test]
fn past_the_cap_a_ready_line_ends_the_patience() {
    let mut bench = Bench::new(terms());
    bench.percent(2000, Some(1.0));
    bench.run_until(SPAWNED + 200_000, Some(Answer::Refused));
    bench.line(SPAWNED + 200_000, HintStrength::Ready);
    bench.run_until(SPAWNED + 204_999, Some(Answer::Refused));
    assert_eq!(bench.verdicts(), [""; 0]);
    bench.run_until(SPAWNED + 205_000, Some(Answer::Refused));
    bench.listener(SPAWNED + 205_001, ListenerOwner::Nobody);
    assert_eq!(bench.verdicts(), ["ready-timeout"]);
}

#[test]
fn past_the_cap_progress_after_a_ready_line_goes_on_with_one_warning() {
    let mut bench = Bench::new(terms());
    bench.percent(2000, Some(1.0));
    bench.run_until(SPAWNED + 200_000, Some(Answer::Refused));
    bench.line(SPAWNED + 200_000, HintStrength::Ready);
    bench.percent(SPAWNED + 201_000, Some(50.0));
    bench.run_until(SPAWNED + 300_000, Some(Answer::Refused));
    assert_eq!(bench.verdicts(), [""; 0]);
    assert_eq!(warnings(&bench.said), [Warning::LoadingPastCap]);
}

#[test]
fn the_policy_fail_ends_every_server_at_the_cap() {
    for answer in [Answer::NotReady, Answer::NoAnswer, Answer::Refused] {
        let mut bench = Bench::new(Terms { on_timeout: OnTimeout::Fail, ..terms() });
        bench.run_until(SPAWNED + 119_999, Some(answer));
        assert_eq!(bench.verdicts(), [""; 0]);
        bench.run_until(SPAWNED + 120_000, Some(answer));
        assert_eq!(bench.verdicts(), ["ready-timeout"]);
    }
}

#[test]
fn a_server_without_a_sign_of_life_has_stalled() {
    let mut bench = Bench::new(Terms { stall_timeout: Some(Duration::from_secs(10)), ..terms() });
    // 503 once is a change and so a sign of life; 503 for ever is none.
    bench.run_until(SPAWNED + 9000, Some(Answer::NotReady));
    bench.life(SPAWNED + 9000);
    bench.run_until(SPAWNED + 18_999, Some(Answer::NotReady));
    assert_eq!(bench.verdicts(), [""; 0]);
    bench.run_until(SPAWNED + 19_000, Some(Answer::NotReady));
    assert_eq!(bench.verdicts(), ["stalled"]);
}

#[test]
fn past_the_cap_the_stall_timeout_bounds_a_server_that_loads() {
    let mut bench = Bench::new(Terms { stall_timeout: Some(Duration::from_secs(60)), ..terms() });
    bench.run_until(SPAWNED + 1000, Some(Answer::NotReady));
    bench.life(SPAWNED + 100_000);
    bench.run_until(SPAWNED + 200_000, Some(Answer::NotReady));
    assert_eq!(warnings(&bench.said), [Warning::LoadingPastCap]);
    assert_eq!(bench.verdicts(), ["stalled"]);
}

#[test]
fn progress_is_told_once_per_percent() {
    let mut bench = Bench::new(terms());
    let inputs = [None, None, Some(10.2), Some(10.9), None, Some(11.0), Some(100.0)];
    let told: Vec<_> = inputs
        .into_iter()
        .flat_map(|percent| bench.percent(2000, percent))
        .map(|action| match action {
            Action::Publish(Event::LoadProgressed { ratio }) => ratio,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, [None, Some(10.2 / 100.0), Some(0.11), Some(1.0)]);
}

#[test]
fn a_server_that_says_not_ready_is_loading() {
    let mut bench = Bench::new(terms());
    let told = bench.run_until(SPAWNED + 5000, Some(Answer::NotReady));
    let told = told.iter().filter(|action| matches!(action, Action::Publish(Event::LoadProgressed { ratio: None })));
    assert_eq!(told.count(), 1);
}

#[test]
fn only_the_first_hints_are_published() {
    let mut bench = Bench::new(terms());
    for ms in 0..100 {
        bench.line(2000 + ms, HintStrength::NearlyReady);
    }
    let hints = bench.said.iter().filter(|action| matches!(action, Action::Publish(Event::ReadyHinted { .. })));
    assert_eq!(hints.count(), usize::from(MOST_HINTS));
}

/// S11.
#[test]
fn time_in_which_nobody_watched_counts_for_no_limit() {
    let strict = Terms { on_timeout: OnTimeout::Fail, stall_timeout: Some(Duration::from_secs(10)), ..terms() };
    let mut bench = Bench::new(strict);
    bench.life(5000);
    // An hour's sleep; then a line comes, or none.
    bench.on(3_600_000, Input::Deadline);
    assert_eq!(bench.verdicts(), [""; 0]);
    bench.run_until(3_604_999, Some(Answer::Refused));
    assert_eq!(bench.verdicts(), [""; 0]);
    bench.run_until(3_605_000, Some(Answer::Refused));
    assert_eq!(bench.verdicts(), ["ready-timeout"], "its time was over long ago");
    let mut bench = Bench::new(Terms { stall_timeout: Some(Duration::from_secs(10)), ..terms() });
    bench.on(3_600_000, Input::Deadline);
    bench.run_until(3_609_999, Some(Answer::NotReady));
    assert_eq!(bench.verdicts(), [""; 0]);
    bench.run_until(3_611_000, Some(Answer::NotReady));
    assert_eq!(bench.verdicts(), ["stalled"]);
}
