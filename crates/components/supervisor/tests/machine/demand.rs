//! Requests start servers and evict others; servers that nobody uses are stopped.

use std::time::Duration;

use llama_warden_events::{FailureReason, RefusalReason, ServerId, SuperviseCommand};
use llama_warden_room::{RoomGroup, RoomRules};
use llama_warden_supervisor::{RoutingPolicy, ServerPolicy};
use proptest::prelude::*;

use crate::fixtures::id;
use crate::routed::{LOAD, RoutedFleet, at_most};

fn unlimited() -> RoutingPolicy {
    RoutingPolicy { is_on: true, ..RoutingPolicy::default() }
}

fn stop(name: &str) -> SuperviseCommand {
    SuperviseCommand::StopServer { server: id(name), grace: None, force: false }
}

#[test]
fn a_request_launches_its_server_once_and_one_that_leaves_before_launches_nothing() {
    let mut fleet = RoutedFleet::new(&["a"], unlimited());
    for _ in 0..3 {
        assert_eq!(fleet.request("a"), None);
    }
    fleet.pass(LOAD + 1.0);
    assert_eq!((fleet.take_log(), fleet.waits.len()), (vec!["launch a".to_owned()], 3));
    let mut fleet = RoutedFleet::new(&["a", "b"], at_most(1));
    fleet.request("a");
    fleet.request("b");
    fleet.leave("b");
    fleet.pass(60.0);
    assert_eq!((fleet.take_log(), fleet.ready()), (vec!["launch a".to_owned()], vec!["a"]));
}

#[test]
fn a_load_that_nobody_waits_for_any_more_is_finished() {
    let mut fleet = RoutedFleet::new(&["a"], unlimited());
    fleet.request("a");
    fleet.leave("a");
    fleet.pass(LOAD + 1.0);
    assert_eq!(fleet.ready(), ["a"]);
}

#[test]
fn what_a_person_stopped_is_not_started_by_a_request() {
    let mut fleet = RoutedFleet::new(&["a"], unlimited());
    fleet.request("a");
    fleet.pass(LOAD + 1.0);
    fleet.respond("a");
    fleet.respond("a");
    fleet.command(stop("a"));
    assert_eq!(fleet.request("a"), Some(RefusalReason::StoppedByHand));
    fleet.command(SuperviseCommand::StartServer { server: id("a") });
    assert_eq!(fleet.request("a"), None);
}

#[test]
fn requests_start_nothing_where_the_configuration_says_so_and_use_what_runs() {
    let mut fleet = RoutedFleet::new(&["a"], RoutingPolicy { on_demand: false, ..unlimited() });
    assert_eq!(fleet.request("a"), Some(RefusalReason::NotOnDemand));
    fleet.command(SuperviseCommand::StartServer { server: id("a") });
    assert_eq!(fleet.request("a"), None, "it loads");
    fleet.pass(LOAD + 1.0);
    assert_eq!(fleet.waits.len(), 1);
}

#[test]
fn a_request_respects_the_back_off_and_a_given_up_server_is_tried_once_in_five_minutes() {
    let mut fleet = RoutedFleet::new(&["a"], unlimited());
    fleet.failing.insert(id("a"), FailureReason::Crashed);
    fleet.request("a");
    // Two restarts are allowed, with a delay of at most 1 and 2 s.
    fleet.pass(30.0);
    assert_eq!(fleet.take_log().len(), 3);
    fleet.leave("a");
    for _ in 0..20 {
        assert_eq!(fleet.request("a"), Some(RefusalReason::GivenUp));
    }
    fleet.pass(300.0);
    assert_eq!(fleet.request("a"), None);
    fleet.pass(30.0);
    assert_eq!(fleet.take_log(), ["launch a"], "its failures are not forgotten: one more is enough");
    fleet.leave("a");
    assert_eq!(fleet.request("a"), Some(RefusalReason::GivenUp));
    fleet.failing.insert(id("a"), FailureReason::ModelInvalid);
    fleet.command(SuperviseCommand::StartServer { server: id("a") });
    fleet.pass(600.0);
    assert_eq!(fleet.request("a"), Some(RefusalReason::GivenUp), "a permanent failure is not tried again");
}

