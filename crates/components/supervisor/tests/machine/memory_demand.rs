//! Requests evict idle servers whose memory their server needs.

use std::time::Duration;

use llama_warden_config::{AdmissionPolicy, RestartPolicy};
use llama_warden_events::{Event, EvictionCause, Incarnation, ReadyVia, RefusalReason, ServerId, SuperviseCommand};

use crate::fixtures::id;
use crate::memory_simulation::MemorySimulation;
use crate::routed::at_most;

impl MemorySimulation {
    /// Requests wait for a server since this moment. Returns what is launched.
    fn want(&mut self, name: &str) -> Vec<String> {
        let oldest = self.elapsed();
        self.command(SuperviseCommand::WantServer { server: id(name), oldest, priority: 0 });
        self.answer_all()
    }

    /// The victims of each eviction.
    fn evictions(&self) -> Vec<String> {
        let evicted = |(server, event): &(ServerId, Event)| match event {
            Event::EvictionPlanned { victims, because: EvictionCause::Memory } => {
                let victims: Vec<_> = victims.iter().map(ServerId::as_str).collect();
                Some(format!("{server}: {}", victims.join(" ")))
            }
            _ => None,
        };
        self.events.iter().filter_map(evicted).collect()
    }

    /// Starts these servers, and lets them be ready for so long that they may be evicted.
    fn run(&mut self, servers: &[(&str, u64)]) {
        let names: Vec<_> = servers.iter().map(|(name, _)| *name).collect();
        self.start(&names);
        for (name, units) in servers {
            self.become_ready(name, 1, *units);
        }
        self.now += 20.0;
        self.answer_all();
    }
}

#[test]
fn a_request_evicts_the_idle_server_whose_memory_it_needs_and_is_launched_once_that_is_gone() {
    for policy in [AdmissionPolicy::Warn, AdmissionPolicy::Enforce] {
        let mut simulation = MemorySimulation::new(10, policy, &[("a", 6), ("b", 6)]);
        simulation.run(&[("a", 6)]);
        assert_eq!(simulation.want("b"), [""; 0], "{policy:?}");
        assert_eq!(simulation.evictions(), ["b: a"], "{policy:?}");
        assert_eq!(simulation.answer_all(), [""; 0], "its memory is not free yet");
        simulation.exit("a", 1);
        assert_eq!(simulation.answer_all(), ["b#1"], "{policy:?}");
        assert!(!simulation.published("b").contains(&"ServerWarned"));
    }
}

#[test]
fn the_smallest_set_that_frees_enough_is_evicted() {
    let servers = [("a", 2), ("b", 6), ("c", 2), ("d", 6)];
    let mut simulation = MemorySimulation::new(11, AdmissionPolicy::Enforce, &servers);
    simulation.run(&servers[..3]);
    simulation.want("d");
    assert_eq!(simulation.evictions(), ["d: b"], "a and c together free too little");
}

#[test]
fn what_fits_beside_the_others_evicts_nobody() {
    let mut simulation = MemorySimulation::new(20, AdmissionPolicy::Enforce, &[("a", 6), ("b", 6)]);
    simulation.run(&[("a", 6)]);
    assert_eq!(simulation.want("b"), ["b#1"]);
    assert_eq!(simulation.evictions(), [""; 0]);
}

#[test]
fn what_never_fits_is_refused_without_an_eviction_or_gets_all_the_room_that_there_is() {
    let mut simulation = MemorySimulation::new(10, AdmissionPolicy::Enforce, &[("a", 6), ("b", 60)]);
    simulation.run(&[("a", 6)]);
    assert_eq!(simulation.want("b"), [""; 0]);
    assert_eq!(simulation.evictions(), [""; 0]);
    assert_eq!(simulation.published("b"), ["MemoryEstimated", "ServerFailed"]);
    let mut simulation = MemorySimulation::new(10, AdmissionPolicy::Warn, &[("a", 2), ("c", 2), ("b", 60)]);
    simulation.run(&[("a", 2), ("c", 2)]);
    assert_eq!(simulation.want("b"), [""; 0]);
    assert_eq!(simulation.evictions(), ["b: a c"]);
    simulation.exit("a", 1);
    simulation.exit("c", 1);
    assert_eq!(simulation.answer_all(), ["b#1"], "with a warning");
}

