//! `events`: prints the daemon's events, a line each.

use llama_warden_api_types::EventRecord;
use llama_warden_client::{Client, EventRange};
use llama_warden_daemon::{CommandFailure, CommandResult, Exit};
use llama_warden_events::{Envelope, Seq};
use serde_json::Value;

use crate::args::GlobalArgs;
use crate::connect;
use crate::output::{print_json, print_line};

pub async fn run(global: &GlobalArgs, follow: bool, since: Option<u64>) -> CommandResult {
    let client = connect::to_daemon(global).await?;
    let kept = EventRange::Kept(Seq::new(since.unwrap_or_default()));
    let last = show(global, &client, kept).await?;
    if follow {
        show(global, &client, EventRange::After(last)).await?;
    }
    Ok(Exit::Done)
}

/// Prints a range of events and returns the number of the last one.
async fn show(global: &GlobalArgs, client: &Client, range: EventRange) -> Result<Seq, CommandFailure> {
    let mut last = Seq::default();
    let mut records = client.events(range).await.map_err(connect::request_failure)?;
    while let Some(record) = records.next().await.map_err(connect::request_failure)? {
        match record {
            EventRecord::Envelope(envelope) => {
                last = envelope.seq;
                if global.json { print_json(&envelope)? } else { print_line(line(&envelope))? }
            }
            EventRecord::Gap { gap } => eprintln!("[{} events are no longer kept]", gap.missed),
        }
    }
    Ok(last)
}

/// `17 13:05:01.123 qwen3#1 ReadyReached via=stderr startup_seconds=4.2`
fn line(envelope: &Envelope) -> String {
    let at = envelope.at.to_string();
    let time = at.split_once('T').map_or(at.as_str(), |(_, time)| time.get(..12).unwrap_or(time));
    let mut line = format!("{:>5} {time}", envelope.seq);
    if let Some(server) = &envelope.server {
        line.push_str(&format!(" {server}"));
        if let Some(incarnation) = envelope.incarnation {
            line.push_str(&format!("#{incarnation}"));
        }
    }
    line.push_str(&format!(" {}", envelope.event.kind()));
    if let Ok(Value::Object(fields)) = serde_json::to_value(&envelope.event) {
        for (field, value) in fields.iter().filter(|(field, _)| *field != "type") {
            line.push_str(&format!(" {field}={}", brief(value)));
        }
    }
    line
}

/// A value as JSON; a long list by its length.
fn brief(value: &Value) -> String {
    match value {
        Value::Array(items) if items.len() > 8 => format!("[{} items]", items.len()),
        other => other.to_string(),
    }
}
