//! Confirming a proof: does our child listen, and does the right model answer?

use std::time::Duration;

use llama_warden_events::{Event, FailureReason, ListenerOwner, ReadyVia, StreamName, Uptime, Warning};

use super::{Action, Stage, Startup};
use crate::Identity;
use crate::failure::Failure;

/// Longest wait for those who find out; what is not known by then counts as unknowable.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

/// What speaks for readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// Our own probe was answered with 200.
    Probe,
    /// The ready line on this stream, where it is proof enough.
    Line(StreamName),
    /// Nothing but the policy at the cap.
    Cap,
}

/// Something that is being found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding<T> {
    NotAsked,
    Awaited,
    Known(T),
}

#[derive(Debug)]
pub(super) struct Confirmation {
    pub(super) proof: Proof,
    since: Uptime,
    listener: Finding<ListenerOwner>,
    identity: Finding<Identity>,
}

impl Confirmation {
    pub(super) fn deadline(&self) -> Uptime {
        self.since + CONFIRM_TIMEOUT
    }

    pub(super) fn give_up_waiting(&mut self) {
        if self.listener == Finding::Awaited {
            let detail = format!("nobody said within {CONFIRM_TIMEOUT:?} who listens");
            self.listener = Finding::Known(ListenerOwner::Unreadable { detail });
        }
        if self.identity == Finding::Awaited {
            let because = format!("no answer within {CONFIRM_TIMEOUT:?}");
            self.identity = Finding::Known(Identity::Unknown { because });
        }
    }
}

impl Startup {
    pub(super) fn confirm(&mut self, proof: Proof, now: Uptime, actions: &mut Vec<Action>) {
        self.round += 1;
        let speaks_http = match proof {
            Proof::Probe => true,
            Proof::Line(_) => self.no_health_path,
            Proof::Cap => false,
        };
        let identity = if speaks_http { Finding::Awaited } else { Finding::NotAsked };
        self.stage = Stage::Confirming(Confirmation { proof, since: now, listener: Finding::Awaited, identity });
        actions.push(Action::IdentifyListener);
        if speaks_http {
            actions.push(Action::CheckIdentity { round: self.round });
        }
    }

    pub(super) fn on_listener(&mut self, owner: ListenerOwner, now: Uptime, actions: &mut Vec<Action>) {
        if let Stage::Confirming(confirmation) = &mut self.stage {
            confirmation.listener = Finding::Known(owner);
            self.settle(now, actions);
        }
    }

    pub(super) fn on_identity(&mut self, round: u32, identity: Identity, now: Uptime, actions: &mut Vec<Action>) {
        if let Stage::Confirming(confirmation) = &mut self.stage
            && round == self.round
        {
            confirmation.identity = Finding::Known(identity);
            self.settle(now, actions);
        }
    }

    /// Decides as soon as enough is known. A foreign listener goes before a foreign model: it explains it.
    pub(super) fn settle(&mut self, now: Uptime, actions: &mut Vec<Action>) {
        let Stage::Confirming(confirmation) = &self.stage else { return };
        let proof = confirmation.proof;
        match (&confirmation.listener, &confirmation.identity) {
            (Finding::Known(ListenerOwner::Foreign { pid, program }), _) => {
                let what = format!("{} listens on the port, not this server", describe(*pid, program.as_deref()));
                self.fail(Failure::new(FailureReason::PortInUse, what), actions);
            }
            (Finding::Known(ListenerOwner::Nobody), _) if proof == Proof::Cap => {
                self.fail_at_cap(", nobody listens on its port", actions);
            }
            // It said that it listens before it did, or what answered is gone: look again.
            (Finding::Known(ListenerOwner::Nobody), _) | (_, Finding::Known(Identity::NotReady)) => {
                self.stage = Stage::Watching;
                self.next_probe = now + self.interval(now);
            }
            (Finding::Awaited | Finding::NotAsked, _) | (_, Finding::Awaited) => {}
            (Finding::Known(_), Finding::Known(Identity::Different { found })) => {
                let what = format!("{found} answers, not the model that was asked for");
                self.fail(Failure::new(FailureReason::IdentityMismatch, what), actions);
            }
            (Finding::Known(owner), identity) => {
                let warnings = warnings(proof, owner, identity);
                let via = self.via(proof);
                self.become_ready(via, now, actions);
                actions.extend(warnings.into_iter().map(Action::Publish));
            }
        }
    }

    fn via(&self, proof: Proof) -> ReadyVia {
        let line = match proof {
            Proof::Cap => return ReadyVia::Timeout,
            Proof::Line(stream) => Some(stream),
            Proof::Probe => self.ready_line.or(self.nearly_line),
        };
        match line {
            Some(StreamName::Stderr) => ReadyVia::Stderr,
            Some(StreamName::Stdout) => ReadyVia::Stdout,
            None => ReadyVia::Health,
        }
    }
}

fn warnings(proof: Proof, owner: &ListenerOwner, identity: &Finding<Identity>) -> Vec<Event> {
    let mut warnings = Vec::new();
    if proof == Proof::Cap {
        let detail = "its time is over, it lives and listens, and it never said that it is not ready".to_owned();
        warnings.push(Event::ServerWarned { warning: Warning::ReadyAssumed, detail });
    }
    if let ListenerOwner::Unreadable { detail } = owner {
        warnings.push(Event::ServerWarned { warning: Warning::ListenerUnverified, detail: detail.clone() });
    }
    if let Finding::Known(Identity::Unknown { because }) = identity {
        warnings.push(Event::ServerWarned { warning: Warning::ModelUnverified, detail: because.clone() });
    }
    warnings
}

fn describe(pid: Option<u32>, program: Option<&str>) -> String {
    match (program, pid) {
        (Some(program), Some(pid)) => format!("`{program}` (pid {pid})"),
        (Some(program), None) => format!("`{program}`"),
        (None, Some(pid)) => format!("the process with pid {pid}"),
        (None, None) => "another process".to_owned(),
    }
}
