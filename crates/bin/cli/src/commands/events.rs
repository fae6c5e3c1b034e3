//! `events`: prints the daemon's events, a sentence each.

use std::collections::BTreeSet;

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use llama_warden_api_types::EventRecord;
use llama_warden_client::{Client, ClientError, EventRange};
use llama_warden_connect::{self as connect, EndNotice, GlobalArgs, ServerSelector, StreamEnd, await_daemon};
use llama_warden_event_log::{RunsError, kept_run};
use llama_warden_events::{Envelope, EventPosition, ServerId};
use llama_warden_exit::{CommandFailure, CommandResult, Exit, with_source};
use llama_warden_inventory::LoadedConfig;
use llama_warden_telemetry::{Sentence, sentence};
use tracing::Level;

use super::status;
use crate::args::{EventsArgs, EventsSince};
use llama_warden_terminal::output::{print_json, print_line, reader_gone};
use llama_warden_terminal::screen::Screen;

pub async fn run(global: &GlobalArgs, args: &EventsArgs) -> CommandResult {
    let client = connect::to_daemon(global).await?;
    // A name that is not configured would silently show nothing.
    let status = status::fetch(&client, &args.ids).await?;
    let (position, from) = match args.since {
        None => (EventPosition::default(), None),
        Some(EventsSince::After(position)) => (position, None),
        Some(EventsSince::Ago(age)) => {
            (EventPosition::default(), Some(Timestamp::now().as_microsecond() as f64 / 1e6 - age.as_secs_f64()))
        }
    };
    let shown = Shown { ids: &args.ids, from, json: global.json, colours: Screen::now().colours };
    let printed = async {
        let mut position = position;
        let notice = EndNotice::default();
        loop {
            // What came before this command is connected, also again, in either run, comes as history.
            let mut read = shown.print(&client, EventRange::Kept(position), &mut position).await?;
            if !args.follow {
                return read.map(|()| Exit::Done).map_err(connect::request_failure);
            }
            if read.is_ok() {
                read = shown.print(&client, EventRange::After(position), &mut position).await?;
            }
            let end = read.map_or_else(StreamEnd::of, |()| Ok(StreamEnd::Whole))?;
            await_daemon(&client, position.boot.unwrap_or(status.boot), end, &notice).await?;
        }
    };
    tokio::select! {
        printed = printed => printed,
        () = reader_gone(), if args.follow => Ok(Exit::Done),
    }
}

/// Prints the events of the run that is `back` before the latest one in the event log.
pub fn run_of_log(global: &GlobalArgs, ids: &[ServerSelector], back: u64) -> CommandResult {
    let state_dir = LoadedConfig::find(global.config.as_deref())?.state_dir()?;
    let back = usize::try_from(back).unwrap_or(usize::MAX);
    let open = || {
        kept_run(&state_dir, back).map_err(|error| {
            let step = match error {
                RunsError::NoSuchRun { .. } => "0 is the latest run, -1 the one before",
                RunsError::Read { .. } => {
                    "name the configuration of the daemon with --config; logs.event-log = \"0\" keeps no log"
                }
            };
            CommandFailure::failed(with_source(&error)).next_step(step)
        })
    };
    let mut run = open()?;
    if !ids.is_empty() {
        let servers: BTreeSet<_> = open()?.filter_map(|envelope| envelope.server).collect();
        if let Some(unknown) = ids.iter().find(|id| !servers.iter().any(|server| id.matches(server))) {
            return Err(CommandFailure::unknown_server(unknown.text(), servers.iter().map(ServerId::as_str)));
        }
    }
    let shown = Shown { ids, from: None, json: global.json, colours: Screen::now().colours };
    run.try_for_each(|envelope| shown.print_event(&envelope))?;
    Ok(Exit::Done)
}

/// Which events are shown, and how.
struct Shown<'a> {
    /// Only those of these servers; all for none.
    ids: &'a [ServerSelector],
    /// Only those after this time, in seconds since the Unix epoch.
    from: Option<f64>,
    json: bool,
    colours: bool,
}

impl Shown<'_> {
    /// Prints a range of events, and moves `position` to the last one. The inner error is that of the connection.
    async fn print(
        &self,
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
                    self.print_event(&envelope)?;
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

    fn print_event(&self, envelope: &Envelope) -> Result<(), CommandFailure> {
        match (self.contain(envelope), self.json) {
            (false, _) => Ok(()),
            (true, true) => print_json(envelope),
            (true, false) => print_line(self.line(envelope)),
        }
    }

    fn contain(&self, envelope: &Envelope) -> bool {
        let named = self.ids.is_empty()
            || envelope.server.as_ref().is_some_and(|server| self.ids.iter().any(|id| id.matches(server)));
        named && self.from.is_none_or(|from| envelope.at.as_unix_seconds() >= from)
    }

    /// `17 13:05:01.123 qwen3#1 server is ready: via stderr, startup 4.2 s`
    fn line(&self, envelope: &Envelope) -> String {
        let at = envelope.at.to_string();
        let time = at.split_once('T').map_or(at.as_str(), |(_, time)| time.get(..12).unwrap_or(time));
        let mut line = format!("{:>5} {time}", envelope.seq);
        if let Some(server) = &envelope.server {
            line.push_str(&format!(" {server}"));
            if let Some(incarnation) = envelope.incarnation {
                line.push_str(&format!("#{incarnation}"));
            }
        }
        let Sentence { level, text } = sentence(envelope);
        let colour = match level {
            Level::ERROR => Some(AnsiColor::Red),
            Level::WARN => Some(AnsiColor::Yellow),
            _ => None,
        };
        let style = Style::new().fg_color(colour.filter(|_| self.colours).map(Into::into));
        line.push_str(&format!(" {style}{text}{style:#}"));
        line
    }
}
