//! The daemon is killed at every step of a launch and a stop. The next start must end whatever is left before it launches.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use std::time::Duration;

use llama_warden_events::{Envelope, Event};
use llama_warden_stand_in::{Grandchild, ScheduledAction, Script, ScriptAction, ScriptPhase};
use llama_warden_tests::{
    DaemonOptions, Sandbox, TestDaemon, TestFleet, WAIT_LIMIT, action_at, eventually, processes_with, sandbox,
};
use nix::sys::signal::Signal;

/// A descendant outside its process group and session, with an empty environment.
pub fn escaped_descendant(life_ms: u64) -> Grandchild {
    Grandchild { life_ms, detach: true, scrub_env: true, hold_pipe: false, ignore_term: true, ..Grandchild::default() }
}

/// A server that starts such a descendant.
pub fn with_escaped_descendant(life_ms: u64, rest: Vec<ScheduledAction>) -> Script {
    let mut actions = vec![action_at(ScriptPhase::Start, ScriptAction::Spawn(escaped_descendant(life_ms)))];
    actions.extend(rest);
    Script { actions, ..Script::default() }
}

/// A lifetime for descendants that no other test uses. It is in their command line, so that a test finds its own.
pub fn unique_life_ms() -> u64 {
    fastrand::u64(40_000..60_000)
}

/// The numbers of descendants with this lifetime, and of processes of server `a`, that run now.
pub fn survivors(fleet: &TestFleet, life_ms: u64) -> (usize, usize) {
    let grandchildren = processes_with(&format!("\"life_ms\":{life_ms}"));
    // The intermediate process that detaches a grandchild is about to exit, and does not count.
    let alive = grandchildren.iter().filter(|process| process.command.contains("--stand-in-grandchild"));
    let model = fleet.model("a");
    (alive.count(), processes_with(&format!("--model\0{}", model.display())).len())
}

async fn kill(daemon: &TestDaemon) {
    daemon.signal(Signal::SIGKILL);
    daemon.exit().await;
}

/// Starts the next daemon, and asserts that only its own processes run once its server is ready.
pub async fn assert_next_start_is_clean(sandbox: &Sandbox, fleet: &TestFleet, life_ms: u64, when: &str) {
    fleet.rewrite("a", &with_escaped_descendant(life_ms, Vec::new()));
    let next = sandbox.up(fleet).await;
    // One that was being stopped by hand when the daemon was killed stays down otherwise.
    next.command("a", "start").await.expect(202);
    next.ready("a").await;
    // The server does not wait for its descendant.
    eventually("its own descendant runs", WAIT_LIMIT, async || survivors(fleet, life_ms).0 > 0).await;
    assert_eq!(survivors(fleet, life_ms), (1, 1), "killed {when}");
    next.signal(Signal::SIGTERM);
    assert_eq!(next.exit_code().await, 0, "{}", next.log());
    assert_eq!(survivors(fleet, life_ms), (0, 0), "killed {when}, and stopped");
}

fn has_come(step: &str, event: &Envelope) -> bool {
    event.event.kind() == step && !matches!(event.event, Event::CommandAccepted { .. })
}

/// Fault S3.
#[test]
fn whatever_step_the_daemon_is_killed_at_the_next_start_is_clean() {
    let steps = [
        "DaemonStarted",
        "LaunchBegan",
        "BinaryIdentified",
        "ServerSpawned",
        "ReadyReached",
        "StopBegan",
        "SignalDelivered",
    ];
    for step in steps {
        sandbox(async |sandbox| {
            let life_ms = unique_life_ms();
            let mut fleet = sandbox.fleet();
            fleet.server_with("a", with_escaped_descendant(life_ms, Vec::new()), "stop = { grace = \"5s\" }");
            let slow_stop = ScheduledAction {
                at: ScriptPhase::Stopping,
                after_ms: 60_000,
                action: ScriptAction::Zombies { count: 0 },
            };
            fleet.rewrite("a", &with_escaped_descendant(life_ms, vec![slow_stop]));
            let daemon = sandbox.up(&fleet).await;
            if ["StopBegan", "SignalDelivered"].contains(&step) {
                daemon.ready("a").await;
                daemon.command("a", "stop").await.expect(202);
            }
            daemon.event(step, |event| has_come(step, event)).await;
            kill(&daemon).await;
            assert_next_start_is_clean(sandbox, &fleet, life_ms, step).await;
        });
    }
}

/// Fault S18. `LLAMA_WARDEN_TEST_CRASHES` sets the number of rounds. The seed of the random moments is printed.
#[test]
fn whenever_the_daemon_is_killed_the_next_start_is_clean() {
    let rounds = std::env::var("LLAMA_WARDEN_TEST_CRASHES").map_or(6, |rounds| rounds.parse().expect("a number"));
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..rounds {
        let moment = Duration::from_micros(random.u64(0..500_000));
        sandbox(async |sandbox| {
            let life_ms = unique_life_ms();
            let mut fleet = sandbox.fleet();
            fleet.section(
                "[restart]\npolicy = \"always\"\ninitial-delay = \"10ms\"\nmax-delay = \"20ms\"\nmax-attempts = 1000",
            );
            let exits = ScheduledAction {
                at: ScriptPhase::Ready,
                after_ms: 50,
                action: ScriptAction::Exit { code: 1, last_words: None },
            };
            fleet.server("a", with_escaped_descendant(life_ms, vec![exits]));
            let daemon = sandbox.launch(&fleet, &DaemonOptions::default());
            // await: the test kills at a random moment, not at an event.
            tokio::time::sleep(moment).await;
            kill(&daemon).await;
            assert_next_start_is_clean(sandbox, &fleet, life_ms, &format!("after {moment:?}")).await;
        });
    }
}
