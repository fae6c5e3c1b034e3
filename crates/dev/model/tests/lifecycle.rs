//! Random commands, random behaviour of servers and random time against the promises of the lifecycle.
//!
//! Each run has a seed, and a failure prints the shortest steps that still fail, the events, and how to repeat the run:
//!
//! ```sh
//! LLAMA_WARDEN_MODEL_SEED=42 cargo test --package llama-warden-model
//! ```
//!
//! `LLAMA_WARDEN_MODEL_STEPS` is how many steps are done in all, in runs of new seeds.

#![expect(clippy::panic, reason = "a panic is how a test fails")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use llama_warden_config::AdmissionPolicy;
use llama_warden_model::{
    Act, Outside, Part, Preparation, SERVERS, Simulation, SimulationSettings, SimulationStep, StopHaste, Traffic,
    UserCommand,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

/// Steps that do something, in all.
const STEPS: u64 = 1_000_000;
/// Runs at a time. A minute of work on one thread.
const THREADS: usize = 2;
/// Most steps of one run, before it comes to rest.
const LONGEST: usize = 250;

fn haste() -> impl Strategy<Value = StopHaste> {
    prop_oneof![4 => Just(StopHaste::Graceful), 1 => Just(StopHaste::Short), 1 => Just(StopHaste::Forced)]
}

fn command() -> impl Strategy<Value = UserCommand> {
    let server = 0..SERVERS as u8;
    prop_oneof![
        6 => server.clone().prop_map(UserCommand::Start),
        6 => (server.clone(), haste()).prop_map(|(server, haste)| UserCommand::Stop(server, haste)),
        6 => (server.clone(), haste()).prop_map(|(server, haste)| UserCommand::Restart(server, haste)),
        2 => server.prop_map(UserCommand::Unload),
        4 => Just(UserCommand::Reload),
        2 => (0..8_u8).prop_map(UserCommand::Profile),
        1 => (0..8_u8).prop_map(UserCommand::Preview),
        1 => haste().prop_map(UserCommand::ShutDown),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => Just(Act::Load),
        6 => Just(Act::Serve),
        1 => Just(Act::Compute),
        2 => Just(Act::Hang),
        2 => (0..3_u8).prop_map(Act::Exit),
        1 => Just(Act::Crash),
        1 => Just(Act::RunOutOfMemory),
        1 => Just(Act::IgnoreSignals),
        1 => Just(Act::GetStuck),
        2 => Just(Act::GetReleased),
        6 => Just(Act::Obey),
        1 => Just(Act::ServeOther),
        1 => Just(Act::Hint),
        1 => Just(Act::Storm),
    ]
}

fn outside() -> impl Strategy<Value = Outside> {
    let server = 0..SERVERS as u8;
    prop_oneof![
        6 => prop::array::uniform3(0..5_u8).prop_map(Outside::EditFile),
        1 => Just(Outside::BreakFile),
        2 => server.clone().prop_map(Outside::TakePort),
        2 => server.clone().prop_map(Outside::LeavePort),
        2 => (0..5_u8).prop_map(Outside::Memory),
        3 => server.prop_map(Outside::FileChanges),
    ]
}

fn outcome() -> impl Strategy<Value = Preparation> {
    prop_oneof![
        12 => Just(Preparation::Spawned),
        1 => Just(Preparation::ExecFails),
        1 => Just(Preparation::Broken),
        1 => Just(Preparation::ModelMissing),
        1 => Just(Preparation::ModelInvalid),
        1 => Just(Preparation::BadArgument),
        1 => Just(Preparation::PortTaken),
    ]
}

fn wait() -> impl Strategy<Value = Duration> {
    prop_oneof![
        4 => (1..20_u64).prop_map(Duration::from_millis),
        4 => (100..1500_u64).prop_map(Duration::from_millis),
        2 => (2..20_u64).prop_map(Duration::from_secs),
        1 => Just(Duration::from_secs(300)),
    ]
}

fn traffic() -> impl Strategy<Value = Traffic> {
    prop_oneof![5 => Just(Traffic::Request), 4 => Just(Traffic::Respond), 1 => Just(Traffic::Leave)]
}

fn step() -> impl Strategy<Value = SimulationStep> {
    let part = prop::sample::select(&Part::ALL[..]);
    let server = 0..SERVERS as u8;
    prop_oneof![
        8 => command().prop_map(SimulationStep::Command),
        20 => (1..5_u8).prop_map(SimulationStep::Sequence),
        50 => (part.clone(), any::<bool>()).prop_map(|(part, command_first)| SimulationStep::Read { part, command_first }),
        2 => part.clone().prop_map(SimulationStep::Miss),
        12 => (part.clone(), any::<u8>()).prop_map(|(part, task)| SimulationStep::Finish { part, task }),
        8 => part.prop_map(SimulationStep::Deadline),
        6 => wait().prop_map(SimulationStep::Wait),
        20 => (server.clone(), outcome()).prop_map(|(server, outcome)| SimulationStep::Launch { server, outcome }),
        12 => (server.clone(), act()).prop_map(|(server, act)| SimulationStep::Process { server, act }),
        10 => (server.clone(), traffic()).prop_map(|(server, traffic)| SimulationStep::Traffic { server, traffic }),
        3 => outside().prop_map(SimulationStep::Outside),
        6 => Just(SimulationStep::Settle),
    ]
}

fn settings() -> impl Strategy<Value = SimulationSettings> {
    let memory = prop_oneof![
        3 => Just(AdmissionPolicy::Off), 1 => Just(AdmissionPolicy::Warn), 1 => Just(AdmissionPolicy::Enforce)
    ];
    let starts = prop_oneof![2 => Just(None), 1 => (1..3_usize).prop_map(Some)];
    let routed = prop_oneof![2 => Just(None), 1 => Just(Some(0)), 3 => (1..3_usize).prop_map(Some)];
    (starts, memory, routed, any::<u64>(), prop::array::uniform3(0..5_u8))
        .prop_map(|(starts, memory, routed, seed, states)| SimulationSettings { starts, memory, routed, seed, states })
}

/// Does the run of a seed, and returns how many steps did something.
fn run(seed: u64) -> u64 {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases: 1, failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let done = std::cell::Cell::new(0);
    let result =
        runner.run(
            &(settings(), prop::collection::vec(step(), 1..LONGEST)),
            |(settings, steps)| match Simulation::run(&settings, &steps) {
                Ok(work) => {
                    done.set(work);
                    Ok(())
                }
                Err(broken) => Err(TestCaseError::fail(broken.violation.to_string())),
            },
        );
    if let Err(TestError::Fail(reason, (settings, steps))) = result {
        let log = Simulation::run(&settings, &steps).map_or_else(|broken| broken.log, |_| String::new());
        let steps: String = steps.iter().map(|step| format!("    {step:?}\n")).collect();
        panic!("{reason}\nrepeat with LLAMA_WARDEN_MODEL_SEED={seed}\n{settings:?}\nsteps:\n{steps}\nevents:\n{log}");
    }
    done.get()
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|error| panic!("{variable}: {error}")))
}

#[test]
fn the_promises_of_the_lifecycle_hold_in_a_million_random_steps() {
    if let Some(seed) = number("LLAMA_WARDEN_MODEL_SEED") {
        run(seed);
        return;
    }
    let steps = number("LLAMA_WARDEN_MODEL_STEPS").unwrap_or(STEPS);
    let (done, runs) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        while done.load(Ordering::Relaxed) < steps {
            done.fetch_add(run(fastrand::u64(..)), Ordering::Relaxed);
            runs.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(work))));
    println!("{} steps in {} runs", done.into_inner(), runs.into_inner());
}
