//! Whether there is memory for a launch that is due.
//!
//! A launch is weighed in two steps, both of which the caller performs beside its loop: once what the server will need,
//! then what there is. Launches are weighed in the order of the wishes. Nothing is decided by a reading that was taken
//! before somebody gave memory back. What is granted is an account, which stays until the server is down; what does not
//! fit yet and will is held, and looked at again whenever memory is given back, and every [`RECHECK`].

use std::collections::BTreeMap;
use std::time::Duration;

use llama_warden_config::AdmissionPolicy;
use llama_warden_events::{Event, ServerId, Uptime};
use llama_warden_memory::{MemoryRequirement, Reading};

use crate::action::Action;
use crate::balance::{Amount, Balance, Fit, Holder, Stage};

/// How often what is held is looked at again: others than our servers give memory back too.
pub(crate) const RECHECK: Duration = Duration::from_secs(1);

/// How long a driver may take to free the memory of a process that is gone. The kernel frees a process's own memory before
/// its end can be seen.
pub(crate) const GPU_RELEASE: Duration = Duration::from_secs(5);

/// What becomes of a launch that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It is granted, with a warning where the memory may not suffice.
    Granted { warning: Option<String> },
    /// There is not enough memory, and nothing is under way that would free it.
    Refused { detail: String },
    /// Not yet.
    Waiting,
}

/// The accounts of all servers.
#[derive(Debug)]
pub(crate) struct Admission {
    policy: AdmissionPolicy,
    accounts: BTreeMap<ServerId, Box<Account>>,
    tickets: u64,
    question: Question,
    /// Whether what is held deserves another look.
    is_stirred: bool,
    recheck_at: Option<Uptime>,
    /// When a server that had memory of GPUs went down.
    gpus_freed: Option<Uptime>,
}

#[derive(Debug)]
struct Account {
    /// Names the question about its demand, so that an answer to an older one is told apart.
    ticket: u64,
    demand: Answer,
    standing: Standing,
    /// Its process.
    pid: Option<u32>,
}

#[derive(Debug)]
enum Answer {
    Awaited,
    /// `None` where nothing tells.
    Given(Option<MemoryRequirement>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Due and not weighed yet.
    Due,
    /// Weighed, and waiting for what is about to be free.
    Held,
    Granted,
}

/// The question what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    NotAsked,
    Asked,
    /// Asked before somebody gave memory back: its answer is too old.
    Outdated,
}

/// One pass over all launches that are due.
#[derive(Debug)]
pub(crate) struct Round<'r> {
    reading: Option<&'r Reading>,
    now: Uptime,
    stages: BTreeMap<ServerId, Stage>,
    /// What is spoken for by those who wait already.
    ahead: Amount,
    wants_reading: bool,
    holds_any: bool,
    /// Whether somebody further ahead is still being estimated.
    is_blocked: bool,
}

impl Admission {
    pub(crate) const fn new(policy: AdmissionPolicy) -> Self {
        Self {
            policy,
            accounts: BTreeMap::new(),
            tickets: 0,
            question: Question::NotAsked,
            is_stirred: false,
            recheck_at: None,
            gpus_freed: None,
        }
    }

    /// A process of a server that was granted its launch.
    pub(crate) fn on_spawned(&mut self, server: &ServerId, pid: u32) {
        if let Some(account) = self.accounts.get_mut(server).filter(|account| account.standing == Standing::Granted) {
            account.pid = Some(pid);
        }
    }

    /// What a server will need was found out.
    pub(crate) fn on_estimated(
        &mut self,
        server: &ServerId,
        ticket: u64,
        demand: Option<MemoryRequirement>,
        actions: &mut Vec<Action>,
    ) {
        let Some(account) = self.accounts.get_mut(server).filter(|account| account.ticket == ticket) else { return };
        if let Some(demand) = &demand {
            let event = Event::MemoryEstimated { estimate: demand.card() };
            actions.push(Action::Announce { server: server.clone(), event });
        }
        account.demand = Answer::Given(demand);
    }

