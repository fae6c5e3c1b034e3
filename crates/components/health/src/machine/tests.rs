//! Each letter is the outcome of a check; time is in seconds.

use proptest::prelude::*;

use super::*;
use llama_warden_procfs::RunState;

const INTERVAL: u64 = 10;

fn spec() -> HealthSpec {
    let interval = Duration::from_secs(INTERVAL);
    HealthSpec { interval, timeout: Duration::from_secs(2), failures: 3, inference: None }
}

fn at(seconds: u64) -> Uptime {
    Uptime::new(Duration::from_secs(seconds))
}

fn cpu(ticks: u64) -> CpuReading {
    CpuReading { ticks, state: RunState::Live, at: at(0) }
}

fn outcome(letter: char) -> CheckOutcome {
    let detail = String::from("why");
    match letter {
        'w' => CheckOutcome::Well,
        'b' => CheckOutcome::Busy,
        'n' => CheckOutcome::NotReady { detail },
        's' => CheckOutcome::Silent { detail },
        'h' => CheckOutcome::Hung { detail },
        _ => CheckOutcome::Gone,
    }
}

fn observation(letter: char) -> CheckReport {
    CheckReport {
        outcome: outcome(letter),
        latency: Duration::from_millis(3),
        cpu: None,
        tokens: None,
        is_sleeping: None,
    }
}

/// Runs a check whenever one is due, with the outcomes that the letters name.
fn run_checks(machine: &mut HealthMachine, letters: &str) -> Vec<Event> {
    let mut events = Vec::new();
    for letter in letters.chars() {
        let Some(now) = machine.next_deadline() else { return events };
        machine.begin_check(now).expect("due");
        events.extend(machine.finish_check(observation(letter), now));
    }
    events
}

fn short(event: &Event) -> String {
    match event {
        Event::HealthProbed { ok, failures, .. } => format!("{}{failures}", if *ok { '+' } else { '-' }),
        Event::ReadyLost { .. } => "lost".to_owned(),
        Event::ReadyRegained => "regained".to_owned(),
        Event::ServerFailed { reason, .. } => reason.to_string(),
        other => panic!("{other:?}"),
    }
}

fn published_by(letters: &str) -> String {
    let mut machine = HealthMachine::new(spec(), HealthState::Ready, at(0), 0.5);
    let events = run_checks(&mut machine, letters);
    events.iter().map(short).collect::<Vec<_>>().join(" ")
}

#[test]
fn only_what_changes_is_published() {
    assert_eq!(published_by("wwwwww"), "+0");
    assert_eq!(published_by("wswwsw"), "+0 -1 +0 -1 +0");
    assert_eq!(published_by("bbbbbb"), "-0");
}

/// `z` sleeps, `a` is awake; `w` does not say.
#[test]
fn falling_asleep_and_waking_up_are_published_once_each() {
    let mut machine = HealthMachine::new(spec(), HealthState::Ready, at(0), 0.5);
    let mut sleep = Vec::new();
    for letter in "azwzawzns".chars() {
        let now = machine.next_deadline().expect("is checked");
        machine.begin_check(now).expect("due");
        let is_sleeping = match letter {
            'z' => Some(true),
            'a' => Some(false),
            _ => None,
        };
        let report = observation(if is_sleeping.is_some() { 'w' } else { letter });
        for event in machine.finish_check(CheckReport { is_sleeping, ..report }, now) {
            let Event::HealthProbed { is_sleeping, .. } = event else { panic!("{event:?}") };
            sleep.push((letter, is_sleeping));
        }
    }
    assert_eq!(sleep, [('a', false), ('z', true), ('a', false), ('z', true), ('n', false), ('s', false)]);
}

#[test]
fn too_many_failures_in_a_row_lose_readiness_and_one_good_look_regains_it() {
    let cases = [
        ("wnnn", "+0 -1 -2 -3 lost"),
        ("nnwnnwnn", "-1 -2 +0 -1 -2 +0 -1 -2"),
        ("nnnnw", "-1 -2 -3 lost -4 +0 regained"),
        ("nsn", "-1 -2 -3 lost"),
    ];
    for (letters, expected) in cases {
        assert_eq!(published_by(letters), expected, "{letters}");
    }
}

#[test]
fn a_server_that_stays_silent_or_hung_after_that_fails_once() {
    assert_eq!(published_by("sssssss"), "-1 -2 -3 lost -4 unresponsive");
    assert_eq!(published_by("hhhhhhh"), "-1 -2 -3 lost -4 wedged");
    assert_eq!(published_by("hhhs"), "-1 -2 -3 lost -4 unresponsive", "the last outcome names the reason");
}

/// Fault C39.
#[test]
fn a_server_that_computes_is_never_taken_for_dead() {
    assert_eq!(published_by("ssbssbssbss"), "-1 -2 -3 lost -4 -5 -6 -7 -8");
    assert_eq!(published_by(&"b".repeat(100)), "-0");
    assert_eq!(published_by("sssbsssb"), "-1 -2 -3 lost -4 -5 -6", "silence is counted from the last work on");
}

