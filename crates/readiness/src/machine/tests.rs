//! The machine as tables: inputs at times in milliseconds since the start of the daemon, the spawn being at 1000.

use llama_warden_events::{FailureReason, Signal};

use super::*;

const SPAWNED: u64 = 1000;
const OWN: ListenerOwner = ListenerOwner::Own;
const CRASH: ProcessEnd = ProcessEnd::Signaled { signal: Signal::ABRT, core_dumped: false };

fn terms() -> Terms {
    Terms {
        timeout: Duration::from_secs(120),
        on_timeout: OnTimeout::AssumeReady,
        stall_timeout: None,
        confirm: Confirm::Health,
        askable: Askable::Yes,
    }
}

/// A machine that notes what it says.
struct Bench {
    machine: Machine,
    /// Time does not run backwards, also where a test lets a deadline pass unheard.
    now: Elapsed,
    said: Vec<Action>,
}

impl Bench {
    fn new(terms: Terms) -> Self {
        Self { machine: Machine::new(terms, at(SPAWNED)), now: at(SPAWNED), said: Vec::new() }
    }

    fn on(&mut self, ms: u64, input: Input) -> Vec<Action> {
        self.now = self.now.max(at(ms));
        let actions = self.machine.on(input, self.now);
        self.said.extend(actions.iter().cloned());
        actions
    }

    fn answer(&mut self, ms: u64, answer: Answer) -> Vec<Action> {
        self.on(ms, Input::Answered(answer))
    }

    fn line(&mut self, ms: u64, strength: HintStrength) -> Vec<Action> {
        let hint = Hint { stream: StreamName::Stdout, strength, line: "up".into() };
        self.on(ms, Input::Sighted(Sighting { hints: vec![hint], last_line: Some(at(ms)), ..Sighting::default() }))
    }

    fn life(&mut self, ms: u64) {
        self.on(ms, Input::Sighted(Sighting { last_line: Some(at(ms)), ..Sighting::default() }));
    }

    fn percent(&mut self, ms: u64, percent: Option<f64>) -> Vec<Action> {
        self.on(ms, Input::Sighted(Sighting { progress: Some(percent), ..Sighting::default() }))
    }

    fn listener(&mut self, ms: u64, owner: ListenerOwner) -> Vec<Action> {
        self.on(ms, Input::ListenerIdentified(owner))
    }

    fn identity(&mut self, ms: u64, identity: Identity) -> Vec<Action> {
        let round = self.machine.round;
        self.on(ms, Input::IdentityChecked { round, identity })
    }

    fn exit(&mut self, ms: u64, evidence: Option<Evidence>) -> Vec<Action> {
        self.on(ms, Input::Exited { end: CRASH, evidence })
    }

    /// Lets deadlines pass until `ms`; every probe is answered at once with `answer`, if there is one.
    fn run_until(&mut self, ms: u64, answer: Option<Answer>) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(deadline) = self.machine.next_deadline().filter(|deadline| *deadline <= at(ms)) {
            self.now = self.now.max(deadline);
            let before = actions.len();
            actions.extend(self.machine.on(Input::Deadline, self.now));
            let probes = actions[before..].iter().filter(|action| **action == Action::Probe).count();
            for _ in 0..probes {
                if let Some(answer) = answer {
                    actions.extend(self.machine.on(Input::Answered(answer), self.now));
                }
            }
            assert!(actions.len() < 100_000, "the machine does not come to rest");
        }
        self.said.extend(actions.iter().cloned());
        actions
    }

    fn verdicts(&self) -> Vec<String> {
        self.said.iter().filter_map(verdict).collect()
    }
}

fn at(ms: u64) -> Elapsed {
    Elapsed::new(Duration::from_millis(ms))
}

fn verdict(action: &Action) -> Option<String> {
    match action {
        Action::Publish(Event::ReadyReached { via, .. }) => Some(format!("ready via {via}")),
        Action::Fail(failure) => Some(failure.reason.to_string()),
        _ => None,
    }
}

fn warnings(actions: &[Action]) -> Vec<Warning> {
    let warning = |action: &Action| match action {
        Action::Publish(Event::ServerWarned { warning, .. }) => Some(*warning),
        _ => None,
    };
    actions.iter().filter_map(warning).collect()
}

fn evidence(reason: FailureReason) -> Option<Evidence> {
    Some(Evidence { reason, rank: 0, line: "why it failed".into() })
}

/// A machine whose first probe was answered with 200.
fn answered() -> Bench {
    let mut bench = Bench::new(terms());
    assert_eq!(bench.on(SPAWNED, Input::Deadline), [Action::Probe]);
    let actions = bench.answer(1001, Answer::Ok);
    assert_eq!(actions, [Action::IdentifyListener, Action::CheckIdentity { round: 1 }]);
    bench
}

fn ready() -> Bench {
    let mut bench = answered();
    bench.listener(1002, OWN);
    bench.identity(1003, Identity::Same);
    assert_eq!(bench.verdicts(), ["ready via health"]);
    bench
}

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
fn a_trusted_line_is_ready_once_our_child_listens() {
    let mut bench = Bench::new(Terms { confirm: Confirm::None, ..terms() });
    assert!(!bench.line(1100, HintStrength::NearlyReady).contains(&Action::IdentifyListener));
    let actions = bench.line(1101, HintStrength::Ready);
    assert_eq!(actions[1..], [Action::IdentifyListener]);
    // It said so and does not listen: it is asked again.
    assert_eq!(bench.listener(1102, ListenerOwner::Nobody), []);
    bench.machine.in_flight = 0;
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
