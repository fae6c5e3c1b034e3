//! Why a server takes no request: what its clients are told.

use std::sync::Arc;
use std::time::Duration;

use llama_warden_events::{FailureReason, Incarnation, RefusalReason, Refused, ServerId, StopReason};
use llama_warden_state::{Phase, ServerRecord};
use llama_warden_targets::RequestClass;

use crate::faults::{Fault, RouteFaultCode};
use crate::shared::Shared;

/// Why a request does not wait for a server that is not ready; `None` where it does.
pub(crate) fn not_waited_for(
    shared: &Shared,
    id: &ServerId,
    record: &ServerRecord,
    class: RequestClass,
) -> Option<Fault> {
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
        let not_ready = |message| Fault::new(RouteFaultCode::ServerNotReady, message);
        let fault = match &record.last_failure {
            Some(failure) => {
                let message = format!("`{id}` is not ready; it failed: {}", failure.reason);
                Fault::new(RouteFaultCode::ServerFailed, message)
            }
            None if shared.settings.on_demand => {
                not_ready(format!("`{id}` is not ready, and this request does not start it; POST /models/load does"))
            }
            None => {
                not_ready(format!("`{id}` is not ready, and requests start nothing; `llama-warden start {id}` does"))
            }
        };
        // What is on its way without this request is worth another try.
        let comes = match record.phase {
            Phase::Launching | Phase::Starting | Phase::Loading { .. } | Phase::BackingOff { .. } => true,
            _ => shared.standing(id).waiting > 0,
        };
        return Some(if comes { fault.retry_when(shared.expected_wait(id), 10) } else { fault });
    }
    None
}

/// Why a request that waits for so long at most gives up a server that waits for its restart: that comes too late, or something is missing
/// that nobody may ever bring. `None` where it is waited for.
pub(crate) fn not_ready_before(shared: &Shared, id: &ServerId, record: &ServerRecord, left: Duration) -> Option<Fault> {
    let (Phase::BackingOff { until, .. }, Some(failure)) = (record.phase, &record.last_failure) else { return None };
    let wait = until.since(shared.now());
    // Requests make room for a server themselves.
    let lacks_memory = failure.reason == FailureReason::Refused;
    let is_missing = failure.reason.awaited().is_some();
    if lacks_memory || !is_missing && wait <= left {
        return None;
    }
    let then = if is_missing { "it is looked for" } else { "it is started" };
    let message =
        format!("`{id}` failed: {}: {}; {then} again in {:.1} s", failure.reason, failure.detail, wait.as_secs_f64());
    Some(Fault::new(RouteFaultCode::ServerFailed, message).retry_when(Some(wait), 1))
}

/// Answers the requests for which the next launch of a server comes too late.
pub(crate) fn refuse_before_restart(shared: &Arc<Shared>, id: &ServerId) {
    let snapshot = shared.bus.snapshot();
    let Some(record) = snapshot.servers.get(id) else { return };
    shared.refuse_some(id, |left| not_ready_before(shared, id, record, left));
}

/// Why a launch that was stopped on purpose was lost amid its work; `None` where it was not.
pub(crate) fn stopped_amid(shared: &Shared, id: &ServerId, incarnation: Incarnation, when: &str) -> Option<Fault> {
    let snapshot = shared.bus.snapshot();
    let record = snapshot.servers.get(id).filter(|record| record.incarnation == incarnation)?;
    let because = match record.stop.as_ref()?.reason {
        StopReason::Failed => return None,
        StopReason::Shutdown => return Some(shutting_down()),
        StopReason::Restart => "is restarted",
        StopReason::Reconfigured => "is stopped for a change of its configuration",
        _ => "is stopped",
    };
    Some(Fault::new(RouteFaultCode::ServerStopped, format!("`{id}` {because}, and was lost {when}")))
}

/// The daemon ends.
pub(crate) fn shutting_down() -> Fault {
    Fault::new(RouteFaultCode::ShuttingDown, "the daemon shuts down").retry_after(5)
}

/// The supervisor refuses to start or stop the server.
pub(crate) fn refusal(server: &ServerId, refused: &Refused) -> Fault {
    match refused.reason {
        RefusalReason::StoppedByHand => stopped(server),
        RefusalReason::ShuttingDown | RefusalReason::OwnerGone => shutting_down(),
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
