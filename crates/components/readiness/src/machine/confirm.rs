//! Confirms a proof of readiness: does our own process listen on the port, and does the right model answer?
//!
//! Both checks run at once, and the first decisive result decides. A result that does not come within [`CONFIRM_TIMEOUT`]
//! counts as unknowable: the server is ready, with a warning.

use std::time::Duration;

use llama_warden_config::ListenerPolicy;
use llama_warden_events::{FailureReason, ListenerOwner, ReadyVia, StreamName, Uptime, Warning};
use llama_warden_probe::ProbeAnswer;

use super::{ReadinessAction, Startup, StartupPhase};
use crate::failure::ReadinessFailure;
use crate::identity::Identity;

/// Longest wait for both checks.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

/// The proof of readiness that is being confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// Our own probe was answered with 200.
    Probe,
    /// The ready line on this stream, for a launch whose line is a proof.
    ReadyLine(StreamName),
    /// Nothing but `readiness.on-timeout = "assume-ready"`.
    Cap,
}

/// The state of one of the two checks.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Check<T> {
    NotNeeded,
    Pending,
    Done(T),
}

#[derive(Debug)]
pub(super) struct Confirmation {
    pub(super) proof: Proof,
    since: Uptime,
    listener: Check<ListenerOwner>,
    identity: Check<Identity>,
}

impl Confirmation {
    pub(super) fn deadline(&self) -> Uptime {
        self.since + CONFIRM_TIMEOUT
    }

    /// Gives the pending checks their whole time again.
    pub(super) fn restart(&mut self, now: Uptime) {
        self.since = now;
    }

    /// Ends the pending checks as unknowable.
    pub(super) fn expire(&mut self) {
        if self.listener == Check::Pending {
            let detail = format!("nobody said within {CONFIRM_TIMEOUT:?} who listens");
            self.listener = Check::Done(ListenerOwner::Unreadable { detail });
        }
        if self.identity == Check::Pending {
            let because = format!("no answer within {CONFIRM_TIMEOUT:?}");
            self.identity = Check::Done(Identity::Unknown { because });
        }
    }
}

impl Startup {
    pub(super) fn confirm(&mut self, proof: Proof, now: Uptime) {
        self.round += 1;
        // A server that answers no probe would not name its model either, but delay the verdict by the timeout.
        let speaks_http = match proof {
            Proof::Probe => true,
            Proof::ReadyLine(_) => self.no_health_path,
            Proof::Cap => false,
        };
        // Where any process may listen, even a port that the kernel forwards is fine, as long as somebody answers on it.
        let mut listener = Check::Done(ListenerOwner::Own);
        if self.policy.listener == ListenerPolicy::Own || proof == Proof::Cap {
            listener = Check::Pending;
            self.actions.push(ReadinessAction::IdentifyListener);
        }
        let mut identity = Check::NotNeeded;
        if speaks_http {
            identity = Check::Pending;
            self.actions.push(ReadinessAction::CheckIdentity { round: self.round });
        }
        self.phase = StartupPhase::Confirming(Confirmation { proof, since: now, listener, identity });
        self.decide(now);
    }

    pub(super) fn on_listener(&mut self, owner: ListenerOwner, now: Uptime) {
        if let StartupPhase::Confirming(confirmation) = &mut self.phase {
            confirmation.listener = Check::Done(owner);
            self.decide(now);
        }
    }

    pub(super) fn on_identity(&mut self, round: u32, identity: Identity, now: Uptime) {
        if let StartupPhase::Confirming(confirmation) = &mut self.phase
            // What answers an earlier round proves nothing for this one; that the server is not ready, it tells at any time.
            && (round == self.round || identity == Identity::NotReady)
        {
            confirmation.identity = Check::Done(identity);
            self.decide(now);
        }
    }

