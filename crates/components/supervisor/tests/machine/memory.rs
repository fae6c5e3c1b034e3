//! Several servers that compete for memory.

use std::collections::BTreeMap;

use llama_warden_config::{AdmissionPolicy, RestartPolicy};
use llama_warden_events::{CommandOutcome, Event, FailureReason, Seq, SuperviseCommand, Warning};
use llama_warden_supervisor::{DesiredServer, ServerGoal, SupervisorAction};
use proptest::prelude::*;

use crate::fixtures::{self, id};
use crate::memory_simulation::MemorySimulation;

#[test]
fn servers_that_start_side_by_side_do_not_get_the_same_memory() {
    let mut simulation = MemorySimulation::new(10, AdmissionPolicy::Enforce, &[("a", 4), ("b", 4), ("c", 4)]);
    assert_eq!(simulation.start(&["a", "b", "c"]), ["a#1", "b#1"]);
    assert_eq!(simulation.published("c"), ["MemoryEstimated", "ServerFailed"]);
    let detail = simulation.last_detail("c");
    assert!(detail.starts_with("needs 4.0 GiB of memory (weights 4.0 GiB, KV cache 0 MiB"), "{detail}");
    assert!(detail.contains("10.0 GiB is available, 8.0 GiB of it promised to other servers"), "{detail}");
    assert!(detail.contains("start.memory"), "{detail}");
}

#[test]
fn a_refused_start_fails_its_command_and_disturbs_nobody() {
    let mut simulation = MemorySimulation::new(10, AdmissionPolicy::Enforce, &[("a", 4), ("b", 20)]);
    simulation.start(&["a"]);
    simulation.become_ready("a", 1, 4);
    let start = simulation.command(SuperviseCommand::StartServer { server: id("b") });
    assert_eq!(simulation.answer_all(), [""; 0]);
    assert!(matches!(simulation.outcomes[&start], CommandOutcome::Failed { reason: FailureReason::Refused, .. }));
    assert!(simulation.machine.up().eq([&id("a")]));
    assert_eq!(simulation.machine.next_deadline(), None, "the policy is never to restart");
}

#[test]
fn a_refused_start_is_looked_at_again_for_as_long_as_memory_is_short() {
    let mut simulation =
        MemorySimulation::with_policy(10, AdmissionPolicy::Enforce, RestartPolicy::OnFailure, &[("a", 8)]);
    simulation.used_by_others = 5;
    assert_eq!(simulation.start(&["a"]), [""; 0]);
    assert_eq!(simulation.published("a"), ["MemoryEstimated", "ServerFailed", "RestartScheduled"]);
    assert_eq!(simulation.advance_to_deadline(), [""; 0]);
    simulation.used_by_others = 0;
    assert_eq!(simulation.advance_to_deadline(), ["a#3"], "others gave memory back");
    let mut simulation =
        MemorySimulation::with_policy(10, AdmissionPolicy::Enforce, RestartPolicy::OnFailure, &[("a", 80)]);
    simulation.start(&["a"]);
    for _ in 0..20 {
        assert_eq!(simulation.advance_to_deadline(), [""; 0]);
        assert_eq!(simulation.published("a").last(), Some(&"RestartScheduled"));
    }
}

#[test]
fn a_launch_that_fits_once_another_has_ended_waits_for_that_end() {
    let mut simulation = MemorySimulation::new(10, AdmissionPolicy::Enforce, &[("a", 6), ("b", 6)]);
    simulation.start(&["a"]);
    simulation.become_ready("a", 1, 6);
    simulation.stop("a");
    assert_eq!(simulation.start(&["b"]), [""; 0]);
    assert_eq!(simulation.published("b"), ["MemoryEstimated", "LaunchHeld"]);
    assert!(
        simulation.last_detail("b").ends_with("4.0 GiB is available; waits for the end of a"),
        "{}",
        simulation.last_detail("b")
    );
    assert_eq!(simulation.advance_to_deadline(), [""; 0]);
    assert_eq!(simulation.published("b").len(), 2, "it is published once");
    simulation.exit("a", 1);
    assert_eq!(simulation.answer_all(), ["b#1"]);
    assert_eq!(simulation.published("b").last(), Some(&"LaunchReleased"));
    assert_eq!(simulation.machine.next_deadline(), None);
}

