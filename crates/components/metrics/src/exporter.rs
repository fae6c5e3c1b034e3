//! The exporter: a custom collector in a registry, the servers, and the answer to a scrape.

use std::sync::Arc;

use llama_warden_bus::{Bus, OutputLane};
use llama_warden_traffic::RouterTraffic;
use prometheus::core::{Collector, Desc};
use prometheus::{Registry, proto};

use crate::accept::Format;
use crate::collected::Collected;
use crate::own::OwnAnswers;
use crate::servers::Exemplars;
use crate::text::Page;
use crate::{catalogue, daemon, own, router, servers};

/// Room that a page takes at first: what is about the daemon, and what is about one server.
const DAEMON_BYTES: usize = 16 * 1024;
const SERVER_BYTES: usize = 3 * 1024;

/// The answer to a scrape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposition {
    /// The `Content-Type` header.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

/// Answers scrapes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Exporter {
    registry: Registry,
    bus: Bus,
    lane: OutputLane,
    exemplars: Exemplars,
    traffic: Option<Arc<RouterTraffic>>,
}

impl Exporter {
    /// An exporter over the bus and the output lane, for this version of llama-warden.
    ///
    /// Fails only where [`catalogue()`] and the `prometheus` crate disagree on what a valid family is.
    pub fn new(bus: Bus, lane: OutputLane, version: impl Into<String>) -> Result<Self, prometheus::Error> {
        let collector = DaemonCollector { bus: bus.clone(), version: version.into(), descriptions: descriptions()? };
        let registry = Registry::new();
        registry.register(Box::new(collector))?;
        Ok(Self { registry, bus, lane, exemplars: Exemplars::None, traffic: None })
    }

    /// Adds what the router counts.
    #[must_use]
    pub fn with_traffic(self, traffic: Option<Arc<RouterTraffic>>) -> Self {
        Self { traffic, ..self }
    }

    /// Sets the exemplars.
    #[must_use]
    pub fn with_exemplars(self, exemplars: Exemplars) -> Self {
        Self { exemplars, ..self }
    }

    /// Answers a scrape in the format that its `Accept` header prefers, with what servers said of themselves if they were asked. Takes
    /// some 10 µs per server, most of it in `/proc`, and does not wait for other tasks.
    pub fn render(&self, accept: Option<&str>, own: Option<&OwnAnswers>) -> Exposition {
        let format = Format::negotiate(accept);
        let snapshot = self.bus.snapshot();
        let mut page = Page::new(format, DAEMON_BYTES + SERVER_BYTES * snapshot.servers.len());
        page.add_gathered(&self.registry.gather());
        let moment = servers::Moment { now: self.bus.clock().now(), exemplars: self.exemplars };
        servers::add(&mut page, &snapshot, &self.lane, moment);
        if let Some(traffic) = &self.traffic {
            router::add(&mut page, traffic, &snapshot);
        }
        if let Some(own) = own {
            own::add(&mut page, own);
        }
        Exposition { content_type: format.content_type(), body: page.finish() }
    }
}

/// Reads what is about the daemon at the moment of the scrape. It describes every family, so that the registry refuses another
/// collector of one of them.
struct DaemonCollector {
    bus: Bus,
    version: String,
    descriptions: Vec<Desc>,
}

impl Collector for DaemonCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let snapshot = self.bus.snapshot();
        let mut collected = Collected::default();
        daemon::add_build(&mut collected, &self.version);
        daemon::add_profiles(&mut collected, &snapshot);
        daemon::add_bus(&mut collected, &snapshot, &self.bus.gaps());
        daemon::add_process(&mut collected);
        collected.into_families()
    }
}

