//! A fleet on a machine whose memory is short.

use std::collections::BTreeMap;

use llama_warden_config::{AdmissionPolicy, RestartPolicy};
use llama_warden_events::{CommandOutcome, Event, FailureReason, Seq, SuperviseCommand, Warning};
use llama_warden_memory::{MemoryRequirement, Parts};
use llama_warden_supervisor::{Action, Member};
use proptest::prelude::*;

use crate::host::{Host, UNIT};
use crate::support::{id, restart};

#[test]
fn servers_that_start_side_by_side_do_not_get_the_same_memory() {
    let mut host = Host::new(10, AdmissionPolicy::Enforce, &[("a", 4), ("b", 4), ("c", 4)]);
    assert_eq!(host.start(&["a", "b", "c"]), ["a#1", "b#1"]);
    assert_eq!(host.told("c"), ["MemoryEstimated", "ServerFailed"]);
    let detail = host.detail("c");
    assert!(detail.starts_with("needs 4.0 GiB of memory (weights 4.0 GiB, KV cache 0 MiB"), "{detail}");
    assert!(detail.contains("10.0 GiB is available, 8.0 GiB of it promised to other servers"), "{detail}");
    assert!(detail.contains("start.memory"), "{detail}");
}

#[test]
fn a_refused_start_fails_its_command_and_disturbs_nobody() {
    let mut host = Host::new(10, AdmissionPolicy::Enforce, &[("a", 4), ("b", 20)]);
    host.start(&["a"]);
    host.rise("a", 1, 4);
    let start = host.command(SuperviseCommand::StartServer { server: id("b") });
    assert_eq!(host.settle(), [""; 0]);
    assert!(matches!(host.outcomes[&start], CommandOutcome::Failed { reason: FailureReason::Refused, .. }));
    assert!(host.machine.is_up(&id("a")) && !host.machine.is_up(&id("b")));
    assert_eq!(host.machine.next_deadline(), None, "the policy is never to restart");
}

#[test]
fn a_refused_start_is_tried_again_by_the_restart_policy_and_not_for_ever() {
    let mut host = Host::with_policy(10, AdmissionPolicy::Enforce, RestartPolicy::OnFailure, &[("a", 8)]);
    host.foreign = 5;
    assert_eq!(host.start(&["a"]), [""; 0]);
    assert_eq!(host.told("a"), ["MemoryEstimated", "ServerFailed", "RestartScheduled"]);
    assert_eq!(host.wait(), [""; 0]);
    host.foreign = 0;
    assert_eq!(host.wait(), ["a#3"], "others gave memory back");
    let mut host = Host::with_policy(10, AdmissionPolicy::Enforce, RestartPolicy::OnFailure, &[("a", 80)]);
    host.start(&["a"]);
    host.wait();
    host.wait();
    assert_eq!(host.told("a").last(), Some(&"RestartAbandoned"));
    assert_eq!(host.machine.next_deadline(), None);
}

#[test]
fn what_will_fit_once_another_has_ended_waits_for_that_end() {
    let mut host = Host::new(10, AdmissionPolicy::Enforce, &[("a", 6), ("b", 6)]);
    host.start(&["a"]);
    host.rise("a", 1, 6);
    host.stop("a");
    assert_eq!(host.start(&["b"]), [""; 0]);
    assert_eq!(host.told("b"), ["MemoryEstimated", "LaunchHeld"]);
    assert!(host.detail("b").ends_with("4.0 GiB is available; waits for the end of a"), "{}", host.detail("b"));
    assert_eq!(host.wait(), [""; 0]);
    assert_eq!(host.told("b").len(), 2, "it is told once");
    host.exit("a", 1);
    assert_eq!(host.settle(), ["b#1"]);
    assert_eq!(host.told("b").last(), Some(&"LaunchReleased"));
    assert_eq!(host.machine.next_deadline(), None);
}