#[test]
fn a_request_during_a_scheduled_restart_waits_for_it() {
    let mut fleet = RoutedFleet::new(&["a"], unlimited());
    fleet.request("a");
    fleet.pass(LOAD + 1.0);
    fleet.crash("a");
    assert_eq!(fleet.request("a"), None);
    assert_eq!(fleet.take_log(), ["launch a"]);
    fleet.pass(1.0 + LOAD);
    assert_eq!((fleet.take_log().len(), fleet.waits.len()), (1, 2));
}

#[test]
fn an_idle_server_makes_room_and_comes_back_when_it_is_wanted_again() {
    let mut fleet = RoutedFleet::new(&["a", "b"], at_most(1));
    fleet.request("a");
    fleet.pass(20.0);
    fleet.respond("a");
    fleet.request("b");
    assert_eq!(fleet.take_log(), ["launch a", "b evicts a for count", "stop a evicted", "launch b"]);
    fleet.pass(20.0);
    fleet.respond("b");
    fleet.request("a");
    assert_eq!(fleet.take_log(), ["a evicts b for count", "stop b evicted", "launch a"]);
    assert_eq!(fleet.most, 1);
}

#[test]
fn a_server_at_work_is_not_evicted_before_its_requests_have_ended() {
    let mut fleet = RoutedFleet::new(&["a", "b"], at_most(1));
    fleet.request("a");
    fleet.pass(20.0);
    fleet.request("b");
    fleet.pass(4.0);
    assert_eq!(fleet.take_log(), ["launch a"]);
    fleet.request("a");
    assert_eq!(fleet.in_flight("a"), 2, "the gate is open, so far");
    fleet.pass(2.0);
    fleet.request("a");
    assert_eq!(fleet.in_flight("a"), 2, "b has waited for five seconds: the gate is closed");
    fleet.pass(600.0);
    assert_eq!(fleet.take_log(), [""; 0], "what is in flight is never cut");
    fleet.respond("a");
    fleet.respond("a");
    assert_eq!(fleet.take_log(), ["b evicts a for count", "stop a evicted", "launch b"]);
    fleet.pass(60.0);
    fleet.respond("b");
    fleet.pass(LOAD + 1.0);
    assert_eq!((fleet.ready(), fleet.waits.len()), (vec!["a"], 4), "b came first, and a's request after it");
}

#[test]
fn a_closed_gate_is_opened_when_nobody_waits_for_the_other_server_any_more() {
    let mut fleet = RoutedFleet::new(&["a", "b"], at_most(1));
    fleet.request("a");
    fleet.pass(20.0);
    fleet.request("b");
    fleet.pass(6.0);
    fleet.request("a");
    fleet.leave("b");
    assert_eq!(fleet.take_log(), ["launch a", "reopen a"]);
    assert_eq!(fleet.in_flight("a"), 2);
}

#[test]
fn a_busy_candidate_is_passed_over_for_an_idle_one() {
    let mut fleet = RoutedFleet::new(&["a", "b", "c"], at_most(2));
    for name in ["a", "b"] {
        fleet.request(name);
    }
    fleet.pass(120.0);
    fleet.respond("b");
    fleet.request("c");
    assert_eq!(fleet.take_log()[2..], ["c evicts b for count", "stop b evicted", "launch c"]);
}

#[test]
fn two_released_at_once_are_stopped_together_and_a_refusal_reopens_the_other() {
    let exclusive = RoomGroup { members: [id("x")].into(), is_exclusive: true, ..RoomGroup::default() };
    let rules = RoomRules { groups: vec![exclusive], ..RoomRules::default() };
    let mut fleet = RoutedFleet::new(&["a", "b", "x"], RoutingPolicy { rules, ..unlimited() });
    for name in ["a", "b"] {
        fleet.request(name);
    }
    fleet.pass(20.0);
    fleet.respond("a");
    fleet.take_log();
    fleet.request("x");
    assert_eq!(fleet.take_log(), ["reopen a"], "b is in use");
    fleet.respond("b");
    fleet.pass(1.5);
    assert_eq!(fleet.take_log(), ["x evicts a b for group", "stop a evicted", "stop b evicted", "launch x"]);
}

