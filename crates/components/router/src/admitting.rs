//! The turn of a request at the gate of its server.

use llama_warden_events::Incarnation;
use llama_warden_gates::{Arrival, QueueClient};
use llama_warden_targets::{Named, RequestClass};
use tokio::time::Instant;

use crate::faults::{Fault, RouteFaultCode};
use crate::refusals::{not_ready_before, not_waited_for};
use crate::request::{Asked, RouterService};
use crate::shared::{Admitted, GateEntry, NotAdmitted};

/// A request at the gate.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Turn {
    First,
    /// It was lost with this launch.
    AfterLoss(Incarnation),
    /// The launch was not ready after all, or ended before it took the request.
    Again,
}

impl RouterService {
    /// Waits for its turn.
    pub(crate) async fn admit(
        &self,
        asked: &Asked,
        named: &Named,
        class: RequestClass,
        turn: Turn,
    ) -> Result<Admitted, Fault> {
        let (spec, settings) = (&named.spec, &self.shared.settings);
        let router = &spec.router;
        let arrival = Arrival {
            works: class == RequestClass::Inference,
            // One that was admitted before has its place already.
            queue: if let Turn::First = turn { router.queue } else { u32::MAX },
            lost_with: if let Turn::AfterLoss(incarnation) = turn { Some(incarnation) } else { None },
            ..arrival(named, asked.client)
        };
        let longest = settings.queue_timeout;
        let left = longest.saturating_sub(asked.wait.total());
        if let Some(record) = self.shared.bus.snapshot().servers.get(&spec.id) {
            let refused = not_waited_for(&self.shared, &spec.id, record, class);
            // The restart after a crash is waited for, whether or not requests start servers.
            let is_first = matches!(turn, Turn::First);
            if let Some(fault) = refused.filter(|fault| is_first || fault.code == RouteFaultCode::ServerStopped) {
                return Err(fault);
            }
            if let Some(fault) = not_ready_before(&self.shared, &spec.id, record, left) {
                return Err(fault);
            }
        }
        let admitted = match self.shared.enter(&spec.id, arrival, left) {
            Ok(GateEntry::Now(admitted)) => Ok(admitted),
            Ok(GateEntry::Later(turn)) => {
                let begun = Instant::now();
                let waits = asked.wait.begin();
                let admitted = Box::pin(self.shared.wait(&spec.id, turn)).await;
                drop(waits);
                asked.tracked.waited(begun.elapsed());
                admitted
            }
            Err(refused) => Err(refused),
        };
        if let Ok(Admitted { upstream, waited_for, .. }) = &admitted {
            asked.tracked.admitted(upstream.incarnation, *waited_for);
        }
        admitted.map_err(|refused| match refused {
            NotAdmitted::Refused(fault) => fault,
            NotAdmitted::QueueFull => {
                let message =
                    format!("{} requests wait for `{}` already (`queue` of the router)", router.queue, spec.id);
                Fault::new(RouteFaultCode::QueueFull, message).retry_when(self.shared.expected_wait(&spec.id), 5)
            }
            NotAdmitted::TimedOut => {
                let message = format!("`{}` took no request within {longest:?} (`router.queue-timeout`)", spec.id);
                Fault::new(RouteFaultCode::QueueTimeout, message).retry_when(self.shared.expected_wait(&spec.id), 10)
            }
        })
    }
}

/// A client at the gate of a server for the first time, with nothing that works there.
pub(crate) fn arrival(named: &Named, client: QueueClient) -> Arrival {
    let router = &named.spec.router;
    Arrival {
        works: false,
        concurrency: router.concurrency,
        queue: router.queue,
        priority: router.priority,
        ttl: router.ttl,
        client,
        lost_with: None,
    }
}