    /// The answer to what there is; whether it can be used.
    pub(crate) fn on_reading(&mut self) -> bool {
        let is_fresh = self.question == Question::Asked;
        self.question = Question::NotAsked;
        self.is_stirred |= !is_fresh;
        is_fresh
    }

    /// Memory was given back, or loaded: what is held deserves another look, and a reading under way is too old.
    pub(crate) fn stir(&mut self) {
        self.is_stirred = true;
        if self.question == Question::Asked {
            self.question = Question::Outdated;
        }
    }

    pub(crate) const fn next_deadline(&self) -> Option<Uptime> {
        self.recheck_at
    }

    pub(crate) fn on_deadline(&mut self, now: Uptime) {
        if self.recheck_at.take_if(|at| *at <= now).is_some() {
            self.is_stirred = true;
        }
    }

    /// Closes the account of a server that is down, or whose launch is no longer due.
    pub(crate) fn close(&mut self, server: &ServerId, now: Uptime, actions: &mut Vec<Action>) {
        let Some(account) = self.accounts.remove(server) else { return };
        match account.standing {
            Standing::Due => {}
            Standing::Held => actions.push(released(server)),
            Standing::Granted => {
                if matches!(&account.demand, Answer::Given(Some(demand)) if demand.gpus.total() > 0) {
                    self.gpus_freed = Some(now);
                }
                self.stir();
            }
        }
    }