#[test]
fn a_kept_server_a_loading_one_and_one_that_was_just_loaded_stay() {
    let keep = |policy| ServerPolicy { is_kept: true, ..policy };
    let mut fleet = RoutedFleet::with(&["a", "b"], at_most(1), keep);
    fleet.request("a");
    fleet.pass(20.0);
    fleet.respond("a");
    fleet.request("b");
    fleet.pass(100.0);
    assert_eq!(fleet.take_log(), ["launch a"], "b fails for want of room: a is kept");
    let mut fleet = RoutedFleet::new(&["a", "b"], at_most(1));
    fleet.request("a");
    fleet.pass(LOAD / 2.0);
    fleet.request("b");
    fleet.pass(LOAD);
    fleet.respond("a");
    fleet.pass(3.5);
    assert_eq!(fleet.take_log(), ["launch a"]);
    fleet.pass(2.0);
    assert_eq!(fleet.take_log(), ["b evicts a for count", "stop a evicted", "launch b"]);
}

#[test]
fn requests_that_alternate_are_served_in_turns_and_each_side_waits_for_a_bounded_time() {
    let mut fleet = RoutedFleet::new(&["a", "b"], at_most(1));
    for round in 0..600 {
        fleet.request(if round % 2 == 0 { "a" } else { "b" });
        fleet.pass(0.1);
        for name in ["a", "b"] {
            while fleet.in_flight(name) > 0 {
                fleet.respond(name);
            }
        }
    }
    fleet.pass(60.0);
    let launches = fleet.log.iter().filter(|line| line.starts_with("launch")).count();
    assert!((4..=20).contains(&launches), "{launches} launches for 60 s: {:?}", fleet.log);
    let longest = fleet.waits.iter().map(|(_, wait)| *wait).fold(0.0, f64::max);
    assert!(longest < 5.0 + 5.0 + 2.0 * LOAD, "{longest}");
    assert_eq!((fleet.waits.len(), fleet.most), (600, 1));
}

#[test]
fn evictions_with_other_victims_go_on_side_by_side() {
    let pair = |one: &str, other: &str| RoomGroup {
        members: [id(one), id(other)].into(),
        at_most: Some(1),
        ..RoomGroup::default()
    };
    let rules = RoomRules { groups: vec![pair("a", "c"), pair("b", "d")], ..RoomRules::default() };
    let mut fleet = RoutedFleet::new(&["a", "b", "c", "d"], RoutingPolicy { rules, ..unlimited() });
    fleet.request("a");
    fleet.request("b");
    fleet.pass(20.0);
    fleet.respond("b");
    fleet.take_log();
    fleet.request("c");
    fleet.request("d");
    assert_eq!(
        fleet.take_log(),
        ["d evicts b for group", "stop b evicted", "launch d"],
        "c waits for a, and d does not"
    );
}

#[test]
fn what_is_started_with_the_daemon_and_has_no_room_is_left_to_requests() {
    let mut fleet = RoutedFleet::new(&["a", "b"], at_most(1));
    let actions = fleet.machine.start_all(&[id("a"), id("b")]);
    fleet.perform(actions);
    fleet.pass(20.0);
    assert_eq!(fleet.take_log(), ["launch a", "skip b"]);
    assert!(fleet.machine.unloaded().eq([&id("b")]));
    fleet.request("b");
    assert_eq!(fleet.take_log(), ["b evicts a for count", "stop a evicted", "launch b"]);
    assert!(fleet.machine.unloaded().eq([&id("a")]));
    fleet.command(SuperviseCommand::StartServer { server: id("a") });
    fleet.pass(20.0);
    assert_eq!(fleet.take_log(), ["a evicts b for count"; 0], "b is at work");
    fleet.respond("b");
    fleet.pass(1.0);
    assert_eq!(fleet.take_log(), ["a evicts b for count", "stop b evicted", "launch a"], "a person waits for it");
}

