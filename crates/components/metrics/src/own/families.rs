//! Writes what the servers answered: one family for all servers that have it.

use std::collections::BTreeMap;

use llama_warden_events::ServerId;

use super::exposition::OwnSample;
use super::{OwnAnswers, ScrapeOutcome, lock};
use crate::FamilyKind;
use crate::catalogue::{SERVER_KV_USED, SERVER_SCRAPE_DROPPED, SERVER_SCRAPE_OK, SERVER_SCRAPES};
use crate::text::{FamilyHead, Page};

/// A family of llama-server with the samples of all servers.
#[derive(Default)]
struct MergedFamily<'a> {
    help: &'a str,
    samples: Vec<(&'a ServerId, &'a OwnSample)>,
}

/// Adds the servers' own families, and what came of each look.
pub(crate) fn add(page: &mut Page, own: &OwnAnswers) {
    let answers = lock(&own.answers);
    let mut outcomes = page.family(&SERVER_SCRAPE_OK);
    for server in own.asked.iter() {
        let outcome = answers.get(server).map_or(ScrapeOutcome::TimedOut, |answer| answer.outcome);
        outcomes.value(&[server.as_str(), outcome.as_str()], (outcome == ScrapeOutcome::Ok).into());
    }
    let counts = lock(&own.counts);
    let mut scrapes = page.family(&SERVER_SCRAPES);
    for (server, counts) in counts.iter() {
        for outcome in counts.outcomes.keys() {
            scrapes.value(&[server.as_str(), outcome.as_str()], counts.outcomes.of(outcome) as f64);
        }
    }
    let mut dropped = page.family(&SERVER_SCRAPE_DROPPED);
    for (server, counts) in counts.iter() {
        dropped.value(&[server.as_str()], counts.dropped_samples as f64);
    }
    drop(counts);
    let mut used = page.family(&SERVER_KV_USED);
    for (server, answer) in answers.iter() {
        if let Some(ratio) = answer.kv_used {
            used.value(&[server.as_str()], ratio);
        }
    }
    let mut families: BTreeMap<&str, MergedFamily<'_>> = BTreeMap::new();
    for (server, answer) in answers.iter() {
        for sample in &answer.metrics.samples {
            let family = families.entry(&sample.family).or_default();
            if family.help.is_empty() {
                family.help = answer.metrics.help.get(&sample.family).map_or("", String::as_str);
            }
            family.samples.push((server, sample));
        }
    }
    for (name, family) in &families {
        // In OpenMetrics the family of a counter has no `_total`: a gauge of that name would be the same family.
        if !families.contains_key(format!("{name}_total").as_str()) {
            add_family(page, name, family);
        }
    }
}

fn add_family(page: &mut Page, name: &str, family: &MergedFamily<'_>) {
    let kind = if name.ends_with("_total") { FamilyKind::Counter } else { FamilyKind::Gauge };
    let help = if family.help.is_empty() { "As llama-server says it." } else { family.help };
    let mut writer = page.begin(FamilyHead { name, kind, help });
    for (server, sample) in &family.samples {
        let labels = sample.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        writer.add([("server", server.as_str())].into_iter().chain(labels), sample.value);
    }
}
