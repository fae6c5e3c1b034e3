//! The families about the requests through the router. Where it is off, there are none.
//!
//! A server has series from its first request on, and loses them when it leaves the configuration.

use std::sync::Arc;

use llama_warden_events::ServerId;
use llama_warden_state::Snapshot;
use llama_warden_traffic::{
    ConnectionSide, EvictedFor, RetryCause, RouterTraffic, ServerTraffic, TokenKind, TrafficRoute, WaitedFor,
};

use crate::Family;
use crate::catalogue::{
    ROUTER_BODY_BYTES, ROUTER_CONNECTIONS, ROUTER_DETACHED, ROUTER_EVICTIONS, ROUTER_FIRST_TOKEN_SECONDS,
    ROUTER_IN_FLIGHT, ROUTER_OVERHEAD_SECONDS, ROUTER_REJECTIONS, ROUTER_REQUEST_SECONDS, ROUTER_REQUESTS,
    ROUTER_RETRIES, ROUTER_TOKENS, ROUTER_WAIT_SECONDS, ROUTER_WAITING,
};
use crate::text::{Page, SeriesWriter};

/// Adds what the router counts.
pub(crate) fn add(page: &mut Page, traffic: &RouterTraffic, snapshot: &Snapshot) {
    let mut servers = traffic.servers();
    servers.retain(|(id, _)| id.as_ref().is_none_or(|id| snapshot.servers.contains_key(id)));
    let mut families = RouterFamilies { page, servers: &servers };
    families.all(&ROUTER_REQUESTS, |writer, id, server| {
        for (route, outcome, count) in server.requests() {
            writer.value(&[id, route.as_str(), outcome.as_str()], count as f64);
        }
    });
    for (family, gauge) in [&ROUTER_IN_FLIGHT, &ROUTER_WAITING, &ROUTER_DETACHED].into_iter().zip(0..) {
        families.named(family, |writer, id, server| writer.value(&[id], server.gauges()[gauge] as f64));
    }
    families.named(&ROUTER_WAIT_SECONDS, |writer, id, server| {
        for what in WaitedFor::ALL {
            writer.histogram(&[id, what.as_str()], &server.waits(*what).read(), None);
        }
    });
    families.all(&ROUTER_REQUEST_SECONDS, |writer, id, server| {
        for route in TrafficRoute::ALL {
            writer.histogram(&[id, route.as_str()], &server.seconds(*route).read(), None);
        }
    });
    families.named(&ROUTER_FIRST_TOKEN_SECONDS, |writer, id, server| {
        writer.histogram(&[id], &server.first_token().read(), None);
    });
    families.named(&ROUTER_TOKENS, |writer, id, server| {
        TokenKind::ALL.iter().for_each(|kind| writer.value(&[id, kind.as_str()], server.tokens(*kind) as f64));
    });
    families.named(&ROUTER_RETRIES, |writer, id, server| {
        RetryCause::ALL.iter().for_each(|cause| writer.value(&[id, cause.as_str()], server.retries(*cause) as f64));
    });
    families.named(&ROUTER_EVICTIONS, |writer, id, server| {
        let mut value = |because: &EvictedFor| writer.value(&[id, because.as_str()], server.evictions(*because) as f64);
        EvictedFor::ALL.iter().for_each(&mut value);
    });
    let mut rejections = page.family(&ROUTER_REJECTIONS);
    traffic.rejections().iter().for_each(|(code, count)| rejections.value(&[code], *count as f64));
    page.family(&ROUTER_OVERHEAD_SECONDS).histogram(&[], &traffic.overhead().read(), None);
    page.family(&ROUTER_BODY_BYTES).value(&[], traffic.body_bytes() as f64);
    let mut connections = page.family(&ROUTER_CONNECTIONS);
    for side in ConnectionSide::ALL {
        connections.value(&[side.as_str()], traffic.connections(*side) as f64);
    }
}