#[test]
fn a_start_that_waits_for_memory_can_be_called_off() {
    let mut host = Host::new(10, AdmissionPolicy::Enforce, &[("a", 6), ("b", 6)]);
    host.start(&["a"]);
    host.rise("a", 1, 6);
    host.stop("a");
    host.start(&["b"]);
    let stop = host.stop("b");
    assert_eq!(host.outcomes[&stop], CommandOutcome::Stopped);
    assert_eq!(host.told("b").last(), Some(&"LaunchReleased"));
    host.exit("a", 1);
    assert_eq!(host.settle(), [""; 0]);
}

#[test]
fn nobody_overtakes_one_that_waits_with_the_memory_that_it_waits_for() {
    let mut host = Host::new(12, AdmissionPolicy::Enforce, &[("a", 6), ("b", 8), ("c", 5), ("d", 2)]);
    host.start(&["a"]);
    host.rise("a", 1, 6);
    host.stop("a");
    host.start(&["b"]);
    // c would fit now and leave too little for b; d leaves enough.
    assert_eq!(host.start(&["c", "d"]), ["d#1"]);
    assert_eq!(host.told("c").last(), Some(&"LaunchHeld"));
    host.rise("d", 1, 2);
    host.exit("a", 1);
    assert_eq!(host.settle(), ["b#1"]);
    assert_eq!(host.told("c").last(), Some(&"ServerFailed"));
}

#[test]
fn a_reading_from_before_memory_was_given_back_decides_nothing() {
    let mut host = Host::new(10, AdmissionPolicy::Enforce, &[("a", 6), ("b", 6)]);
    host.start(&["a"]);
    host.rise("a", 1, 6);
    host.settle();
    let actions = host.machine.start_all([&id("b")]);
    host.take(actions);
    host.answer();
    assert!(matches!(host.questions[0], Action::ReadMemory { .. }), "{:?}", host.questions);
    let old = host.reading(&[1]);
    host.exit("a", 1);
    let actions = host.machine.on_memory_read(&old, host.elapsed());
    host.questions.clear();
    host.take(actions);
    assert_eq!((host.launched.len(), host.told("b")), (0, vec!["MemoryEstimated"]), "neither launched nor refused");
    assert_eq!(host.settle(), ["b#1"]);
}

#[test]
fn what_is_loading_counts_in_part_and_what_is_ready_has_what_it_needs() {
    let mut host = Host::new(10, AdmissionPolicy::Enforce, &[("a", 6), ("b", 4), ("c", 2)]);
    host.start(&["a"]);
    host.spawn("a", 1, 3);
    assert_eq!(host.start(&["b"]), ["b#1"], "3 are there, 3 are promised, 4 are left");
    host.processes.clear();
    host.rise("b", 1, 2);
    host.ready("a", 1);
    // The estimates were too high: what is ready takes no more.
    assert_eq!(host.start(&["c"]), ["c#1"]);
}

#[test]
fn where_memory_is_short_a_warning_is_told_once_the_launch_has_begun() {
    let mut host = Host::new(10, AdmissionPolicy::Warn, &[("a", 20)]);
    assert_eq!(host.start(&["a"]), ["a#1"]);
    assert_eq!(host.told("a"), ["MemoryEstimated"]);
    host.rise("a", 1, 9);
    assert_eq!(host.told("a"), ["MemoryEstimated", "ServerWarned"]);
    let (_, event) = &host.events[1];
    assert!(matches!(event, Event::ServerWarned { warning: Warning::MemoryShort, .. }), "{event:?}");
    let mut host = Host::new(10, AdmissionPolicy::Warn, &[("a", 6), ("b", 6)]);
    host.start(&["a"]);
    host.rise("a", 1, 6);
    host.stop("a");
    assert_eq!(host.start(&["b"]), ["b#1"], "nobody waits");
}

#[test]
fn one_that_is_launched_although_it_may_not_fit_makes_nobody_else_short() {
    let mut host = Host::new(10, AdmissionPolicy::Warn, &[("a", 5000), ("b", 4)]);
    assert_eq!(host.start(&["a", "b"]), ["a#1", "b#1"]);
    host.spawn("a", 1, 0);
    host.spawn("b", 1, 0);
    assert_eq!((host.told("a").len(), host.told("b").len()), (2, 1), "{:?}", host.events);
}