    /// The servers that have an account, and whether it is one of a launch that was granted.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = (&ServerId, bool)> {
        self.accounts.iter().map(|(server, account)| (server, account.standing == Standing::Granted))
    }

    /// Begins a pass. `stages` says how far each server that was granted a launch has come.
    pub(crate) fn begin<'r>(
        &self,
        reading: Option<&'r Reading>,
        now: Uptime,
        stages: BTreeMap<ServerId, Stage>,
    ) -> Round<'r> {
        Round {
            reading,
            now,
            stages,
            ahead: Amount::default(),
            wants_reading: false,
            holds_any: false,
            is_blocked: false,
        }
    }

    /// Says what becomes of a launch that is due.
    pub(crate) fn judge(&mut self, server: &ServerId, round: &mut Round<'_>, actions: &mut Vec<Action>) -> Judgement {
        if self.policy == AdmissionPolicy::Off {
            return Judgement::Granted { warning: None };
        }
        let (standing, demand) = match self.accounts.get(server).map(Box::as_ref) {
            None => {
                self.open(server, actions);
                return self.await_estimate(round);
            }
            Some(Account { demand: Answer::Awaited, .. }) => return self.await_estimate(round),
            Some(Account { demand: Answer::Given(demand), standing, .. }) => (*standing, demand.clone()),
        };
        if round.is_blocked {
            round.holds_any |= standing == Standing::Held;
            return Judgement::Waiting;
        }
        // The launch tells better what is wrong with a model that cannot be read.
        let Some(demand) = demand else { return self.grant(server, round, None, actions) };
        let Some(reading) = round.reading else {
            round.wants_reading |= standing == Standing::Due || self.is_stirred;
            round.holds_any |= standing == Standing::Held;
            return Judgement::Waiting;
        };
        let holders = self.holders(round, reading);
        let balance = Balance::strike(reading, &holders);
        let fit = balance.weigh(&demand, round.ahead);
        let frees_gpus = self.gpus_freed.is_some_and(|at| round.now.since(at) < GPU_RELEASE);
        let awaits_driver = fit != Fit::Now && frees_gpus && balance.lacks_gpus(&demand);
        let (text, ahead) = (balance.describe(&demand), balance.queue(&demand, round.ahead));
        match (fit, self.policy) {
            (Fit::Now, _) => self.grant(server, round, None, actions),
            _ if awaits_driver => {
                let because = format!("{text}; a driver may still be freeing what a server had");
                round.ahead = ahead;
                self.hold(server, because, round, actions)
            }
            (Fit::Soon, AdmissionPolicy::Enforce) => {
                let because = format!("{text}; {}", round.awaited());
                round.ahead = ahead;
                self.hold(server, because, round, actions)
            }
            (Fit::Never, AdmissionPolicy::Enforce) => {
                self.accounts.remove(server);
                if standing == Standing::Held {
                    actions.push(released(server));
                }
                let next = "lower its ctx-size or cache types, stop another server, or set start.memory = \"warn\"";
                Judgement::Refused { detail: format!("{text}; {next}") }
            }
            (Fit::Soon | Fit::Never, _) => self.grant(server, round, Some(text), actions),
        }
    }

    /// Ends a pass: asks what there is if somebody waits for that, and remembers when to look again.
    pub(crate) fn end(&mut self, round: &Round<'_>, actions: &mut Vec<Action>) {
        if round.wants_reading && self.question == Question::NotAsked {
            self.question = Question::Asked;
            self.is_stirred = false;
            let pids = self.accounts.values().filter_map(|account| account.pid).collect();
            actions.push(Action::ReadMemory { pids });
        }
        if !round.holds_any {
            self.recheck_at = None;
        } else if round.reading.is_some() {
            self.recheck_at = Some(round.now + RECHECK);
        }
    }

    /// Who gets the memory must not depend on whose file is read first. Where all get it, nobody waits.
    fn await_estimate(&self, round: &mut Round<'_>) -> Judgement {
        round.is_blocked |= self.policy == AdmissionPolicy::Enforce;
        Judgement::Waiting
    }

    fn open(&mut self, server: &ServerId, actions: &mut Vec<Action>) {
        self.tickets += 1;
        let ticket = self.tickets;
        let account = Account { ticket, demand: Answer::Awaited, standing: Standing::Due, pid: None };
        self.accounts.insert(server.clone(), Box::new(account));
        actions.push(Action::EstimateMemory { server: server.clone(), ticket });
    }

    fn grant(
        &mut self,
        server: &ServerId,
        round: &mut Round<'_>,
        warning: Option<String>,
        actions: &mut Vec<Action>,
    ) -> Judgement {
        if let Some(account) = self.accounts.get_mut(server) {
            if account.standing == Standing::Held {
                actions.push(released(server));
            }
            account.standing = Standing::Granted;
            if warning.is_some() {
                // It takes its chances: what was not there is not promised to it, or everybody after it would be warned of too.
                account.demand = Answer::Given(None);
            }
        }
        round.stages.insert(server.clone(), Stage::Rising);
        Judgement::Granted { warning }
    }

    /// Tells once that it waits; the numbers would change with every look.
    fn hold(
        &mut self,
        server: &ServerId,
        because: String,
        round: &mut Round<'_>,
        actions: &mut Vec<Action>,
    ) -> Judgement {
        round.holds_any = true;
        if let Some(account) = self.accounts.get_mut(server).filter(|account| account.standing == Standing::Due) {
            account.standing = Standing::Held;
            actions.push(Action::Announce { server: server.clone(), event: Event::LaunchHeld { because } });
        }
        Judgement::Waiting
    }

    fn holders<'a>(&'a self, round: &Round<'_>, reading: &Reading) -> Vec<Holder<'a>> {
        let accounts = self.accounts.iter().map(|(server, account)| (server, account.as_ref()));
        let granted = accounts.filter(|(_, account)| account.standing == Standing::Granted);
        let holder = |(server, account): (&ServerId, &'a Account)| Holder {
            demand: match &account.demand {
                Answer::Given(demand) => demand.as_ref(),
                Answer::Awaited => None,
            },
            resident: account.pid.and_then(|pid| reading.resident.get(&pid)).copied().unwrap_or(0),
            stage: round.stages.get(server).copied().unwrap_or(Stage::Rising),
        };
        granted.map(holder).collect()
    }
}

impl Round<'_> {
    /// What those who wait are waiting for.
    fn awaited(&self) -> String {
        let ending = self.stages.iter().filter(|(_, stage)| stage.is_ending());
        let names: Vec<&str> = ending.map(|(server, _)| server.as_str()).collect();
        match names.as_slice() {
            [] => "others wait for memory already".to_owned(),
            [one] => format!("waits for the end of {one}"),
            many => format!("waits for the end of {}", many.join(", ")),
        }
    }
}

fn released(server: &ServerId) -> Action {
    Action::Announce { server: server.clone(), event: Event::LaunchReleased }
}
