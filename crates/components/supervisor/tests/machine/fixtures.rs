//! Server ids, restart policies, envelopes and machines for the tests.

use std::sync::Arc;
use std::time::Duration;

use llama_warden_config::{AdmissionPolicy, RestartPolicy, RestartSpec};
use llama_warden_events::{BootId, Envelope, Event, Incarnation, Seq, ServerId, Timestamp, Uptime};
use llama_warden_supervisor::{RoutingPolicy, ServerPolicy, SupervisorAction, SupervisorLimits, SupervisorMachine};

pub fn id(name: &str) -> ServerId {
    ServerId::new(name).expect("valid")
}

/// An event about a launch.
pub fn envelope(seq: u64, elapsed: Uptime, server: ServerId, incarnation: Incarnation, event: Event) -> Envelope {
    Envelope {
        seq: Seq::new(seq),
        boot: BootId::from_random(1),
        at: Timestamp::new("2026-01-01T00:00:00Z".parse().expect("valid")),
        elapsed,
        server: Some(server),
        incarnation: Some(incarnation),
        cause: None,
        event,
    }
}

/// A machine without admission by memory.
pub fn machine(starts: Option<usize>) -> SupervisorMachine {
    machine_with_memory(starts, AdmissionPolicy::Off)
}

pub fn machine_with_memory(starts: Option<usize>, memory: AdmissionPolicy) -> SupervisorMachine {
    let (shutdown, routing) = (Duration::from_secs(30), RoutingPolicy::default());
    SupervisorMachine::new(SupervisorLimits { shutdown, starts, memory, routing }, 7)
}

/// Answers that nothing is in flight wherever a server is to be released, as a daemon without a router does.
pub fn release_all(
    machine: &mut SupervisorMachine,
    actions: Vec<SupervisorAction>,
    now: Uptime,
) -> Vec<SupervisorAction> {
    let mut performed = Vec::new();
    for action in actions {
        match action {
            SupervisorAction::Release { server, incarnation, drain } => {
                let actions = machine.on_release_answered(&server, (incarnation, drain), Ok(()), now);
                performed.extend(release_all(machine, actions, now));
            }
            other => performed.push(other),
        }
    }
    performed
}

pub fn policy(restart_policy: RestartPolicy) -> ServerPolicy {
    ServerPolicy::new(restart(restart_policy), Duration::from_secs(10))
}

fn restart(policy: RestartPolicy) -> Arc<RestartSpec> {
    Arc::new(RestartSpec {
        policy,
        max_attempts: 2,
        initial_delay: Duration::from_secs(1),
        max_delay: Duration::from_secs(60),
        stable_after: Duration::from_secs(60),
    })
}