#[test]
fn nothing_is_asked_where_memory_is_not_weighed() {
    let mut host = Host::new(10, AdmissionPolicy::Off, &[("a", 20)]);
    let actions = host.machine.start_all([&id("a")]);
    assert!(matches!(&actions[..], [Action::Launch { .. }]), "{actions:?}");
}

#[test]
fn a_model_that_nothing_tells_of_is_launched() {
    let mut host = Host::new(10, AdmissionPolicy::Enforce, &[("a", 20)]);
    host.demands.insert(id("a"), None);
    assert_eq!(host.start(&["a"]), ["a#1"]);
    assert_eq!(host.told("a"), [""; 0]);
}

#[test]
fn memory_goes_by_the_order_of_the_wishes_and_not_by_whose_file_is_read_first() {
    for (policy, first) in [(AdmissionPolicy::Enforce, vec![]), (AdmissionPolicy::Warn, vec!["b#1"])] {
        let mut host = Host::new(6, policy, &[("a", 4), ("b", 4)]);
        let actions = host.machine.start_all(&[id("a"), id("b")]);
        host.take(actions);
        let slow = host.questions.pop_front().expect("a is asked first");
        assert_eq!(host.settle(), first, "{policy:?}");
        host.questions.push_back(slow);
        assert_eq!(host.settle(), ["a#1"], "{policy:?}");
        assert_eq!(host.told("b").contains(&"ServerFailed"), policy == AdmissionPolicy::Enforce);
    }
}

#[test]
fn memory_of_gpus_is_awaited_while_a_driver_may_still_free_it() {
    for (policy, at_the_end) in [(AdmissionPolicy::Enforce, "ServerFailed"), (AdmissionPolicy::Warn, "LaunchReleased")]
    {
        let mut host = Host::new(10, policy, &[("a", 0)]);
        let gpus = Parts { weights: 6 * UNIT, ..Parts::default() };
        host.demands.insert(id("a"), Some(MemoryRequirement { gpus, ..MemoryRequirement::default() }));
        host.gpus = Some(8);
        assert_eq!(host.start(&["a"]), ["a#1"]);
        host.rise("a", 1, 0);
        host.gpus = Some(2);
        host.command(SuperviseCommand::RestartServer { server: id("a"), grace: None, force: false });
        host.exit("a", 1);
        assert_eq!(host.settle(), [""; 0], "the driver has not freed it yet");
        assert!(host.detail("a").contains("a driver may still be freeing"), "{}", host.detail("a"));
        let mut late = Vec::new();
        for _ in 0..5 {
            late.extend(host.wait());
        }
        assert_eq!(
            (late.len(), host.told("a").contains(&at_the_end)),
            (usize::from(policy == AdmissionPolicy::Warn), true)
        );
        assert!(host.now <= 5.0, "the wait is bounded: {}", host.now);
    }
}

#[test]
fn memory_of_gpus_that_is_freed_late_is_enough() {
    let mut host = Host::new(10, AdmissionPolicy::Enforce, &[("a", 0)]);
    let gpus = Parts { weights: 6 * UNIT, ..Parts::default() };
    host.demands.insert(id("a"), Some(MemoryRequirement { gpus, ..MemoryRequirement::default() }));
    host.gpus = Some(8);
    host.start(&["a"]);
    host.rise("a", 1, 0);
    host.gpus = Some(2);
    host.command(SuperviseCommand::RestartServer { server: id("a"), grace: None, force: false });
    host.exit("a", 1);
    host.settle();
    host.gpus = Some(8);
    assert_eq!(host.wait(), ["a#2"]);
}

