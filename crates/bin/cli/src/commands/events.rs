//! `events`: prints the daemon's events, a line each.

use llama_warden_api_types::EventRecord;
use llama_warden_client::{Client, ClientError, EventRange};
use llama_warden_daemon::{CommandFailure, CommandResult, Exit, LoadedConfig, with_source};
use llama_warden_events::{Envelope, EventPosition};
use llama_warden_telemetry::{RunsError, kept_run};
use serde_json::Value;

use crate::args::GlobalArgs;
use crate::connect;
use crate::next_daemon::{StreamEnd, await_daemon};
use crate::output::{print_json, print_line};

pub async fn run(global: &GlobalArgs, follow: bool, since: Option<EventPosition>) -> CommandResult {
    let client = connect::to_daemon(global)?;
    let mut position = since.unwrap_or_default();
    show(global, &client, EventRange::Kept(position), &mut position).await?.map_err(connect::request_failure)?;
    while follow {
        let boot = match position.boot {
            Some(boot) => boot,
            None => client.status().await.map_err(connect::request_failure)?.boot,
        };
        let end = match show(global, &client, EventRange::After(position), &mut position).await? {
            Ok(()) => StreamEnd::Whole,
            Err(error) => StreamEnd::of(error)?,
        };
        // The events that came before this command is connected again, of either run, come as history.
        await_daemon(&client, boot, end).await?;
        let kept = show(global, &client, EventRange::Kept(position), &mut position).await?;
        kept.or_else(|error| StreamEnd::of(error).map(drop))?;
    }
    Ok(Exit::Done)
}

/// Prints the events of the run that is `back` before the latest one in the event log.
pub fn run_of_log(global: &GlobalArgs, back: u64) -> CommandResult {
    let state_dir = LoadedConfig::find(global.config.as_deref())?.state_dir()?;
    let back = usize::try_from(back).unwrap_or(usize::MAX);
    let run = kept_run(&state_dir, back).map_err(|error| {
        let step = match error {
            RunsError::NoSuchRun { .. } => "0 is the latest run, -1 the one before",
            RunsError::Read { .. } => {
                "name the configuration of the daemon with --config; logs.event-log = \"0\" keeps no log"
            }
        };
        CommandFailure::failed(with_source(&error)).next_step(step)
    })?;
    for envelope in run {
        print(global, &envelope)?;
    }
    Ok(Exit::Done)
}

/// Prints a range of events, and moves `position` to the last one. The inner error is that of the connection.
async fn show(
    global: &GlobalArgs,
    client: &Client,
    range: EventRange,
    position: &mut EventPosition,
) -> Result<Result<(), ClientError>, CommandFailure> {
    let mut records = match client.events(range).await {
        Ok(records) => records,
        Err(error) => return Ok(Err(error)),
    };
    loop {
        match records.next().await {
            Ok(Some(EventRecord::Envelope(envelope))) => {
                *position = EventPosition { boot: Some(envelope.boot), seq: envelope.seq };
                print(global, &envelope)?;
            }
            Ok(Some(EventRecord::Gap { gap })) => {
                if let Some(snapshot) = &gap.snapshot {
                    *position = EventPosition { boot: Some(snapshot.boot), seq: snapshot.seq };
                }
                match gap.missed {
                    0 => eprintln!("[another run of the daemon]"),
                    missed => eprintln!("[{missed} events are no longer kept]"),
                }
            }
            Ok(None) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        }
    }
}

fn print(global: &GlobalArgs, envelope: &Envelope) -> Result<(), CommandFailure> {
    if global.json { print_json(envelope) } else { print_line(line(envelope)) }
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
