//! Why a server takes no request: what its clients are told.

use llama_warden_events::{RefusalReason, Refused, ServerId};
use llama_warden_state::Phase;
use llama_warden_targets::{Named, RequestClass};

use crate::faults::{Fault, RouteFaultCode};
use crate::shared::Shared;

/// Why a request does not wait for a server that is not ready; `None` where it does.
pub(crate) fn not_waited_for(shared: &Shared, named: &Named, class: RequestClass) -> Option<Fault> {
    let snapshot = shared.bus.snapshot();
    let id = &named.spec.id;
    let record = snapshot.servers.get(id)?;
    match record.phase {
        Phase::Ready { .. } | Phase::Unready { .. } => return None,
        Phase::Launching | Phase::Starting | Phase::Loading { .. } if class != RequestClass::Inspection => return None,
        // One that is stopped and started again is waited for.
        Phase::Stopping { .. } if class != RequestClass::Inspection && shared.settings.on_demand => return None,
        _ => {}
    }
    if record.stopped_on_request {
        return Some(stopped(id));
    }
    if class == RequestClass::Inspection || !shared.settings.on_demand {
        let message = match &record.last_failure {
            Some(failure) => format!("`{id}` is not ready; it failed: {}", failure.reason),
            None if shared.settings.on_demand => {
                format!("`{id}` is not ready, and this request does not start it; POST /models/load does")
            }
            None => format!("`{id}` is not ready, and requests start nothing; `llama-warden start {id}` does"),
        };
        let fault = Fault::new(RouteFaultCode::ServerFailed, message);
        // What is on its way without this request is worth another try.
        let comes = match record.phase {
            Phase::Launching | Phase::Starting | Phase::Loading { .. } | Phase::BackingOff { .. } => true,
            _ => shared.standing(id).waiting > 0,
        };
        return Some(if comes { fault.retry_when(shared.expected_wait(id), 10) } else { fault });
    }
    None
}

/// The supervisor refuses to start or stop the server.
pub(crate) fn refusal(server: &ServerId, refused: &Refused) -> Fault {
    match refused.reason {
        RefusalReason::StoppedByHand => stopped(server),
        RefusalReason::ShuttingDown | RefusalReason::OwnerGone => {
            Fault::new(RouteFaultCode::ShuttingDown, "the daemon shuts down").retry_after(5)
        }
        RefusalReason::NoMemory => {
            let message = format!("`{server}` cannot be started: {}", refused.detail);
            Fault::new(RouteFaultCode::NoMemory, message)
        }
        _ => failed(server, &refused.detail),
    }
}

/// A person had the server stopped.
pub(crate) fn stopped(id: &ServerId) -> Fault {
    let message = format!("`{id}` was stopped by hand; `llama-warden start {id}` starts it");
    Fault::new(RouteFaultCode::ServerStopped, message)
}

/// The server failed, and is not tried again by itself.
pub(crate) fn failed(server: &ServerId, because: &str) -> Fault {
    let message = format!("`{server}` cannot be started: {because}; `llama-warden start {server}` tries it again");
    Fault::new(RouteFaultCode::ServerFailed, message)
}
