//! Exits, stops, and random sequences of inputs.

use super::*;

#[test]
fn an_exit_before_ready_fails_for_the_reason_of_the_evidence() {
    for (evidence, verdict) in [
        (None, "exited-before-ready"),
        (evidence(FailureReason::ModelInvalid), "model-invalid"),
        (evidence(FailureReason::PortInUse), "port-in-use"),
    ] {
        let mut run = answered();
        run.exit(1002, evidence);
        assert_eq!(run.verdicts(), [verdict]);
    }
}

#[test]
fn an_exit_after_ready_is_a_crash_unless_memory_ran_out() {
    for (evidence, verdict) in [
        (None, "crashed"),
        (evidence(FailureReason::ModelInvalid), "crashed"),
        (evidence(FailureReason::OutOfMemory), "out-of-memory"),
    ] {
        let mut run = ready();
        run.exit(1010, evidence);
        assert_eq!(run.verdicts(), ["ready via health", verdict]);
    }
    let mut run = ready();
    let actions = run.on(1010, ReadinessInput::Exited { end: ProcessEnd::Exited { code: 0 }, evidence: None });
    let Some(ReadinessAction::Fail(failure)) = actions.first() else { panic!("{actions:?}") };
    assert_eq!((failure.reason, &*failure.detail), (FailureReason::Ended, "ended by itself with exit code 0"));
}

#[test]
fn an_end_that_was_asked_for_is_no_failure() {
    for over in [ReadinessInput::StopBegan, ReadinessInput::FailedElsewhere] {
        for mut run in [MachineRun::new(policy()), answered(), ready()] {
            let before = run.verdicts().len();
            run.on(2000, over.clone());
            run.listener(2001, OWN);
            run.identity(2002, Identity::Same);
            run.exit(2003, None);
            assert_eq!(run.verdicts().len(), before);
            assert_eq!(run.machine.next_deadline(), None);
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
        let mut run = MachineRun::new(ReadinessPolicy {
            listener: if seed % 5 == 0 { ListenerPolicy::Any } else { ListenerPolicy::Own },
            confirm: if seed % 3 == 0 { Confirm::None } else { Confirm::Health },
            on_timeout: if seed % 5 == 0 { OnTimeout::Fail } else { OnTimeout::AssumeReady },
            stall_timeout: (seed % 2 == 0).then_some(Duration::from_secs(30)),
            probeable: if seed % 7 == 0 { Probeable::No } else { Probeable::Yes },
            ..policy()
        });
        let mut ms = SPAWNED;
        for random in inputs(seed).take(60) {
            ms += random % 20_000;
            match (random >> 16) % 12 {
                0 => run.answer(ms, ProbeAnswer::Ok),
                1 => run.answer(ms, ProbeAnswer::NotReady),
                2 => run.answer(ms, ProbeAnswer::NotFound),
                3 => run.line(ms, HintStrength::Ready),
                4 => run.line(ms, HintStrength::NearlyReady),
                5 => run.listener(ms, OWN),
                6 => run.listener(ms, ListenerOwner::Nobody),
                7 => run.identity(ms, Identity::Same),
                8 => run.percent(ms, Some(5.0)),
                9 if random % 5 == 0 => run.exit(ms, None),
                _ => run.run_until(ms, Some(ProbeAnswer::NoAnswer)),
            };
        }
        let verdicts = run.verdicts();
        assert!(verdicts.len() <= 2, "seed {seed}: {verdicts:?}");
        if let [first, second] = &*verdicts {
            assert!(first.starts_with("ready") && !second.starts_with("ready"), "seed {seed}: {verdicts:?}");
        }
        let probes = run.actions.iter().filter(|action| **action == ReadinessAction::Probe).count();
        // 600 s at two a second, and 125 for the half second after each of the hints.
        assert!(probes < 1200 + 125 * 60, "seed {seed}: {probes} probes");
    }
}