/// The families about servers, each written for all servers at once.
struct RouterFamilies<'a> {
    page: &'a mut Page,
    servers: &'a [(Option<ServerId>, Arc<ServerTraffic>)],
}

impl RouterFamilies<'_> {
    /// Also for what came to no server, which has the empty name.
    fn all(&mut self, family: &Family, series: impl Fn(&mut SeriesWriter<'_>, &str, &ServerTraffic)) {
        let mut writer = self.page.family(family);
        for (id, server) in self.servers {
            series(&mut writer, id.as_ref().map_or("", ServerId::as_str), server);
        }
    }

    fn named(&mut self, family: &Family, series: impl Fn(&mut SeriesWriter<'_>, &str, &ServerTraffic)) {
        self.all(family, |writer, id, server| {
            if !id.is_empty() {
                series(writer, id, server);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use http::{HeaderMap, Method};
    use llama_warden_traffic::{TrackedHead, TrackedRequest};

    use super::*;
    use crate::accept::Format;
    use crate::builder::SnapshotBuilder;
    use crate::catalogue::catalogue;

    fn page(traffic: &RouterTraffic) -> String {
        let mut builder = SnapshotBuilder::default();
        builder.configure("a");
        let mut page = Page::new(Format::Text, 0);
        add(&mut page, traffic, &builder.snapshot);
        page.finish()
    }

    fn request(traffic: &Arc<RouterTraffic>, route: TrafficRoute) -> TrackedRequest {
        let (method, headers) = (Method::POST, HeaderMap::new());
        let head = TrackedHead { id: "r", method: &method, path: "/x", headers: &headers, route, client: None };
        TrackedRequest::begin(traffic, &head)
    }

    #[test]
    fn requests_have_the_documented_names_and_labels() {
        let traffic = Arc::new(RouterTraffic::default());
        let id = SnapshotBuilder::id("a");
        let server = traffic.server(&id);
        let _in_flight = server.begin();
        let _connection = traffic.connect(ConnectionSide::Client);
        drop(server.wait(false));
        server.evict(EvictedFor::Count);
        let asked = request(&traffic, TrafficRoute::Chat);
        asked.named(&id, None);
        asked.sent();
        asked.retried(RetryCause::Crash);
        drop(asked);
        request(&traffic, TrafficRoute::Other).rejected("unauthorized", false);
        let gone = request(&traffic, TrafficRoute::Chat);
        gone.named(&SnapshotBuilder::id("gone"), None);
        drop(gone);
        let text = page(&traffic);
        for sample in [
            "requests_total{server=\"\",route=\"other\",outcome=\"rejected\"} 1",
            "requests_total{server=\"a\",route=\"chat\",outcome=\"cancelled\"} 1",
            "requests_in_flight{server=\"a\"} 1",
            "requests_waiting{server=\"a\"} 0",
            "requests_detached{server=\"a\"} 0",
            "rejections_total{code=\"unauthorized\"} 1",
            "wait_seconds_count{server=\"a\",for=\"start\"} 1",
            "request_seconds_count{server=\"a\",route=\"chat\"} 1",
            "overhead_seconds_count 1",
            "tokens_total{server=\"a\",kind=\"cached\"} 0",
            "retries_total{server=\"a\",cause=\"crash\"} 1",
            "evictions_total{server=\"a\",because=\"count\"} 1",
            "body_bytes 0",
            "connections{side=\"client\"} 1",
        ] {
            assert!(text.contains(&format!("llama_warden_router_{sample}\n")), "{sample} in {text}");
        }
        assert!(!text.contains("gone"), "{text}");
        let names: BTreeSet<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let absent = "llama_warden_router_first_token_seconds";
        let expected = catalogue().iter().map(|family| family.name);
        let expected = expected.filter(|name| name.starts_with("llama_warden_router_") && *name != absent);
        assert_eq!(names, expected.collect());
    }
}
