//! `detector show`: prints one pack as text or as JSON.

use llama_warden_daemon::{CommandFailure, Exit};
use llama_warden_plugin_files::PluginFile as _;
use llama_warden_readiness::{Pack, ProbeWay, StreamFilter, StructuredSource};
use serde_json::{Value, json};

use crate::args::GlobalArgs;
use crate::output::{print_json, print_line};
use crate::plugin_files::{find, metadata};

pub fn run(global: &GlobalArgs, name: &str) -> Result<Exit, CommandFailure> {
    let pack = find(global, name)?;
    if global.json {
        print_json(&as_data(&pack))?;
    } else {
        print_line(pack.text().trim_end())?;
    }
    Ok(Exit::Done)
}

fn as_data(pack: &Pack) -> Value {
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
    let mut data = metadata(pack);
    data.insert("probe".to_owned(), probe);
    data.insert("structured".to_owned(), structured.collect());
    data.insert("patterns".to_owned(), patterns.collect());
    data.insert("examples".to_owned(), examples.collect());
    data.into()
}
