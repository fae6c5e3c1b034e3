//! `detector show`: prints one pack as text or as JSON.

use llama_warden_daemon::{CommandFailure, Exit};
use llama_warden_detectors::Pack;
use llama_warden_detectors::{ProbeWay, StreamFilter, StructuredSource};
use serde_json::{Map, Value, json};

use crate::args::GlobalArgs;
use crate::plugin_files;

pub fn run(global: &GlobalArgs, name: &str) -> Result<Exit, CommandFailure> {
    plugin_files::show(global, name, add_rules)
}

/// Adds the probe, patterns and examples of a pack to its metadata.
fn add_rules(pack: &Pack, data: &mut Map<String, Value>) {
    let probe = match pack.probe() {
        ProbeWay::Http { path } => json!({ "path": path }),
        ProbeWay::None => json!("none"),
    };
    let structured = pack.structured().iter().map(|source| match source {
        StructuredSource::LogJsonl => "log-jsonl",
    });
    let patterns = pack.patterns().iter().map(|pattern| {
        let stream = match pattern.stream {
            StreamFilter::Any => "any",
            StreamFilter::Stderr => "stderr",
            StreamFilter::Stdout => "stdout",
        };
        json!({
            "verdict": pattern.verdict.as_str(),
            "stream": stream,
            "regex": pattern.regex,
            "reason": pattern.reason,
            "weak": pattern.weak,
        })
    });
    let examples = pack.examples().iter().map(|example| {
        json!({
            "line": example.line,
            "stream": example.stream,
            "verdict": example.verdict.as_str(),
            "reason": example.reason,
        })
    });
    data.insert("probe".to_owned(), probe);
    data.insert("structured".to_owned(), structured.collect());
    data.insert("patterns".to_owned(), patterns.collect());
    data.insert("examples".to_owned(), examples.collect());
}