#[test]
fn a_server_that_nobody_uses_is_stopped_after_its_ttl() {
    let ttl = |policy| ServerPolicy { ttl: Some(Duration::from_secs(60)), ..policy };
    let mut fleet = RoutedFleet::with(&["a"], unlimited(), ttl);
    fleet.request("a");
    fleet.pass(LOAD);
    fleet.use_began("a");
    fleet.respond("a");
    fleet.pass(10.0);
    let last_used = fleet.now - 10.0;
    fleet.use_ended("a", last_used);
    fleet.pass(49.0);
    assert_eq!(fleet.take_log(), ["launch a"]);
    fleet.pass(2.0);
    assert_eq!(fleet.take_log(), ["stop a idle"]);
    assert!(fleet.machine.unloaded().eq([&id("a")]));
    fleet.request("a");
    fleet.pass(LOAD + 30.0);
    fleet.pass(600.0);
    assert_eq!(fleet.take_log(), ["launch a"], "its one request is in flight");
    fleet.respond("a");
    fleet.pass(120.0);
    assert_eq!(fleet.take_log(), ["stop a idle"]);
}

#[test]
fn a_stop_by_hand_leaves_requests_its_grace_but_two_seconds_and_force_leaves_none() {
    let ready = || {
        let mut fleet = RoutedFleet::new(&["a"], unlimited());
        fleet.request("a");
        fleet.pass(LOAD + 1.0);
        fleet.take_log();
        fleet
    };
    let mut fleet = ready();
    fleet.command(stop("a"));
    fleet.pass(7.5);
    assert_eq!(fleet.take_log(), [""; 0]);
    fleet.pass(1.0);
    assert_eq!(fleet.take_log(), ["stop a requested within 2.0 s cuts 1"]);
    let mut fleet = ready();
    fleet.command(stop("a"));
    fleet.pass(4.0);
    fleet.respond("a");
    assert_eq!(fleet.take_log(), ["stop a requested within 6.0 s"], "KILL comes when it always came");
    let mut fleet = ready();
    fleet.respond("a");
    fleet.command(stop("a"));
    assert_eq!(fleet.take_log(), ["stop a requested"], "nothing is in flight");
    for (grace, force) in [(None, true), (Some(Duration::from_secs(1)), false)] {
        let mut fleet = ready();
        fleet.command(SuperviseCommand::StopServer { server: id("a"), grace, force });
        let within = if force { 0 } else { 1 };
        assert_eq!(fleet.take_log(), [format!("stop a requested within {within}.0 s cuts 1")]);
    }
    let mut fleet = ready();
    fleet.command(stop("a"));
    fleet.command(SuperviseCommand::StopServer { server: id("a"), grace: None, force: true });
    assert_eq!(fleet.take_log(), ["stop a requested within 0.0 s cuts 1"], "force ends the wait");
}

#[test]
fn a_shutdown_leaves_requests_what_its_deadline_leaves() {
    let mut fleet = RoutedFleet::new(&["a"], unlimited());
    fleet.request("a");
    fleet.pass(LOAD + 1.0);
    fleet.take_log();
    fleet.command(SuperviseCommand::ShutDown { trigger: "test".to_owned(), force: false });
    assert_eq!(fleet.request("a"), Some(RefusalReason::ShuttingDown));
    fleet.pass(16.5);
    assert_eq!(fleet.take_log(), [""; 0]);
    fleet.pass(1.0);
    assert_eq!(fleet.take_log(), ["stop a shutdown cuts 1"], "10 s of grace end 3 s before the deadline");
}

#[test]
fn an_unload_waits_for_requests_and_leaves_the_server_to_others() {
    let mut fleet = RoutedFleet::new(&["a"], unlimited());
    fleet.request("a");
    fleet.pass(LOAD + 1.0);
    fleet.take_log();
    fleet.command(SuperviseCommand::UnloadServer { server: id("a") });
    fleet.pass(20.0);
    fleet.respond("a");
    assert_eq!(fleet.take_log(), ["stop a unloaded"]);
    assert_eq!(fleet.request("a"), None);
    assert_eq!(fleet.take_log(), ["launch a"]);
}

#[test]
fn an_unload_does_not_leave_to_requests_what_a_person_has_stopped() {
    let mut fleet = RoutedFleet::new(&["a"], unlimited());
    fleet.command(SuperviseCommand::StartServer { server: id("a") });
    fleet.pass(LOAD + 1.0);
    fleet.command(stop("a"));
    fleet.command(SuperviseCommand::UnloadServer { server: id("a") });
    fleet.pass(20.0);
    assert!(fleet.machine.stopped_by_user().eq([&id("a")]) && fleet.machine.unloaded().next().is_none());
    fleet.take_log();
    assert_eq!(fleet.request("a"), Some(RefusalReason::StoppedByHand));
    assert_eq!(fleet.take_log(), [""; 0]);
}

