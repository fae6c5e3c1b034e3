//! Requests that wait for a slot of a ready server, beside those for another one.

use std::time::Duration;

use llama_warden_events::{SuperviseCommand, Uptime};
use llama_warden_supervisor::ServerPolicy;

use crate::fixtures::id;
use crate::routed::{LOAD, RoutedFleet, at_most};

/// Requests that wait for a slot of `a`, the oldest since then.
fn wait_for_slot(fleet: &mut RoutedFleet, since: f64) {
    let oldest = Uptime::new(Duration::from_secs_f64(since));
    assert_eq!(fleet.command(SuperviseCommand::WantServer { server: id("a"), oldest, priority: 0 }), None);
}

/// A fleet with room for one, in which a request waits for a slot of `a`, and a second later one for `b`.
fn with_a_younger_request_for_b() -> RoutedFleet {
    let mut fleet = RoutedFleet::new(&["a", "b"], at_most(1));
    fleet.request("a");
    fleet.pass(300.0);
    let since = fleet.now;
    wait_for_slot(&mut fleet, since);
    fleet.pass(1.0);
    fleet.request("b");
    fleet
}

#[test]
fn requests_that_wait_for_a_slot_come_before_younger_ones_for_another_server() {
    let mut fleet = with_a_younger_request_for_b();
    fleet.pass(20.0);
    fleet.request("a");
    assert_eq!(fleet.in_flight("a"), 2, "the gate is open");
    let since = fleet.now - 1.0;
    wait_for_slot(&mut fleet, since);
    fleet.request("a");
    assert_eq!(fleet.in_flight("a"), 2, "now b's has waited longest, and for five seconds");
    (0..2).for_each(|_| fleet.respond("a"));
    assert_eq!(fleet.take_log(), ["launch a", "b evicts a for count", "stop a evicted", "launch b"]);
}

#[test]
fn requests_that_wait_for_a_slot_keep_others_out_for_a_minute_at_most() {
    let mut fleet = with_a_younger_request_for_b();
    fleet.pass(58.0);
    fleet.request("a");
    assert_eq!(fleet.in_flight("a"), 2, "the gate is open");
    fleet.pass(2.0);
    (0..2).for_each(|_| fleet.respond("a"));
    assert_eq!(fleet.take_log()[1..3], ["b evicts a for count", "stop a evicted"]);
}

#[test]
fn demand_of_a_ready_server_starts_and_evicts_nothing_and_an_idle_one_is_stopped_once_it_is_gone() {
    let ttl = |policy| ServerPolicy { ttl: Some(Duration::from_secs(60)), ..policy };
    let mut fleet = RoutedFleet::with(&["a", "b"], at_most(2), ttl);
    for name in ["a", "b"] {
        fleet.request(name);
    }
    fleet.pass(LOAD + 1.0);
    fleet.take_log();
    let since = fleet.now;
    wait_for_slot(&mut fleet, since);
    fleet.pass(20.0);
    assert_eq!(fleet.take_log(), [""; 0]);
    fleet.leave("a");
    (0..2).for_each(|_| fleet.respond("a"));
    fleet.command(SuperviseCommand::UnwantServer { server: id("a") });
    let ended = fleet.now;
    fleet.use_ended("a", ended);
    fleet.pass(61.0);
    assert!(fleet.take_log().contains(&"stop a idle".to_owned()));
}
