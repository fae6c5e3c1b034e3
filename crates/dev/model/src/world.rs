//! The world outside the daemon: processes, ports, files and memory.

use std::collections::BTreeMap;

use llama_warden_events::{Incarnation, ListenerOwner, ProcessEnd, ServerId, Signal};
use llama_warden_probe::ProbeAnswer;
use llama_warden_readiness::{HintStrength, Identity, OutputSummary, ReadinessHint, ReadinessInput};

use crate::BrokenPromise;

/// How a process behaves towards whoever asks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It does not listen yet.
    Closed,
    /// It listens and answers 503.
    Loading,
    /// It answers 200.
    Serving,
    /// It takes connections and computes.
    Busy,
    /// It takes connections, and neither answers nor computes.
    Wedged,
}

/// A process of a server.
#[derive(Debug)]
pub struct SimulatedProcess {
    /// The launch that it belongs to.
    pub incarnation: Incarnation,
    /// How it answers.
    pub manner: Manner,
    /// How it ended; a zombie until it is reaped.
    pub end: Option<ProcessEnd>,
    /// How it is about to end.
    pub ending: Option<ProcessEnd>,
    /// Whether it answered 200 to a probe of readiness.
    pub has_answered: bool,
    /// Whether it has ended, and the latest question of readiness found nobody on its port.
    pub is_found_dead: bool,
    /// It ignores TERM and INT.
    pub ignores_signals: bool,
    /// The kernel does not let it die.
    pub is_stuck: bool,
    /// It serves another model than it was asked to.
    pub serves_other_model: bool,
    /// What it wrote since that was read.
    pub output: OutputSummary,
    signals: Vec<Signal>,
}

/// Everything outside the daemon.
#[derive(Debug, Default)]
pub struct World {
    /// The process of each server.
    pub processes: BTreeMap<ServerId, SimulatedProcess>,
    /// Servers on whose port a stranger listens.
    pub strangers: BTreeMap<ServerId, ()>,
    /// Units of free memory.
    pub free_memory: u64,
}

impl World {
    /// Makes the process of a launch.
    ///
    /// # Errors
    /// If the server has one already.
    pub fn spawn(&mut self, server: &ServerId, incarnation: Incarnation) -> Result<u32, BrokenPromise> {
        let process = SimulatedProcess {
            incarnation,
            manner: Manner::Closed,
            end: None,
            ending: None,
            has_answered: false,
            is_found_dead: false,
            ignores_signals: false,
            is_stuck: false,
            serves_other_model: false,
            output: OutputSummary::default(),
            signals: Vec::new(),
        };
        match self.processes.insert(server.clone(), process) {
            Some(other) => Err(BrokenPromise::TwoLaunches(server.clone(), other.incarnation, incarnation)),
            None => Ok(incarnation.get() as u32),
        }
    }

    /// The process of a launch that has not ended.
    pub fn alive(&mut self, server: &ServerId) -> Option<&mut SimulatedProcess> {
        self.processes.get_mut(server).filter(|process| process.end.is_none())
    }

    /// The answer to a probe of a server's port.
    pub fn probe(&mut self, server: &ServerId) -> ProbeAnswer {
        let is_taken = self.strangers.contains_key(server);
        let Some(process) = self.alive(server).filter(|process| process.manner != Manner::Closed) else {
            return if is_taken { ProbeAnswer::Ok } else { ProbeAnswer::Refused };
        };
        match process.manner {
            Manner::Closed => ProbeAnswer::Refused,
            Manner::Loading => ProbeAnswer::NotReady,
            Manner::Serving => ProbeAnswer::Ok,
            Manner::Busy | Manner::Wedged => ProbeAnswer::NoAnswer,
        }
    }

    /// Readiness hears what became of a question about a launch.
    pub fn note_heard(&mut self, server: &ServerId, incarnation: Incarnation, input: &ReadinessInput) {
        let is_taken = self.strangers.contains_key(server);
        let process = self.processes.get_mut(server).filter(|process| process.incarnation == incarnation);
        let Some(process) = process else { return };
        process.is_found_dead = process.end.is_some() && !is_taken;
        process.has_answered |= process.end.is_none() && *input == ReadinessInput::Answered(ProbeAnswer::Ok);
    }

    /// The model that answers on a server's port.
    pub fn identify(&mut self, server: &ServerId) -> Identity {
        let is_taken = self.strangers.contains_key(server);
        let Some(process) = self.alive(server).filter(|process| process.manner != Manner::Closed) else {
            return if is_taken { Identity::Different { found: "a stranger".to_owned() } } else { Identity::NotReady };
        };
        match process.manner {
            Manner::Loading => Identity::NotReady,
            Manner::Serving if process.serves_other_model => Identity::Different { found: "other".to_owned() },
            Manner::Serving => Identity::Same,
            _ => Identity::Unknown { because: "no answer".to_owned() },
        }
    }

    /// Whose process listens on a server's port.
    pub fn listener(&mut self, server: &ServerId) -> ListenerOwner {
        let is_taken = self.strangers.contains_key(server);
        match self.alive(server) {
            Some(process) if process.manner != Manner::Closed => ListenerOwner::Own,
            _ if is_taken => ListenerOwner::Foreign { pid: None, program: None },
            _ => ListenerOwner::Nobody,
        }
    }
}

impl SimulatedProcess {
    /// Receives a signal.
    ///
    /// # Errors
    /// If it got that signal before.
    pub fn receive(&mut self, server: &ServerId, signal: Signal) -> Result<(), BrokenPromise> {
        if self.signals.contains(&signal) {
            return Err(BrokenPromise::SecondSignal(server.clone(), self.incarnation, signal));
        }
        self.signals.push(signal);
        if signal == Signal::KILL || !self.ignores_signals {
            let end = match signal {
                Signal::KILL => ProcessEnd::Signaled { signal, core_dumped: false },
                _ => ProcessEnd::Exited { code: 0 },
            };
            self.ending = Some(end);
        }
        Ok(())
    }

    /// Ends, if it is about to and can.
    pub fn end_if_due(&mut self) {
        if !self.is_stuck && self.end.is_none() {
            self.end = self.ending;
        }
    }

    /// Writes a line that looks like readiness.
    pub fn hint(&mut self, strength: HintStrength) {
        let stream = llama_warden_events::StreamName::Stderr;
        self.output.hints.push(ReadinessHint { stream, strength, line: "server is listening".to_owned() });
    }
}