#[test]
fn a_start_that_waits_for_memory_can_be_called_off() {
    let mut simulation = MemorySimulation::new(10, AdmissionPolicy::Enforce, &[("a", 6), ("b", 6)]);
    simulation.start(&["a"]);
    simulation.become_ready("a", 1, 6);
    simulation.stop("a");
    simulation.start(&["b"]);
    let stop = simulation.stop("b");
    assert_eq!(simulation.outcomes[&stop], CommandOutcome::Stopped);
    assert_eq!(simulation.published("b").last(), Some(&"LaunchReleased"));
    simulation.exit("a", 1);
    assert_eq!(simulation.answer_all(), [""; 0]);
}

#[test]
fn no_later_launch_takes_the_memory_that_an_earlier_one_waits_for() {
    let mut simulation = MemorySimulation::new(12, AdmissionPolicy::Enforce, &[("a", 6), ("b", 8), ("c", 5), ("d", 2)]);
    simulation.start(&["a"]);
    simulation.become_ready("a", 1, 6);
    simulation.stop("a");
    simulation.start(&["b"]);
    // c would fit now and leave too little for b; d leaves enough.
    assert_eq!(simulation.start(&["c", "d"]), ["d#1"]);
    assert_eq!(simulation.published("c").last(), Some(&"LaunchHeld"));
    simulation.become_ready("d", 1, 2);
    simulation.exit("a", 1);
    assert_eq!(simulation.answer_all(), ["b#1"]);
    assert_eq!(simulation.published("c").last(), Some(&"ServerFailed"));
}

#[test]
fn a_reading_from_before_memory_was_given_back_decides_nothing() {
    let mut simulation = MemorySimulation::new(10, AdmissionPolicy::Enforce, &[("a", 6), ("b", 6)]);
    simulation.start(&["a"]);
    simulation.become_ready("a", 1, 6);
    simulation.answer_all();
    let actions = simulation.machine.start_all([&id("b")]);
    simulation.perform(actions);
    simulation.answer_next();
    assert!(matches!(simulation.queries[0], SupervisorAction::ReadMemory { .. }), "{:?}", simulation.queries);
    let old = simulation.reading(&[1]);
    simulation.exit("a", 1);
    let actions = simulation.machine.on_memory_read(&old, simulation.elapsed());
    simulation.queries.clear();
    simulation.perform(actions);
    assert_eq!(
        (simulation.launched.len(), simulation.published("b")),
        (0, vec!["MemoryEstimated"]),
        "neither launched nor refused"
    );
    assert_eq!(simulation.answer_all(), ["b#1"]);
}

#[test]
fn what_is_loading_counts_in_part_and_what_is_ready_has_what_it_needs() {
    let mut simulation = MemorySimulation::new(10, AdmissionPolicy::Enforce, &[("a", 6), ("b", 4), ("c", 2)]);
    simulation.start(&["a"]);
    simulation.spawn("a", 1, 3);
    assert_eq!(simulation.start(&["b"]), ["b#1"], "3 are there, 3 are promised, 4 are left");
    simulation.processes.clear();
    simulation.become_ready("b", 1, 2);
    simulation.ready("a", 1);
    // The estimates were too high: a ready server allocates no more.
    assert_eq!(simulation.start(&["c"]), ["c#1"]);
}

#[test]
fn a_warning_about_short_memory_is_published_once_the_launch_has_begun() {
    let mut simulation = MemorySimulation::new(10, AdmissionPolicy::Warn, &[("a", 20)]);
    assert_eq!(simulation.start(&["a"]), ["a#1"]);
    assert_eq!(simulation.published("a"), ["MemoryEstimated"]);
    simulation.become_ready("a", 1, 9);
    assert_eq!(simulation.published("a"), ["MemoryEstimated", "ServerWarned"]);
    let (_, event) = &simulation.events[1];
    assert!(matches!(event, Event::ServerWarned { warning: Warning::MemoryShort, .. }), "{event:?}");
    let mut simulation = MemorySimulation::new(10, AdmissionPolicy::Warn, &[("a", 6), ("b", 6)]);
    simulation.start(&["a"]);
    simulation.become_ready("a", 1, 6);
    simulation.stop("a");
    assert_eq!(simulation.start(&["b"]), ["b#1"], "nobody waits");
}

#[test]
fn a_launch_with_a_warning_reserves_nothing() {
    let mut simulation = MemorySimulation::new(10, AdmissionPolicy::Warn, &[("a", 5000), ("b", 4)]);
    assert_eq!(simulation.start(&["a", "b"]), ["a#1", "b#1"]);
    simulation.spawn("a", 1, 0);
    simulation.spawn("b", 1, 0);
    assert_eq!((simulation.published("a").len(), simulation.published("b").len()), (2, 1), "{:?}", simulation.events);
}