fn descriptions() -> Result<Vec<Desc>, prometheus::Error> {
    let describe = |family: &crate::Family| {
        let labels = family.labels.iter().map(ToString::to_string).collect();
        Desc::new(family.name.to_owned(), family.help.to_owned(), labels, Default::default())
    };
    catalogue().iter().map(describe).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use llama_warden_bus::{EventDraft, Publisher};
    use llama_warden_events::{BootId, Event, ProfileCard, ServerCard, ServerId};

    use super::*;

    async fn exporter_with(servers: usize) -> (Exporter, Publisher) {
        let (bus, publisher) = Bus::start(BootId::from_random(1), 4096);
        let started =
            Event::DaemonStarted { version: "1.2.3".into(), pid: 1, profile: Some("fast".into()), router: None };
        publisher.publish(EventDraft::daemon(started)).await.expect("open");
        let page = Event::extension("pager", "PageSent", ());
        publisher.publish(EventDraft::daemon(page)).await.expect("open");
        let profile = |name: &str| ProfileCard { name: name.into(), description: String::new(), servers: Vec::new() };
        let profiles = ["fast", "small"].map(profile).to_vec();
        publisher.publish_acked(EventDraft::daemon(Event::ProfilesConfigured { profiles })).await.expect("open");
        for number in 0..servers {
            let card = ServerCard {
                display_name: String::new(),
                model: None,
                port: 8001,
                host: "127.0.0.1".into(),
                tier: None,
                thinking: false,
                enabled: true,
            };
            let server = ServerId::new(&format!("s{number}")).expect("valid");
            publisher
                .publish_acked(EventDraft::server(server, Event::ServerConfigured { card: card.into() }))
                .await
                .expect("open");
        }
        let exporter = Exporter::new(bus, OutputLane::default(), "1.2.3").expect("valid families");
        (exporter, publisher)
    }

    /// Types by family name, from the `# TYPE` lines.
    fn types(text: &str) -> BTreeMap<&str, &str> {
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect()
    }

    #[tokio::test]
    async fn every_family_comes_with_the_type_of_the_catalogue() {
        let (exporter, _publisher) = exporter_with(1).await;
        let exposition = exporter.render(None, None);
        assert_eq!(exposition.content_type, "text/plain; version=0.0.4; charset=utf-8");
        let types = types(&exposition.body);
        // What a server has that was never launched. A family of the bus that no gap has counted is absent.
        let present = ["info", "running", "ready", "phase"].map(|name| format!("llama_warden_server_{name}"));
        for family in catalogue() {
            let is_absent = match family.labels {
                ["server", ..] => !present.iter().any(|name| name == family.name),
                // The router is off.
                _ if family.name.starts_with("llama_warden_router_") => true,
                _ => family.name == "llama_warden_bus_gaps_total",
            };
            let expected = (!is_absent).then(|| family.kind.to_string());
            assert_eq!(types.get(family.name).map(ToString::to_string), expected, "{}", family.name);
        }
        let known = catalogue().iter().map(|family| family.name);
        assert!(types.keys().all(|name| known.clone().any(|family| family == *name)), "{types:?}");
    }

    #[tokio::test]
    async fn openmetrics_text_is_well_formed() {
        let (exporter, _publisher) = exporter_with(3).await;
        let exposition = exporter.render(Some("application/openmetrics-text;version=1.0.0"), None);
        assert_eq!(exposition.content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
        let types = types(&exposition.body);
        let (mut family, mut families) = ("", Vec::new());
        let mut series = BTreeSet::new();
        let body = exposition.body.strip_suffix("# EOF\n").expect("ends with its end mark");
        for line in body.lines() {
            assert_ne!(line, "# EOF", "the end mark stands once");
            if let Some(help) = line.strip_prefix("# HELP ") {
                family = help.split_once(' ').expect("has a text").0;
                assert!(!families.contains(&family), "{family} is not in one block");
                families.push(family);
            } else if !line.starts_with('#') {
                let (sample, value) = line.rsplit_once(' ').expect("has a value");
                let name = sample.split('{').next().expect("has a name");
                let suffix = name.strip_prefix(family).expect("belongs to its family");
                let suffixes: &[&str] = match types[family] {
                    "counter" => &["_total"],
                    "histogram" => &["_bucket", "_sum", "_count"],
                    _ => &[""],
                };
                assert!(suffixes.contains(&suffix), "{line}");
                assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
                assert!(series.insert(sample), "{sample} stands twice");
            }
        }
    }

    #[tokio::test]
    async fn a_profile_that_is_not_active_is_there_too() {
        let (exporter, _publisher) = exporter_with(1).await;
        let body = exporter.render(None, None).body;
        assert!(body.contains("llama_warden_profile_active{profile=\"fast\"} 1\n"), "{body}");
        assert!(body.contains("llama_warden_profile_active{profile=\"small\"} 0\n"), "{body}");
    }

    #[tokio::test]
    async fn a_gap_of_a_subscriber_is_counted_under_its_name() {
        let (bus, publisher) = Bus::start(BootId::from_random(1), 1);
        let mut slow = bus.subscribe("slow");
        for _ in 0..3 {
            publisher
                .publish_acked(EventDraft::daemon(Event::DaemonStopping { trigger: String::new() }))
                .await
                .expect("open");
        }
        assert!(matches!(slow.next().await, Some(llama_warden_bus::Delivery::Gap { .. })));
        let exporter = Exporter::new(bus, OutputLane::default(), "1").expect("valid families");
        let body = exporter.render(None, None).body;
        assert!(body.contains("llama_warden_bus_gaps_total{subscriber=\"slow\"} 1\n"), "{body}");
        for name in ["llama_warden_bus_events_total", "llama_warden_bus_facts_total"] {
            assert!(body.contains(&format!("{name}{{kind=\"DaemonStopping\"}} 3\n")), "{body}");
        }
    }
}