#[test]
fn a_server_that_says_that_it_is_not_ready_is_alive() {
    let said = published_by(&"n".repeat(20));
    assert!(said.starts_with("-1 -2 -3 lost -4") && said.ends_with("-20"), "{said}");
    assert_eq!(published_by("nnnsss"), "-1 -2 -3 lost -4 -5 -6");
    assert_eq!(published_by("nnnssss"), "-1 -2 -3 lost -4 -5 -6 -7 unresponsive");
}

#[test]
fn readiness_is_lost_at_as_many_failures_as_the_user_says_and_the_server_at_one_more() {
    for (failures, expected) in [(1, "-1 lost -2 unresponsive"), (2, "-1 -2 lost -3 unresponsive")] {
        let spec = HealthSpec { failures, ..spec() };
        let mut machine = HealthMachine::new(spec, HealthState::Ready, at(0), 0.0);
        let events = run_checks(&mut machine, "ssss");
        assert_eq!(events.iter().map(short).collect::<Vec<_>>().join(" "), expected);
    }
}

#[test]
fn a_process_that_is_gone_says_nothing() {
    assert_eq!(published_by("ggggg"), "");
}

#[test]
fn a_server_that_had_lost_it_before_can_regain_it() {
    let mut machine = HealthMachine::new(spec(), HealthState::Lost, at(0), 0.0);
    let events = run_checks(&mut machine, "w");
    assert_eq!(events.iter().map(short).collect::<Vec<_>>(), ["+0", "regained"]);
}

#[test]
fn looks_come_once_per_interval_one_at_a_time_and_the_first_one_is_spread() {
    for (spread, first) in [(0.0, 100), (0.5, 105), (1.0, 110), (7.0, 110)] {
        let machine = HealthMachine::new(spec(), HealthState::Ready, at(100), spread);
        assert_eq!(machine.next_deadline(), Some(at(first)), "{spread}");
    }
    let mut machine = HealthMachine::new(spec(), HealthState::Ready, at(100), 0.5);
    assert_eq!(machine.begin_check(at(104)), None, "too early");
    assert!(machine.begin_check(at(105)).is_some());
    assert_eq!((machine.next_deadline(), machine.begin_check(at(200))), (None, None), "one is under way");
    machine.finish_check(observation('s'), at(107));
    assert_eq!(machine.next_deadline(), Some(at(115)), "a slow answer does not move the beat");
    machine.begin_check(at(115)).expect("due");
    machine.finish_check(observation('s'), at(140));
    assert_eq!(machine.next_deadline(), Some(at(140)), "what was missed is not made up for");
}

#[test]
fn servers_that_became_ready_apart_are_looked_at_together() {
    let ready = |milliseconds| Uptime::new(Duration::from_millis(milliseconds));
    let due = |milliseconds, spread| {
        HealthMachine::new(spec(), HealthState::Ready, ready(milliseconds), spread).next_deadline()
    };
    assert_eq!(due(100_123, 0.31), Some(at(103)));
    assert_eq!(due(102_876, 0.02), Some(at(103)));
    assert_eq!(due(100_123, 0.0), Some(ready(100_123)), "not before it became ready");
}

#[test]
fn a_look_that_begins_late_delays_no_later_one() {
    let mut machine = HealthMachine::new(spec(), HealthState::Ready, at(100), 0.0);
    let late = Uptime::new(Duration::from_millis(100_490));
    machine.begin_check(late).expect("due");
    machine.finish_check(observation('w'), late);
    assert_eq!(machine.next_deadline(), Some(at(110)));
}

#[test]
fn the_processor_time_of_a_failed_look_is_what_the_next_one_compares_with() {
    let mut machine = HealthMachine::new(spec(), HealthState::Ready, at(0), 0.0);
    let mut seen = Vec::new();
    for (letter, ticks) in [('s', 7), ('b', 9), ('w', 11), ('s', 12), ('n', 13), ('w', 14)] {
        let now = machine.next_deadline().expect("more to see");
        seen.push(machine.begin_check(now).expect("due").cpu.map(|cpu| cpu.ticks));
        machine.finish_check(CheckReport { cpu: Some(cpu(ticks)), ..observation(letter) }, now);
    }
    assert_eq!(seen, [None, Some(7), Some(9), None, Some(12), None]);
}

/// The seconds at which a token was requested.
fn token_requests(inference: Option<u64>, letters: &str) -> Vec<u64> {
    let spec = HealthSpec { inference: inference.map(Duration::from_secs), ..spec() };
    let mut machine = HealthMachine::new(spec, HealthState::Ready, at(0), 0.0);
    let mut asked = Vec::new();
    for letter in letters.chars() {
        let Some(now) = machine.next_deadline() else { break };
        if machine.begin_check(now).expect("due").inference.is_some() {
            asked.push(now.as_duration().as_secs());
        }
        machine.finish_check(observation(letter), now);
    }
    asked
}