#[test]
fn what_never_fits_is_refused_with_numbers_looked_at_again_for_later_requests_and_then_left_down() {
    let servers = [("b", 60)];
    let mut simulation =
        MemorySimulation::with_policy(10, AdmissionPolicy::Enforce, RestartPolicy::OnFailure, &servers);
    let want = |simulation: &MemorySimulation| SuperviseCommand::WantServer {
        server: id("b"),
        oldest: simulation.elapsed(),
        priority: 0,
    };
    let refusal = |simulation: &MemorySimulation| simulation.machine.refusal(&want(simulation), simulation.elapsed());
    assert_eq!(simulation.want("b"), [""; 0]);
    let refused = refusal(&simulation).expect("there is no room");
    assert_eq!(refused.reason, RefusalReason::NoMemory);
    assert!(refused.detail.contains("needs ") && refused.detail.contains("is available"), "{refused:?}");
    simulation.now += 6.0;
    assert_eq!(refusal(&simulation), None, "it is looked at again");
    let failures = |simulation: &MemorySimulation| {
        simulation.published("b").iter().filter(|event| **event == "ServerFailed").count()
    };
    let before = failures(&simulation);
    simulation.want("b");
    assert_eq!(failures(&simulation), before + 1);
    simulation.command(SuperviseCommand::UnwantServer { server: id("b") });
    assert_eq!(simulation.machine.next_deadline(), None, "nobody waits, so nobody looks");
}

#[test]
fn an_enabled_server_without_room_is_looked_at_again_when_no_request_waits_any_more() {
    let servers = [("b", 60)];
    let mut simulation =
        MemorySimulation::with_policy(10, AdmissionPolicy::Enforce, RestartPolicy::OnFailure, &servers);
    simulation.command(SuperviseCommand::StartServer { server: id("b") });
    simulation.answer_all();
    simulation.now += 6.0;
    simulation.want("b");
    simulation.command(SuperviseCommand::UnwantServer { server: id("b") });
    let failures = |simulation: &MemorySimulation| {
        simulation.published("b").iter().filter(|event| **event == "ServerFailed").count()
    };
    let before = failures(&simulation);
    for _ in 0..10 {
        simulation.advance_to_deadline();
    }
    assert!(failures(&simulation) > before, "the restart policy goes on looking");
}

#[test]
fn a_later_request_does_not_take_the_memory_that_an_earlier_one_waits_for() {
    let servers = [("a", 6), ("b", 8), ("c", 4)];
    let mut simulation = MemorySimulation::new(10, AdmissionPolicy::Enforce, &servers);
    simulation.run(&[("a", 6)]);
    simulation.want("b");
    assert_eq!(simulation.want("c"), [""; 0], "4 units are free, and b needs two of them");
    simulation.exit("a", 1);
    assert_eq!(simulation.answer_all(), ["b#1"]);
    simulation.become_ready("b", 1, 8);
    simulation.now += 20.0;
    while simulation.evictions().len() < 2 {
        simulation.advance_to_deadline();
    }
    assert_eq!(simulation.evictions()[1], "c: b");
}

#[test]
fn what_waits_for_memory_and_then_for_a_rule_is_not_forgotten() {
    let servers = [("a", 1), ("b", 4), ("c", 8)];
    let mut simulation = MemorySimulation::new(10, AdmissionPolicy::Warn, &servers);
    simulation.machine.set_routing(at_most(2));
    simulation.start(&["b"]);
    simulation.become_ready("b", 1, 4);
    simulation.want("c");
    assert!(simulation.published("c").contains(&"LaunchHeld"), "b has just become ready");
    simulation.command(SuperviseCommand::StartServer { server: id("a") });
    simulation.answer_all();
    simulation.become_ready("a", 1, 1);
    for _ in 0..20 {
        simulation.advance_to_deadline();
        // Whatever happens to others, what is due is looked at, without a reading of memory.
        simulation.command(SuperviseCommand::UnwantServer { server: id("a") });
    }
    assert!(simulation.published("c").contains(&"EvictionPlanned"), "{:?}", simulation.events);
}