#[test]
fn a_switch_weighs_what_it_starts_with_the_memory_that_it_has_freed() {
    let mut host = Host::new(10, AdmissionPolicy::Enforce, &[("a", 8), ("b", 8)]);
    host.start(&["a"]);
    host.rise("a", 1, 8);
    let member = |name: &str, wanted| Member {
        server: id(name),
        restart: restart(RestartPolicy::Never),
        wanted,
        changed: false,
    };
    let actions = host.machine.switch(&[member("a", false), member("b", true)], Some(Seq::new(500)));
    host.take(actions);
    assert_eq!(host.settle(), [""; 0]);
    host.exit("a", 1);
    assert_eq!(host.settle(), ["b#1"]);
    assert_eq!(host.told("b"), ["MemoryEstimated"], "it never had to wait for an end that was awaited anyway");
}

#[test]
fn a_shutdown_asks_for_nothing_more_and_ends_what_waits() {
    let mut host = Host::new(10, AdmissionPolicy::Enforce, &[("a", 6), ("b", 6)]);
    host.start(&["a"]);
    host.rise("a", 1, 6);
    host.stop("a");
    host.start(&["b"]);
    host.command(SuperviseCommand::ShutDown { trigger: "test".to_owned(), force: false });
    host.exit("a", 1);
    assert_eq!(host.settle(), [""; 0]);
    assert_eq!(host.told("b").last(), Some(&"LaunchReleased"));
}

proptest! {
    /// Whatever crosses: what was granted never exceeds the machine, every start is answered, nothing waits for ever.
    #[test]
    fn what_is_granted_fits_and_every_wish_ends(
        needs in prop::collection::vec(1_u64..9, 4),
        script in prop::collection::vec((0_u8..6, 0_usize..4), 1..60),
    ) {
        let names = ["a", "b", "c", "d"];
        let servers: Vec<_> = names.iter().copied().zip(needs.iter().copied()).collect();
        let units = |name: &str| servers.iter().find(|(server, _)| *server == name).map_or(0, |(_, units)| *units);
        let mut host = Host::new(10, AdmissionPolicy::Enforce, &servers);
        // Per server: its launch, and whether its process exists, and whether it is ready.
        let mut up: BTreeMap<String, (u64, bool)> = BTreeMap::new();
        let mut asked = Vec::new();
        let step = |host: &mut Host, up: &mut BTreeMap<String, (u64, bool)>| {
            for launched in std::mem::take(&mut host.launched) {
                let (name, incarnation) = launched.split_once('#').expect("as it is written");
                up.insert(name.to_owned(), (incarnation.parse().expect("a number"), false));
            }
            up.keys().map(|name| units(name)).sum::<u64>() <= 10
        };
        for (what, which) in script {
            let name = names[which];
            match (what, up.get(name).copied()) {
                (0, _) => asked.push(host.command(SuperviseCommand::StartServer { server: id(name) })),
                (1, _) => drop(host.stop(name)),
                (2, Some((incarnation, false))) => {
                    host.spawn(name, incarnation, units(name));
                    up.insert(name.to_owned(), (incarnation, true));
                }
                (3, Some((incarnation, true))) => host.ready(name, incarnation),
                (4, Some((incarnation, true))) => {
                    up.remove(name);
                    host.ready(name, incarnation);
                    host.exit(name, incarnation);
                }
                _ => drop(host.answer()),
            }
            prop_assert!(step(&mut host, &mut up), "more was granted than there is");
        }
        for _ in 0..20 {
            host.settle().into_iter().for_each(|launch| host.launched.push(launch));
            prop_assert!(step(&mut host, &mut up), "more was granted than there is");
            for (name, (incarnation, has_process)) in up.clone() {
                if !has_process {
                    host.spawn(&name, incarnation, units(&name));
                }
                up.remove(&name);
                // One that ends before it is ready has failed, which another component tells.
                host.ready(&name, incarnation);
                host.exit(&name, incarnation);
            }
        }
        for id in asked {
            prop_assert!(host.outcomes.contains_key(&id), "a start was never answered");
        }
        prop_assert_eq!(host.machine.next_deadline(), None);
    }
}