#[test]
fn a_token_is_asked_for_as_often_as_the_user_says_and_at_every_look_once_one_hung() {
    assert_eq!(token_requests(None, "wwwwwwww"), [0; 0]);
    assert_eq!(token_requests(Some(30), "wwwwwwwwww"), [30, 60, 90]);
    assert_eq!(token_requests(Some(30), "wwwhwwwww"), [30, 40, 70]);
    assert_eq!(token_requests(Some(30), "wwwhhhhhh"), [30, 40, 50, 60]);
    assert_eq!(token_requests(Some(1), "www"), [10, 20], "never more often than a look");
}

#[test]
fn what_the_last_request_for_a_token_saw_is_remembered() {
    let spec = HealthSpec { inference: Some(Duration::ZERO), ..spec() };
    let mut machine = HealthMachine::new(spec, HealthState::Ready, at(0), 0.0);
    machine.begin_check(at(0)).expect("due");
    machine.finish_check(CheckReport { cpu: Some(cpu(5)), tokens: Some(9), ..observation('h') }, at(1));
    let look = machine.begin_check(at(10)).expect("due");
    assert_eq!(look.inference, Some(Inference { cpu: Some(cpu(5)), tokens: Some(9) }));
}

#[test]
fn changed_terms_take_effect_at_once() {
    let slow = HealthSpec { interval: Duration::from_secs(3600), ..spec() };
    let mut machine = HealthMachine::new(slow, HealthState::Ready, at(0), 1.0);
    machine.change_settings(HealthSpec { inference: Some(Duration::from_secs(5)), ..spec() }, at(100));
    assert_eq!(machine.next_deadline(), Some(at(110)));
    assert!(machine.begin_check(at(110)).expect("due").inference.is_some());
}

proptest! {
    #[test]
    fn any_story_keeps_the_invariants(letters in "[wbnshg]{0,60}", failures in 1_u32..5) {
        let spec = HealthSpec { failures, inference: Some(Duration::from_secs(20)), ..spec() };
        let mut machine = HealthMachine::new(spec, HealthState::Ready, at(0), 0.3);
        let mut is_lost = false;
        let mut is_over = false;
        for letter in letters.chars() {
            let events = run_checks(&mut machine, &letter.to_string());
            prop_assert!(!is_over || events.is_empty(), "events after the failure");
            for event in events {
                match event {
                    Event::ReadyLost { .. } => {
                        prop_assert!(!is_lost);
                        is_lost = true;
                    }
                    Event::ReadyRegained => {
                        prop_assert!(is_lost && letter == 'w');
                        is_lost = false;
                    }
                    Event::ServerFailed { .. } => {
                        prop_assert!(is_lost && matches!(letter, 's' | 'h'), "failed at {letter}");
                        is_over = true;
                    }
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn a_server_that_is_asked_for_is_checked_at_once_and_said_to_be_well_even_if_it_was() {
    let mut machine = HealthMachine::new(spec(), HealthState::Ready, at(0), 0.0);
    run_checks(&mut machine, "w");
    assert!(machine.next_deadline() > Some(at(5)));
    machine.ask(at(5));
    assert_eq!(machine.next_deadline(), Some(at(5)));
    assert_eq!(run_checks(&mut machine, "w").iter().map(short).collect::<Vec<_>>(), ["+0"]);
    assert!(run_checks(&mut machine, "w").is_empty(), "asked once, said once");
}

#[test]
fn a_server_that_is_asked_for_and_not_ready_is_checked_every_second_until_it_is() {
    let mut machine = HealthMachine::new(spec(), HealthState::Ready, at(0), 0.0);
    run_checks(&mut machine, "w");
    machine.ask(at(5));
    let mut times = Vec::new();
    let mut events = Vec::new();
    for letter in ["n", "n", "n", "n", "w", "w"] {
        times.push(machine.next_deadline().expect("due").as_duration().as_secs());
        events.extend(run_checks(&mut machine, letter).iter().map(short));
    }
    assert_eq!(times[..5], [5, 6, 7, 8, 9]);
    assert!(times[5] > 15, "as usual from then on: {times:?}");
    assert_eq!(events, ["-1", "-2", "-3", "lost", "-4", "+0", "regained"]);
}

#[test]
fn a_check_that_had_begun_before_it_was_asked_for_does_not_answer() {
    let mut machine = HealthMachine::new(spec(), HealthState::Ready, at(0), 0.0);
    machine.begin_check(at(10)).expect("due");
    machine.ask(at(11));
    assert_eq!(machine.next_deadline(), None, "one at a time");
    machine.finish_check(observation('w'), at(12));
    assert_eq!(machine.next_deadline(), Some(at(12)));
    assert_eq!(run_checks(&mut machine, "w").iter().map(short).collect::<Vec<_>>(), ["+0"]);
}