#[test]
fn no_memory_is_read_where_admission_is_off() {
    let mut simulation = MemorySimulation::new(10, AdmissionPolicy::Off, &[("a", 20)]);
    let actions = simulation.machine.start_all([&id("a")]);
    assert!(matches!(&actions[..], [SupervisorAction::Launch { .. }]), "{actions:?}");
}

#[test]
fn a_model_without_an_estimate_is_launched() {
    let mut simulation = MemorySimulation::new(10, AdmissionPolicy::Enforce, &[("a", 20)]);
    simulation.requirements.insert(id("a"), None);
    assert_eq!(simulation.start(&["a"]), ["a#1"]);
    assert_eq!(simulation.published("a"), [""; 0]);
}

#[test]
fn memory_is_granted_in_the_order_of_the_requests_and_not_of_the_estimates() {
    for (policy, first) in [(AdmissionPolicy::Enforce, vec![]), (AdmissionPolicy::Warn, vec!["b#1"])] {
        let mut simulation = MemorySimulation::new(6, policy, &[("a", 4), ("b", 4)]);
        let actions = simulation.machine.start_all(&[id("a"), id("b")]);
        simulation.perform(actions);
        let slow = simulation.queries.pop_front().expect("a is asked first");
        assert_eq!(simulation.answer_all(), first, "{policy:?}");
        simulation.queries.push_back(slow);
        assert_eq!(simulation.answer_all(), ["a#1"], "{policy:?}");
        assert_eq!(simulation.published("b").contains(&"ServerFailed"), policy == AdmissionPolicy::Enforce);
    }
}

#[test]
fn memory_of_gpus_is_awaited_while_a_driver_may_still_free_it() {
    for (policy, at_the_end) in [(AdmissionPolicy::Enforce, "ServerFailed"), (AdmissionPolicy::Warn, "LaunchReleased")]
    {
        let mut simulation = MemorySimulation::on_gpus(policy, 8);
        assert_eq!(simulation.start(&["a"]), ["a#1"]);
        simulation.become_ready("a", 1, 0);
        simulation.gpus = Some(2);
        simulation.command(SuperviseCommand::RestartServer { server: id("a"), grace: None, force: false });
        simulation.exit("a", 1);
        assert_eq!(simulation.answer_all(), [""; 0], "the driver has not freed it yet");
        assert!(
            simulation.last_detail("a").contains("a driver may still be freeing"),
            "{}",
            simulation.last_detail("a")
        );
        let mut late = Vec::new();
        for _ in 0..5 {
            late.extend(simulation.advance_to_deadline());
        }
        assert_eq!(
            (late.len(), simulation.published("a").contains(&at_the_end)),
            (usize::from(policy == AdmissionPolicy::Warn), true)
        );
        assert!(simulation.now <= 5.0, "the wait is bounded: {}", simulation.now);
    }
}

#[test]
fn memory_of_gpus_that_is_freed_late_is_enough() {
    let mut simulation = MemorySimulation::on_gpus(AdmissionPolicy::Enforce, 8);
    simulation.start(&["a"]);
    simulation.become_ready("a", 1, 0);
    simulation.gpus = Some(2);
    simulation.command(SuperviseCommand::RestartServer { server: id("a"), grace: None, force: false });
    simulation.exit("a", 1);
    simulation.answer_all();
    simulation.gpus = Some(8);
    assert_eq!(simulation.advance_to_deadline(), ["a#2"]);
}

#[test]
fn memory_of_gpus_that_a_server_held_which_was_taken_over_is_awaited_too() {
    let mut simulation = MemorySimulation::on_gpus(AdmissionPolicy::Enforce, 2);
    simulation.adopt("a", 0);
    simulation.command(SuperviseCommand::RestartServer { server: id("a"), grace: None, force: false });
    simulation.exit("a", 1);
    assert_eq!(simulation.answer_all(), [""; 0], "the driver has not freed it yet");
    simulation.gpus = Some(8);
    assert_eq!(simulation.advance_to_deadline(), ["a#2"]);
}

