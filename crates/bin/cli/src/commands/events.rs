//! `events`: prints the daemon's events, a sentence each.

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use llama_warden_api_types::EventRecord;
use llama_warden_client::{Client, EventRange};
use llama_warden_daemon::{CommandFailure, CommandResult, Exit};
use llama_warden_events::{Envelope, Seq, ServerId};
use llama_warden_telemetry::{Sentence, sentence};
use tracing::Level;

use super::status;
use crate::args::{EventsArgs, EventsSince, GlobalArgs};
use crate::connect;
use crate::output::{print_json, print_line, reader_gone};
use crate::screen::Screen;

pub async fn run(global: &GlobalArgs, args: &EventsArgs) -> CommandResult {
    let client = connect::to_daemon(global).await?;
    // A name that is not configured would silently show nothing.
    let report = status::fetch(&client, &args.ids).await?;
    let ids: Vec<_> = report.servers.into_iter().map(|server| server.model_id).collect();
    let (since, from) = match args.since {
        None => (0, None),
        Some(EventsSince::After(seq)) => (seq, None),
        Some(EventsSince::Ago(age)) => (0, Some(Timestamp::now().as_microsecond() as f64 / 1e6 - age.as_secs_f64())),
    };
    let shown =
        Shown { ids: (!args.ids.is_empty()).then_some(&*ids), from, json: global.json, colours: Screen::now().colours };
    let printed = async {
        let last = shown.print(&client, EventRange::Kept(Seq::new(since))).await?;
        if args.follow {
            shown.print(&client, EventRange::After(last)).await?;
        }
        Ok(Exit::Done)
    };
    tokio::select! {
        printed = printed => printed,
        () = reader_gone(), if args.follow => Ok(Exit::Done),
    }
}

/// Which events are shown, and how.
struct Shown<'a> {
    /// Only those of these servers.
    ids: Option<&'a [ServerId]>,
    /// Only those after this time, in seconds since the Unix epoch.
    from: Option<f64>,
    json: bool,
    colours: bool,
}

impl Shown<'_> {
    /// Prints a range of events and returns the number of the last one.
    async fn print(&self, client: &Client, range: EventRange) -> Result<Seq, CommandFailure> {
        let mut last = Seq::default();
        let mut records = client.events(range).await.map_err(connect::request_failure)?;
        while let Some(record) = records.next().await.map_err(connect::request_failure)? {
            match record {
                EventRecord::Envelope(envelope) => {
                    last = envelope.seq;
                    if !self.contain(&envelope) {
                    } else if self.json {
                        print_json(&envelope)?;
                    } else {
                        print_line(self.line(&envelope))?;
                    }
                }
                EventRecord::Gap { gap } => eprintln!("[{} events are no longer kept]", gap.missed),
            }
        }
        Ok(last)
    }

    fn contain(&self, envelope: &Envelope) -> bool {
        let is_of = |ids: &[ServerId]| envelope.server.as_ref().is_some_and(|server| ids.contains(server));
        let named = self.ids.is_none_or(is_of);
        named && self.from.is_none_or(|from| envelope.at.as_unix_seconds() >= from)
    }

    /// `17 13:05:01.123 qwen3#1 server is ready via=stderr startup_seconds=4.2`
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