    /// Decides as soon as enough is known. The order of the arms matters: a foreign listener explains a foreign model, so
    /// that it is the reason even if the model is known first.
    pub(super) fn decide(&mut self, now: Uptime) {
        let StartupPhase::Confirming(confirmation) = &self.phase else { return };
        let proof = confirmation.proof;
        match (&confirmation.listener, &confirmation.identity) {
            (Check::Done(ListenerOwner::Foreign { pid, program }), _)
                if self.policy.listener == ListenerPolicy::Own =>
            {
                let what = format!("{} listens on the port, not this server", describe(*pid, program.as_deref()));
                let advice = "stop it or configure another port; if this server runs it outside its own processes, as `docker run` \
                              does, set `readiness.listener = \"any\"`";
                self.fail(ReadinessFailure { reason: FailureReason::PortInUse, detail: format!("{what}: {advice}") });
            }
            (Check::Done(ListenerOwner::Elsewhere { address }), _) if proof == Proof::Cap => {
                let why =
                    format!(" on its port; it listens on {address}, since something else than llama-warden sets that");
                self.fail_at_cap(&why);
            }
            (Check::Done(ListenerOwner::Nobody), _) if proof == Proof::Cap => {
                self.on_cap_without_listener(", nobody listens on its port", now);
            }
            // It refused the last connection, and nobody can say that it listens since.
            (Check::Done(ListenerOwner::Unreadable { .. }), _)
                if proof == Proof::Cap && self.last_answer == Some(ProbeAnswer::Refused) =>
            {
                self.on_cap_without_listener("", now);
            }
            // It began to listen, or nobody can say, in the moment in which its time was over.
            (Check::Done(ListenerOwner::Own | ListenerOwner::Unreadable { .. }), _)
                if proof == Proof::Cap && !self.may_assume_ready() =>
            {
                self.on_cap_without_listener("", now);
            }
            // The server wrote its ready line before it listens, or it answered and does no more: watch on.
            (Check::Done(ListenerOwner::Nobody | ListenerOwner::Elsewhere { .. }), _)
            | (_, Check::Done(Identity::NotReady)) => {
                self.watch(now);
            }
            (Check::Pending | Check::NotNeeded, _) | (_, Check::Pending) => {}
            (Check::Done(_), Check::Done(Identity::Different { found })) => {
                let what = format!("{found} answers, not the model that was asked for");
                self.fail(ReadinessFailure::new(FailureReason::IdentityMismatch, what));
            }
            (Check::Done(owner), identity) => {
                let (owner, identity) = (owner.clone(), identity.clone());
                self.become_ready(self.via(proof), now);
                self.warn_of_unverified(proof, owner, identity);
            }
        }
    }

    /// Publishes what could not be verified.
    fn warn_of_unverified(&mut self, proof: Proof, owner: ListenerOwner, identity: Check<Identity>) {
        if proof == Proof::Cap {
            let detail = "its time is over, it lives and listens, and it never said that it is not ready";
            self.warn(Warning::ReadyAssumed, detail);
        }
        if let ListenerOwner::Unreadable { detail } = owner {
            self.warn(Warning::ListenerUnverified, detail);
        }
        if let Check::Done(Identity::Unknown { because }) = identity {
            self.warn(Warning::ModelUnverified, because);
        }
    }

    /// How readiness was found, for people: a hint on a stream counts as the finder even if a probe is the proof.
    fn via(&self, proof: Proof) -> ReadyVia {
        let stream = match proof {
            Proof::Cap => return ReadyVia::Timeout,
            Proof::ReadyLine(stream) => Some(stream),
            Proof::Probe => self.ready_hint.or(self.nearly_ready_hint),
        };
        match stream {
            Some(StreamName::Stderr) => ReadyVia::Stderr,
            Some(StreamName::Stdout) => ReadyVia::Stdout,
            None => ReadyVia::Health,
        }
    }
}

fn describe(pid: Option<u32>, program: Option<&str>) -> String {
    match (program, pid) {
        (Some(program), Some(pid)) => format!("`{program}` (pid {pid})"),
        (Some(program), None) => format!("`{program}`"),
        (None, Some(pid)) => format!("the process with pid {pid}"),
        (None, None) => "another process".to_owned(),
    }
}