#[test]
fn a_switch_admits_what_it_starts_by_the_memory_that_it_has_freed() {
    let mut simulation = MemorySimulation::new(10, AdmissionPolicy::Enforce, &[("a", 8), ("b", 8)]);
    simulation.start(&["a"]);
    simulation.become_ready("a", 1, 8);
    let member = |name: &str, goal| DesiredServer {
        server: id(name),
        policy: fixtures::policy(RestartPolicy::Never),
        goal,
        changed: false,
    };
    let desired = [member("a", ServerGoal::Down), member("b", ServerGoal::Run)];
    let actions = simulation.machine.switch(&desired, Some(Seq::new(500)), simulation.elapsed());
    simulation.perform(actions);
    assert_eq!(simulation.answer_all(), [""; 0]);
    simulation.exit("a", 1);
    assert_eq!(simulation.answer_all(), ["b#1"]);
    assert_eq!(
        simulation.published("b"),
        ["MemoryEstimated"],
        "it never had to wait for an end that was awaited anyway"
    );
}

#[test]
fn a_shutdown_asks_for_nothing_more_and_ends_what_waits() {
    let mut simulation = MemorySimulation::new(10, AdmissionPolicy::Enforce, &[("a", 6), ("b", 6)]);
    simulation.start(&["a"]);
    simulation.become_ready("a", 1, 6);
    simulation.stop("a");
    simulation.start(&["b"]);
    simulation.command(SuperviseCommand::ShutDown { trigger: "test".to_owned(), force: false });
    simulation.exit("a", 1);
    assert_eq!(simulation.answer_all(), [""; 0]);
    assert_eq!(simulation.published("b").last(), Some(&"LaunchReleased"));
}

proptest! {
    /// In any order of commands and events, granted memory never exceeds the machine, every start is answered, and no launch
    /// waits for ever.
    #[test]
    fn what_is_granted_fits_and_every_start_is_answered(
        needs in prop::collection::vec(1_u64..9, 4),
        script in prop::collection::vec((0_u8..6, 0_usize..4), 1..60),
    ) {
        let names = ["a", "b", "c", "d"];
        let servers: Vec<_> = names.iter().copied().zip(needs.iter().copied()).collect();
        let units = |name: &str| servers.iter().find(|(server, _)| *server == name).map_or(0, |(_, units)| *units);
        let mut simulation = MemorySimulation::new(10, AdmissionPolicy::Enforce, &servers);
        // The launch of each server, and whether its process exists.
        let mut up: BTreeMap<String, (u64, bool)> = BTreeMap::new();
        let mut asked = Vec::new();
        let step = |simulation: &mut MemorySimulation, up: &mut BTreeMap<String, (u64, bool)>| {
            for launched in std::mem::take(&mut simulation.launched) {
                let (name, incarnation) = launched.split_once('#').expect("as it is written");
                up.insert(name.to_owned(), (incarnation.parse().expect("a number"), false));
            }
            up.keys().map(|name| units(name)).sum::<u64>() <= 10
        };
        for (what, which) in script {
            let name = names[which];
            match (what, up.get(name).copied()) {
                (0, _) => asked.push(simulation.command(SuperviseCommand::StartServer { server: id(name) })),
                (1, _) => drop(simulation.stop(name)),
                (2, Some((incarnation, false))) => {
                    simulation.spawn(name, incarnation, units(name));
                    up.insert(name.to_owned(), (incarnation, true));
                }
                (3, Some((incarnation, true))) => simulation.ready(name, incarnation),
                (4, Some((incarnation, true))) => {
                    up.remove(name);
                    simulation.ready(name, incarnation);
                    simulation.exit(name, incarnation);
                }
                _ => drop(simulation.answer_next()),
            }
            prop_assert!(step(&mut simulation, &mut up), "more was granted than there is");
        }
        for _ in 0..20 {
            simulation.answer_all().into_iter().for_each(|launch| simulation.launched.push(launch));
            prop_assert!(step(&mut simulation, &mut up), "more was granted than there is");
            for (name, (incarnation, has_process)) in up.clone() {
                if !has_process {
                    simulation.spawn(&name, incarnation, units(&name));
                }
                up.remove(&name);
                // Ready first: a launch that ends before that has failed, and another component publishes the failure.
                simulation.ready(&name, incarnation);
                simulation.exit(&name, incarnation);
            }
        }
        for id in asked {
            prop_assert!(simulation.outcomes.contains_key(&id), "a start was never answered");
        }
        prop_assert_eq!(simulation.machine.next_deadline(), None);
    }
}
