//! The component that turns events into log lines, spans, metrics and log records.

use std::convert::Infallible;

use llama_warden_bus::Delivery;
use llama_warden_component::{Component, Context, Ports};
use llama_warden_events::NoCommand;
use llama_warden_traffic::{FinishedRequest, FinishedRequests};

use crate::otel::ExportRecorder;
use crate::{access, line};

/// Turns each event into one log line, and hands it to the recorder of what is exported.
#[derive(Debug)]
pub struct Telemetry {
    exports: Option<ExportRecorder>,
    /// The finished requests of the router.
    requests: Option<FinishedRequests>,
    /// Whether each of them is a line of the log.
    logs_requests: bool,
}

impl Telemetry {
    /// Logs every event, and with `router.access-log` every finished request of the router; records both for `exports`, where there
    /// is a collector.
    pub fn build(context: &Context, exports: Option<ExportRecorder>, requests: Option<FinishedRequests>) -> Self {
        Self { exports, requests, logs_requests: context.config().router().access_log }
    }

    fn on_request(&mut self, request: &FinishedRequest) {
        if let Some(exports) = &self.exports {
            exports.record_request(request);
        }
        let Some(requests) = &mut self.requests else { return };
        if self.logs_requests {
            access::log_request(request);
        }
        let lost = requests.newly_lost();
        if lost > 0 {
            tracing::warn!(lost, "requests ended too fast; some are in no line of the log and no span");
        }
    }

    fn on_delivery(&mut self, delivery: &Delivery) {
        match delivery {
            Delivery::Event(envelope) => {
                line::log_event(envelope);
                if let Some(exports) = &mut self.exports {
                    exports.record(envelope);
                }
            }
            Delivery::Gap { missed, snapshot } => {
                tracing::warn!(missed, seq = snapshot.seq.get(), "events came too fast; some are not in the log");
                if let Some(exports) = &mut self.exports {
                    exports.abandon();
                }
            }
        }
    }
}

impl Component for Telemetry {
    const NAME: &'static str = "telemetry";

    type Command = NoCommand;
    type Error = Infallible;

    async fn run(mut self, ports: Ports<NoCommand>) -> Result<(), Infallible> {
        let (mut subscription, _) = ports.inbox.split();
        loop {
            tokio::select! {
                // Events before requests: a request has a link to the launch that it waited for.
                biased;
                () = ports.cancel.cancelled() => break,
                delivery = subscription.next() => match delivery {
                    Some(delivery) => self.on_delivery(&delivery),
                    None => return Ok(()),
                },
                request = next_request(&mut self.requests) => self.on_request(&request),
            }
        }
        // Log the events that were queued when the daemon cancelled: they say how it ended.
        while let Some(delivery) = subscription.try_next() {
            self.on_delivery(&delivery);
        }
        while let Some(request) = self.requests.as_mut().and_then(FinishedRequests::try_next) {
            self.on_request(&request);
        }
        Ok(())
    }
}

/// The next request; never where there will be none.
async fn next_request(requests: &mut Option<FinishedRequests>) -> FinishedRequest {
    let next = match requests {
        Some(requests) => requests.next().await,
        None => None,
    };
    match next {
        Some(request) => request,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use llama_warden_bus::EventDraft;
    use llama_warden_component_kit::TestBus;
    use llama_warden_events::Event;
    use tracing::Level;

    use super::*;
    use llama_warden_component_kit::RecordedLog;

    fn stopping(trigger: &str) -> EventDraft {
        EventDraft::daemon(Event::DaemonStopping { trigger: trigger.to_owned() })
    }

    #[tokio::test]
    async fn events_up_to_the_very_end_are_logged() {
        let recorded = RecordedLog::default();
        let _subscriber = tracing::subscriber::set_default(recorded.subscriber());
        let mut bus = TestBus::new();
        let component = bus.run(Telemetry::build(&bus.context(""), None, None));
        bus.publish(stopping("first")).await;
        bus.publish(stopping("last")).await;
        component.end().await;
        let text = format!("{:?}", recorded.take());
        let places = ["first", "last"].map(|trigger| text.find(trigger));
        assert!(places[0].is_some() && places[0] < places[1], "{text}");
    }

    #[tokio::test]
    async fn events_that_were_missed_are_a_warning() {
        let recorded = RecordedLog::default();
        let _subscriber = tracing::subscriber::set_default(recorded.subscriber());
        let mut bus = TestBus::keeping(1);
        let ports = bus.ports(Telemetry::NAME);
        for _ in 0..3 {
            bus.publish(stopping("many")).await;
        }
        ports.cancel.cancel();
        Telemetry::build(&bus.context(""), None, None).run(ports).await.expect("cannot fail");
        let events = recorded.take();
        let warned = events.iter().any(|(level, fields)| *level == Level::WARN && fields.contains("missed=3"));
        assert!(warned, "{events:?}");
    }

    #[tokio::test]
    async fn without_a_recorder_no_thread_of_the_exporter_exists() {
        let mut bus = TestBus::new();
        let component = bus.run(Telemetry::build(&bus.context(""), None, None));
        bus.publish(stopping("now")).await;
        let threads = std::fs::read_dir("/proc/self/task").expect("readable");
        let names = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("comm")).ok());
        assert_eq!(names.filter(|name| name.starts_with("OpenTelemetry")).count(), 0);
        component.end().await;
    }
}
