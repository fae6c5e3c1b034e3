//! Confirming a proof: does our child listen, and does the right model answer?

use std::time::Duration;

use llama_warden_events::{Event, FailureReason, ListenerOwner, ReadyVia, StreamName, Uptime, Warning};

use super::{ReadinessAction, Startup, StartupPhase, later};
use crate::failure::ReadinessFailure;
use crate::identity::Identity;

/// Longest wait for those who find out; what is not known by then counts as unknowable.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

/// What speaks for readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// Our own probe was answered with 200.
    Probe,
    /// The ready line on this stream, where it is proof enough.
    ReadyHint(StreamName),
    /// Nothing but the policy at the cap.
    Cap,
}

/// Something that is being found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CheckState<T> {
    NotNeeded,
    Pending,
    Done(T),
}

#[derive(Debug)]
pub(super) struct Confirmation {
    pub(super) proof: Proof,
    since: Uptime,
    listener: CheckState<ListenerOwner>,
    identity: CheckState<Identity>,
}

impl Confirmation {
    pub(super) const fn deadline(&self) -> Uptime {
        later(self.since, CONFIRM_TIMEOUT)
    }

    pub(super) fn expire(&mut self) {
        if self.listener == CheckState::Pending {
            let detail = format!("nobody said within {CONFIRM_TIMEOUT:?} who listens");
            self.listener = CheckState::Done(ListenerOwner::Unreadable { detail });
        }
        if self.identity == CheckState::Pending {
            let because = format!("no answer within {CONFIRM_TIMEOUT:?}");
            self.identity = CheckState::Done(Identity::Unknown { because });
        }
    }
}

impl Startup {
    pub(super) fn confirm(&mut self, proof: Proof, now: Uptime, actions: &mut Vec<ReadinessAction>) {
        self.round += 1;
        let speaks_http = match proof {
            Proof::Probe => true,
            Proof::ReadyHint(_) => self.no_health_path,
            Proof::Cap => false,
        };
        let identity = if speaks_http { CheckState::Pending } else { CheckState::NotNeeded };
        self.phase =
            StartupPhase::Confirming(Confirmation { proof, since: now, listener: CheckState::Pending, identity });
        actions.push(ReadinessAction::IdentifyListener);
        if speaks_http {
            actions.push(ReadinessAction::CheckIdentity { round: self.round });
        }
    }

    pub(super) fn on_listener(&mut self, owner: ListenerOwner, now: Uptime, actions: &mut Vec<ReadinessAction>) {
        if let StartupPhase::Confirming(confirmation) = &mut self.phase {
            confirmation.listener = CheckState::Done(owner);
            self.decide(now, actions);
        }
    }

    pub(super) fn on_identity(
        &mut self,
        round: u32,
        identity: Identity,
        now: Uptime,
        actions: &mut Vec<ReadinessAction>,
    ) {
        if let StartupPhase::Confirming(confirmation) = &mut self.phase
            && round == self.round
        {
            confirmation.identity = CheckState::Done(identity);
            self.decide(now, actions);
        }
    }

    /// Decides as soon as enough is known. A foreign listener goes before a foreign model: it explains it.
    pub(super) fn decide(&mut self, now: Uptime, actions: &mut Vec<ReadinessAction>) {
        let StartupPhase::Confirming(confirmation) = &self.phase else { return };
        let proof = confirmation.proof;
        match (&confirmation.listener, &confirmation.identity) {
            (CheckState::Done(ListenerOwner::Foreign { pid, program }), _) => {
                let what = format!("{} listens on the port, not this server", describe(*pid, program.as_deref()));
                self.fail(ReadinessFailure::new(FailureReason::PortInUse, what), actions);
            }
            (CheckState::Done(ListenerOwner::Nobody), _) if proof == Proof::Cap => {
                self.fail_at_cap(", nobody listens on its port", actions);
            }
            // It said that it listens before it did, or what answered is gone: check_now again.
            (CheckState::Done(ListenerOwner::Nobody), _) | (_, CheckState::Done(Identity::NotReady)) => {
                self.phase = StartupPhase::Watching;
                self.next_probe = later(now, self.interval(now));
            }
            (CheckState::Pending | CheckState::NotNeeded, _) | (_, CheckState::Pending) => {}
            (CheckState::Done(_), CheckState::Done(Identity::Different { found })) => {
                let what = format!("{found} answers, not the model that was asked for");
                self.fail(ReadinessFailure::new(FailureReason::IdentityMismatch, what), actions);
            }
            (CheckState::Done(owner), identity) => {
                let warnings = warnings(proof, owner, identity);
                let via = self.via(proof);
                self.become_ready(via, now, actions);
                actions.extend(warnings.into_iter().map(ReadinessAction::Publish));
            }
        }
    }

    fn via(&self, proof: Proof) -> ReadyVia {
        let line = match proof {
            Proof::Cap => return ReadyVia::Timeout,
            Proof::ReadyHint(stream) => Some(stream),
            Proof::Probe => self.ready_hint.or(self.nearly_ready_hint),
        };
        match line {
            Some(StreamName::Stderr) => ReadyVia::Stderr,
            Some(StreamName::Stdout) => ReadyVia::Stdout,
            None => ReadyVia::Health,
        }
    }
}

fn warnings(proof: Proof, owner: &ListenerOwner, identity: &CheckState<Identity>) -> Vec<Event> {
    let mut warnings = Vec::new();
    if proof == Proof::Cap {
        let detail = "its time is over, it lives and listens, and it never said that it is not ready".to_owned();
        warnings.push(Event::ServerWarned { warning: Warning::ReadyAssumed, detail });
    }
    if let ListenerOwner::Unreadable { detail } = owner {
        warnings.push(Event::ServerWarned { warning: Warning::ListenerUnverified, detail: detail.clone() });
    }
    if let CheckState::Done(Identity::Unknown { because }) = identity {
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
