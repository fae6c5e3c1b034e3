//! The machine as tables: inputs with times in milliseconds since the start of the daemon. The spawn is at 1000.

use llama_warden_config::ListenerPolicy;
use llama_warden_events::{FailureReason, ListenerOwner, ProcessEnd, Signal};

use super::*;
use crate::failure::FailureEvidence;
use crate::identity::Identity;

mod end;
mod limits;
mod proof;

const SPAWNED: u64 = 1000;
const OWN: ListenerOwner = ListenerOwner::Own;
const CRASH: ProcessEnd = ProcessEnd::Signaled { signal: Signal::ABRT, core_dumped: false };

fn policy() -> ReadinessPolicy {
    ReadinessPolicy {
        timeout: Duration::from_secs(120),
        on_timeout: OnTimeout::AssumeReady,
        stall_timeout: None,
        confirm: Confirm::Health,
        listener: ListenerPolicy::Own,
        probeable: Probeable::Yes,
        was_ready: false,
        fetches_model: false,
    }
}

/// A machine with all actions that it returned.
struct MachineRun {
    machine: ReadinessMachine,
    /// Never runs backwards, even if a test gives no `Deadline` at its time.
    now: Uptime,
    actions: Vec<ReadinessAction>,
}

impl MachineRun {
    fn new(policy: ReadinessPolicy) -> Self {
        Self { machine: ReadinessMachine::new(policy, at(SPAWNED)), now: at(SPAWNED), actions: Vec::new() }
    }

    fn startup(&mut self) -> &mut Startup {
        let ReadinessMachine::Starting(startup) = &mut self.machine else { panic!("it has its verdict") };
        startup
    }

    fn on(&mut self, ms: u64, input: ReadinessInput) -> Vec<ReadinessAction> {
        self.now = self.now.max(at(ms));
        let actions = self.machine.on(input, self.now);
        self.actions.extend(actions.iter().cloned());
        actions
    }

    fn answer(&mut self, ms: u64, answer: ProbeAnswer) -> Vec<ReadinessAction> {
        self.on(ms, ReadinessInput::Answered(answer))
    }

    fn line(&mut self, ms: u64, strength: HintStrength) -> Vec<ReadinessAction> {
        let hint = ReadinessHint { stream: StreamName::Stdout, strength, line: "up".into() };
        self.on(
            ms,
            ReadinessInput::Output(OutputSummary {
                hints: vec![hint],
                last_line: Some(at(ms)),
                ..OutputSummary::default()
            }),
        )
    }

    fn life(&mut self, ms: u64) {
        self.on(ms, ReadinessInput::Output(OutputSummary { last_line: Some(at(ms)), ..OutputSummary::default() }));
    }

    fn percent(&mut self, ms: u64, percent: Option<f64>) -> Vec<ReadinessAction> {
        self.on(ms, ReadinessInput::Output(OutputSummary { progress: Some(percent), ..OutputSummary::default() }))
    }

    fn listener(&mut self, ms: u64, owner: ListenerOwner) -> Vec<ReadinessAction> {
        self.on(ms, ReadinessInput::ListenerIdentified(owner))
    }

    fn identity(&mut self, ms: u64, identity: Identity) -> Vec<ReadinessAction> {
        // Once the verdict is out, no round is awaited any more.
        let round = if self.machine.is_starting() { self.startup().round } else { 0 };
        self.on(ms, ReadinessInput::IdentityChecked { round, identity })
    }

    fn exit(&mut self, ms: u64, evidence: Option<FailureEvidence>) -> Vec<ReadinessAction> {
        self.on(ms, ReadinessInput::Exited { end: CRASH, evidence })
    }

    /// Lets deadlines pass until `ms`; every probe is answered at once with `answer`, if there is one.
    fn run_until(&mut self, ms: u64, answer: Option<ProbeAnswer>) -> Vec<ReadinessAction> {
        let mut actions = Vec::new();
        while let Some(deadline) = self.machine.next_deadline().filter(|deadline| *deadline <= at(ms)) {
            self.now = self.now.max(deadline);
            let before = actions.len();
            actions.extend(self.machine.on(ReadinessInput::Deadline, self.now));
            let probes = actions[before..].iter().filter(|action| **action == ReadinessAction::Probe).count();
            for _ in 0..probes {
                if let Some(answer) = answer {
                    actions.extend(self.machine.on(ReadinessInput::Answered(answer), self.now));
                }
            }
            assert!(actions.len() < 100_000, "the machine does not come to rest");
        }
        self.actions.extend(actions.iter().cloned());
        actions
    }

    fn verdicts(&self) -> Vec<String> {
        self.actions.iter().filter_map(verdict).collect()
    }
}

fn at(ms: u64) -> Uptime {
    Uptime::new(Duration::from_millis(ms))
}

fn verdict(action: &ReadinessAction) -> Option<String> {
    match action {
        ReadinessAction::Publish(Event::ReadyReached { via, .. }) => Some(format!("ready via {via}")),
        ReadinessAction::Fail(failure) => Some(failure.reason.to_string()),
        _ => None,
    }
}

fn warnings(actions: &[ReadinessAction]) -> Vec<Warning> {
    let warning = |action: &ReadinessAction| match action {
        ReadinessAction::Publish(Event::ServerWarned { warning, .. }) => Some(*warning),
        _ => None,
    };
    actions.iter().filter_map(warning).collect()
}

fn evidence(reason: FailureReason) -> Option<FailureEvidence> {
    Some(FailureEvidence { reason, rank: 0, line: "why it failed".into() })
}

/// A machine whose first probe was answered with 200.
fn answered() -> MachineRun {
    let mut run = MachineRun::new(policy());
    assert_eq!(run.on(SPAWNED, ReadinessInput::Deadline), [ReadinessAction::Probe]);
    let actions = run.answer(1001, ProbeAnswer::Ok);
    assert_eq!(actions, [ReadinessAction::IdentifyListener, ReadinessAction::CheckIdentity { round: 1 }]);
    run
}

fn ready() -> MachineRun {
    let mut run = answered();
    run.listener(1002, OWN);
    run.identity(1003, Identity::Same);
    assert_eq!(run.verdicts(), ["ready via health"]);
    run
}
