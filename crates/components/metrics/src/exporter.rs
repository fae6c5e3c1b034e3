//! The exporter: a custom collector in a registry, and the answer to a scrape.

use llama_warden_bus::{Bus, OutputLane};
use prometheus::core::{Collector, Desc};
use prometheus::{Registry, TextEncoder, proto};

use crate::accept::Format;
use crate::page::Page;
use crate::{catalogue, daemon, openmetrics, servers};

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
}

impl Exporter {
    /// An exporter over the bus and the output lane, for this version of llama-warden.
    ///
    /// Fails only where [`catalogue()`] and the `prometheus` crate disagree on what a valid family is.
    pub fn new(bus: Bus, lane: OutputLane, version: impl Into<String>) -> Result<Self, prometheus::Error> {
        let collector = Scrape { bus, lane, version: version.into(), descriptions: descriptions()? };
        let registry = Registry::new();
        registry.register(Box::new(collector))?;
        Ok(Self { registry })
    }

    /// Answers a scrape in the format that its `Accept` header prefers. Takes low milliseconds for a hundred servers
    /// and does not wait for other tasks.
    pub fn render(&self, accept: Option<&str>) -> Result<Exposition, prometheus::Error> {
        let format = Format::negotiate(accept);
        let families = self.registry.gather();
        let body = match format {
            Format::Text => TextEncoder::new().encode_to_string(&families)?,
            Format::OpenMetrics => {
                openmetrics::encode(&families).map_err(|error| prometheus::Error::Msg(error.to_string()))?
            }
        };
        Ok(Exposition { content_type: format.content_type(), body })
    }
}

/// Reads everything at the moment of the scrape.
struct Scrape {
    bus: Bus,
    lane: OutputLane,
    version: String,
    descriptions: Vec<Desc>,
}

impl Collector for Scrape {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let snapshot = self.bus.snapshot();
        let mut page = Page::default();
        daemon::add_build(&mut page, &self.version);
        daemon::add_profiles(&mut page, &snapshot);
        daemon::add_bus(&mut page, &snapshot, &self.bus.gaps());
        daemon::add_process(&mut page);
        servers::add(&mut page, &snapshot, &self.lane, self.bus.clock().now());
        page.into_families()
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
        let started = Event::DaemonStarted { version: "1.2.3".into(), pid: 1, profile: Some("fast".into()) };
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
        let exposition = exporter.render(None).expect("renders");
        assert_eq!(exposition.content_type, "text/plain; version=0.0.4; charset=utf-8");
        let types = types(&exposition.body);
        // Families that only a running process, or a gap, has.
        let absent = [
            "llama_warden_server_start_time_seconds",
            "llama_warden_server_resident_memory_bytes",
            "llama_warden_server_cpu_seconds_total",
            "llama_warden_bus_gaps_total",
            // And those that a server has once it prints requests.
            "llama_warden_server_slots_busy",
            "llama_warden_server_last_request_timestamp_seconds",
            "llama_warden_requests_total",
            "llama_warden_request_prompt_tokens_total",
            "llama_warden_request_decode_tokens_total",
            "llama_warden_request_prompt_seconds",
            "llama_warden_request_decode_seconds",
            "llama_warden_request_time_per_output_token_seconds",
        ];
        for family in catalogue() {
            let expected = (!absent.contains(&family.name)).then(|| family.kind.to_string());
            assert_eq!(types.get(family.name).map(ToString::to_string), expected, "{}", family.name);
        }
        let known = catalogue().iter().map(|family| family.name);
        assert!(types.keys().all(|name| known.clone().any(|family| family == *name)), "{types:?}");
    }

    #[tokio::test]
    async fn openmetrics_text_is_well_formed() {
        let (exporter, _publisher) = exporter_with(3).await;
        let exposition = exporter.render(Some("application/openmetrics-text;version=1.0.0")).expect("renders");
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
        let body = exporter.render(None).expect("renders").body;
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
        let body = exporter.render(None).expect("renders").body;
        assert!(body.contains("llama_warden_bus_gaps_total{subscriber=\"slow\"} 1\n"), "{body}");
        for name in ["llama_warden_bus_events_total", "llama_warden_bus_facts_total"] {
            assert!(body.contains(&format!("{name}{{kind=\"DaemonStopping\"}} 3\n")), "{body}");
        }
    }
}