#[test]
fn a_launch_that_ran_out_of_memory_is_tried_once_more_without_the_idle_servers() {
    let mut fleet = RoutedFleet::new(&["a", "b", "c"], unlimited());
    fleet.request("a");
    fleet.request("b");
    fleet.pass(20.0);
    fleet.respond("a");
    fleet.take_log();
    fleet.failing.insert(id("c"), FailureReason::OutOfMemory);
    fleet.request("c");
    fleet.pass(LOAD + 0.01);
    assert_eq!(fleet.take_log(), ["launch c", "c evicts a for memory", "stop a evicted", "launch c"], "b is in use");
    fleet.pass(LOAD + 0.01);
    assert_eq!(fleet.take_log(), [""; 0], "once");
    fleet.pass(60.0);
    assert_eq!(fleet.take_log(), ["launch c"], "from then on its policy decides");
}

#[derive(Debug, Clone)]
enum Step {
    Request(usize),
    Respond(usize),
    Leave(usize),
    Crash(usize),
    Pass(f64),
    Stop(usize, bool),
    Start(usize),
    Unload(usize),
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn step() -> impl Strategy<Value = Step> {
    let server = 0..NAMES.len();
    prop_oneof![
        8 => server.clone().prop_map(Step::Request),
        8 => server.clone().prop_map(Step::Respond),
        1 => server.clone().prop_map(Step::Leave),
        1 => server.clone().prop_map(Step::Crash),
        4 => (0.01..2.0_f64).prop_map(Step::Pass),
        2 => (2.0..20.0_f64).prop_map(Step::Pass),
        1 => (server.clone(), any::<bool>()).prop_map(|(server, force)| Step::Stop(server, force)),
        1 => server.clone().prop_map(Step::Start),
        1 => server.prop_map(Step::Unload),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Whatever happens: no eviction and no idle stop cuts a request, never more run than may, and who waits is served or refused.
    #[test]
    fn no_eviction_cuts_a_request_and_every_request_is_answered(
        most in 1_usize..4, with_ttl in any::<bool>(), steps in prop::collection::vec(step(), 1..120),
    ) {
        let ttl = |policy| ServerPolicy { ttl: with_ttl.then_some(Duration::from_secs(7)), ..policy };
        let mut fleet = RoutedFleet::with(&NAMES, at_most(most), ttl);
        for step in steps {
            match step {
                Step::Request(server) => drop(fleet.request(NAMES[server])),
                Step::Respond(server) => fleet.respond(NAMES[server]),
                Step::Leave(server) => fleet.leave(NAMES[server]),
                Step::Crash(server) if fleet.ready().contains(&NAMES[server]) => fleet.crash(NAMES[server]),
                Step::Crash(_) => {}
                Step::Pass(seconds) => fleet.pass(seconds),
                Step::Stop(server, force) => {
                    fleet.leave(NAMES[server]);
                    fleet.command(SuperviseCommand::StopServer { server: id(NAMES[server]), grace: None, force });
                }
                Step::Start(server) => drop(fleet.command(SuperviseCommand::StartServer { server: id(NAMES[server]) })),
                Step::Unload(server) => drop(fleet.command(SuperviseCommand::UnloadServer { server: id(NAMES[server]) })),
            }
            prop_assert!(fleet.live.len() <= most, "{:?}", fleet.log);
        }
        let cut = |line: &&String| line.contains("cuts") && (line.contains("evicted") || line.contains("idle"));
        prop_assert_eq!(fleet.log.iter().find(cut), None);
        // Every request ends as soon as it is sent, from now on.
        for _ in 0..400 {
            for name in NAMES {
                while fleet.in_flight(name) > 0 {
                    fleet.respond(name);
                }
            }
            fleet.pass(0.5);
        }
        prop_assert!(!fleet.is_waiting(), "somebody waits for ever: {:?}", fleet.log);
        let live: Vec<&ServerId> = fleet.live.keys().collect();
        prop_assert!(live.len() <= most);
    }
}