#[test]
fn a_person_who_starts_a_server_evicts_nobody_for_memory() {
    let mut simulation = MemorySimulation::new(10, AdmissionPolicy::Enforce, &[("a", 6), ("b", 6)]);
    simulation.run(&[("a", 6)]);
    simulation.command(SuperviseCommand::StartServer { server: id("b") });
    assert_eq!((simulation.answer_all(), simulation.evictions()), (vec![], vec![]));
    assert_eq!(simulation.published("b"), ["MemoryEstimated", "ServerFailed"]);
}

#[test]
fn a_server_that_was_taken_over_makes_room_like_any_other() {
    for policy in [AdmissionPolicy::Warn, AdmissionPolicy::Enforce] {
        let mut simulation = MemorySimulation::new(10, policy, &[("a", 6), ("b", 6)]);
        simulation.adopt("a", 6);
        assert_eq!(simulation.published("a"), ["MemoryEstimated"]);
        simulation.now += 20.0;
        assert_eq!(simulation.want("b"), [""; 0], "{policy:?}");
        assert_eq!(simulation.evictions(), ["b: a"], "{policy:?}");
        simulation.exit("a", 1);
        assert_eq!(simulation.answer_all(), ["b#1"], "{policy:?}");
    }
}

#[test]
fn nothing_is_refused_before_it_is_known_what_a_server_holds_that_was_taken_over() {
    let mut simulation = MemorySimulation::new(10, AdmissionPolicy::Enforce, &[("a", 6), ("b", 6)]);
    let actions = simulation.machine.adopt(&id("a"), Incarnation::new(1));
    simulation.perform(actions);
    simulation.spawn("a", 1, 6);
    let late = simulation.queries.pop_front().expect("the estimate of a");
    simulation.publish("a", 1, [Event::ReadyReached { via: ReadyVia::Adopted, startup_seconds: 0.01 }]);
    simulation.now += 20.0;
    assert_eq!((simulation.want("b"), simulation.evictions()), (vec!["a#1".to_owned()], vec![]), "only the adoption");
    simulation.queries.push_back(late);
    simulation.answer_all();
    assert_eq!(
        (simulation.published("b"), simulation.evictions()),
        (vec!["MemoryEstimated", "EvictionPlanned"], vec!["b: a".to_owned()])
    );
}

#[test]
fn the_time_in_which_a_server_is_adopted_is_not_its_load_time() {
    let mut simulation = MemorySimulation::new(11, AdmissionPolicy::Enforce, &[("a", 5), ("b", 5), ("c", 5)]);
    simulation.machine.note_usual_load(&id("a"), Duration::from_secs(100));
    simulation.adopt("a", 5);
    simulation.run(&[("c", 5)]);
    simulation.now += 100.0;
    simulation.want("b");
    assert_eq!(simulation.evictions(), ["b: c"], "a takes longer to load");
}

#[test]
fn a_request_makes_room_for_a_server_that_was_refused_when_it_was_started() {
    let servers = [("a", 6), ("b", 6)];
    let mut simulation =
        MemorySimulation::with_policy(10, AdmissionPolicy::Enforce, RestartPolicy::OnFailure, &servers);
    simulation.run(&servers[..1]);
    simulation.start(&["b"]);
    assert_eq!(simulation.published("b"), ["MemoryEstimated", "ServerFailed", "RestartScheduled"]);
    let wanted = SuperviseCommand::WantServer { server: id("b"), oldest: simulation.elapsed(), priority: 0 };
    assert_eq!(simulation.machine.refusal(&wanted, simulation.elapsed()), None, "a may be stopped for it");
    assert_eq!(simulation.want("b"), [""; 0]);
    assert!(simulation.published("b").contains(&"RestartCancelled"), "it does not wait for the restart");
    assert_eq!(simulation.evictions(), ["b: a"]);
    simulation.exit("a", 1);
    assert_eq!(simulation.answer_all(), ["b#2"]);
}
