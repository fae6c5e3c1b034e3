//! The machine as tables: inputs at times in milliseconds since the start of the daemon, the spawn being at 1000.

use llama_warden_events::{FailureReason, Signal};

use super::*;

mod end;
mod limits;
mod proof;

const SPAWNED: u64 = 1000;
const OWN: ListenerOwner = ListenerOwner::Own;
const CRASH: ProcessEnd = ProcessEnd::Signaled { signal: Signal::ABRT, core_dumped: false };

fn terms() -> Terms {
    Terms {
        timeout: Duration::from_secs(120),
        on_timeout: OnTimeout::AssumeReady,
        stall_timeout: None,
        confirm: Confirm::Health,
        askable: Askable::Yes,
    }
}

/// A machine that notes what it says.
struct Bench {
    machine: Machine,
    /// Time does not run backwards, also where a test lets a deadline pass unheard.
    now: Uptime,
    said: Vec<Action>,
}

impl Bench {
    fn new(terms: Terms) -> Self {
        Self { machine: Machine::new(terms, at(SPAWNED)), now: at(SPAWNED), said: Vec::new() }
    }

    fn startup(&mut self) -> &mut Startup {
        let Machine::Starting(startup) = &mut self.machine else { panic!("it has its verdict") };
        startup
    }

    fn on(&mut self, ms: u64, input: Input) -> Vec<Action> {
        self.now = self.now.max(at(ms));
        let actions = self.machine.on(input, self.now);
        self.said.extend(actions.iter().cloned());
        actions
    }

    fn answer(&mut self, ms: u64, answer: Answer) -> Vec<Action> {
        self.on(ms, Input::Answered(answer))
    }

    fn line(&mut self, ms: u64, strength: HintStrength) -> Vec<Action> {
        let hint = Hint { stream: StreamName::Stdout, strength, line: "up".into() };
        self.on(ms, Input::Sighted(Sighting { hints: vec![hint], last_line: Some(at(ms)), ..Sighting::default() }))
    }

    fn life(&mut self, ms: u64) {
        self.on(ms, Input::Sighted(Sighting { last_line: Some(at(ms)), ..Sighting::default() }));
    }

    fn percent(&mut self, ms: u64, percent: Option<f64>) -> Vec<Action> {
        self.on(ms, Input::Sighted(Sighting { progress: Some(percent), ..Sighting::default() }))
    }

    fn listener(&mut self, ms: u64, owner: ListenerOwner) -> Vec<Action> {
        self.on(ms, Input::ListenerIdentified(owner))
    }

    fn identity(&mut self, ms: u64, identity: Identity) -> Vec<Action> {
        // Once the verdict is out, no round is awaited any more.
        let round = if self.machine.is_watching() { self.startup().round } else { 0 };
        self.on(ms, Input::IdentityChecked { round, identity })
    }

    fn exit(&mut self, ms: u64, evidence: Option<Evidence>) -> Vec<Action> {
        self.on(ms, Input::Exited { end: CRASH, evidence })
    }

    /// Lets deadlines pass until `ms`; every probe is answered at once with `answer`, if there is one.
    fn run_until(&mut self, ms: u64, answer: Option<Answer>) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(deadline) = self.machine.next_deadline().filter(|deadline| *deadline <= at(ms)) {
            self.now = self.now.max(deadline);
            let before = actions.len();
            actions.extend(self.machine.on(Input::Deadline, self.now));
            let probes = actions[before..].iter().filter(|action| **action == Action::Probe).count();
            for _ in 0..probes {
                if let Some(answer) = answer {
                    actions.extend(self.machine.on(Input::Answered(answer), self.now));
                }
            }
            assert!(actions.len() < 100_000, "the machine does not come to rest");
        }
        self.said.extend(actions.iter().cloned());
        actions
    }

    fn verdicts(&self) -> Vec<String> {
        self.said.iter().filter_map(verdict).collect()
    }
}

fn at(ms: u64) -> Uptime {
    Uptime::new(Duration::from_millis(ms))
}

fn verdict(action: &Action) -> Option<String> {
    match action {
        Action::Publish(Event::ReadyReached { via, .. }) => Some(format!("ready via {via}")),
        Action::Fail(failure) => Some(failure.reason.to_string()),
        _ => None,
    }
}

fn warnings(actions: &[Action]) -> Vec<Warning> {
    let warning = |action: &Action| match action {
        Action::Publish(Event::ServerWarned { warning, .. }) => Some(*warning),
        _ => None,
    };
    actions.iter().filter_map(warning).collect()
}

fn evidence(reason: FailureReason) -> Option<Evidence> {
    Some(Evidence { reason, rank: 0, line: "why it failed".into() })
}

/// A machine whose first probe was answered with 200.
fn answered() -> Bench {
    let mut bench = Bench::new(terms());
    assert_eq!(bench.on(SPAWNED, Input::Deadline), [Action::Probe]);
    let actions = bench.answer(1001, Answer::Ok);
    assert_eq!(actions, [Action::IdentifyListener, Action::CheckIdentity { round: 1 }]);
    bench
}

fn ready() -> Bench {
    let mut bench = answered();
    bench.listener(1002, OWN);
    bench.identity(1003, Identity::Same);
    assert_eq!(bench.verdicts(), ["ready via health"]);
    bench
}
