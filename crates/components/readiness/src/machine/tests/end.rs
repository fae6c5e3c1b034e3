//! Exits, stops, and sequences of anything.

use super::*;

#[test]
fn an_exit_before_ready_fails_for_the_reason_of_the_evidence() {
    for (evidence, verdict) in [
        (None, "exited-before-ready"),
        (evidence(FailureReason::ModelInvalid), "model-invalid"),
        (evidence(FailureReason::PortInUse), "port-in-use"),
    ] {
        let mut bench = answered();
        bench.exit(1002, evidence);
        assert_eq!(bench.verdicts(), [verdict]);
    }
}

#[test]
fn an_exit_after_ready_is_a_crash_unless_memory_ran_out() {
    for (evidence, verdict) in [
        (None, "crashed"),
        (evidence(FailureReason::ModelInvalid), "crashed"),
        (evidence(FailureReason::OutOfMemory), "out-of-memory"),
    ] {
        let mut bench = ready();
        bench.exit(1010, evidence);
        assert_eq!(bench.verdicts(), ["ready via health", verdict]);
    }
    let mut bench = ready();
    let actions = bench.on(1010, Input::Exited { end: ProcessEnd::Exited { code: 0 }, evidence: None });
    let Some(Action::Fail(failure)) = actions.first() else { panic!("{actions:?}") };
    assert_eq!(failure.detail, "ended by itself with exit code 0");
}

#[test]
fn an_end_that_was_asked_for_is_no_failure() {
    for over in [Input::StopBegan, Input::FailedElsewhere] {
        for mut bench in [Bench::new(terms()), answered(), ready()] {
            let before = bench.verdicts().len();
            bench.on(2000, over.clone());
            bench.listener(2001, OWN);
            bench.identity(2002, Identity::Same);
            bench.exit(2003, None);
            assert_eq!(bench.verdicts().len(), before);
            assert_eq!(bench.machine.next_deadline(), None);
        }
    }
}

#[test]
fn whatever_comes_there_is_one_verdict_before_and_one_after_ready() {
    let inputs = |seed: u64| {
        // A small generator keeps the sequences the same on every run.
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        std::iter::repeat_with(move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        })
    };
    for seed in 1..3000 {
        let mut bench = Bench::new(Terms {
            confirm: if seed % 3 == 0 { Confirm::None } else { Confirm::Health },
            on_timeout: if seed % 5 == 0 { OnTimeout::Fail } else { OnTimeout::AssumeReady },
            stall_timeout: (seed % 2 == 0).then_some(Duration::from_secs(30)),
            askable: if seed % 7 == 0 { Askable::No } else { Askable::Yes },
            ..terms()
        });
        let mut ms = SPAWNED;
        for random in inputs(seed).take(60) {
            ms += random % 20_000;
            match (random >> 16) % 12 {
                0 => bench.answer(ms, Answer::Ok),
                1 => bench.answer(ms, Answer::NotReady),
                2 => bench.answer(ms, Answer::NotFound),
                3 => bench.line(ms, HintStrength::Ready),
                4 => bench.line(ms, HintStrength::NearlyReady),
                5 => bench.listener(ms, OWN),
                6 => bench.listener(ms, ListenerOwner::Nobody),
                7 => bench.identity(ms, Identity::Same),
                8 => bench.percent(ms, Some(5.0)),
                9 if random % 5 == 0 => bench.exit(ms, None),
                _ => bench.run_until(ms, Some(Answer::NoAnswer)),
            };
        }
        let verdicts = bench.verdicts();
        assert!(verdicts.len() <= 2, "seed {seed}: {verdicts:?}");
        if let [first, second] = &*verdicts {
            assert!(first.starts_with("ready") && !second.starts_with("ready"), "seed {seed}: {verdicts:?}");
        }
        let probes = bench.said.iter().filter(|action| **action == Action::Probe).count();
        // 600 s at two a second, and 125 for the half second after each of the hints.
        assert!(probes < 1200 + 125 * 60, "seed {seed}: {probes} probes");
    }
}
