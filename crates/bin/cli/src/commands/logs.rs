//! `logs`: prints the output of servers as they wrote it. Lines of several servers begin with the server's id and the time.

use futures_util::future::try_join_all;
use llama_warden_api_types::LogRecord;
use llama_warden_client::{Client, ClientError, LogOptions, LogPosition};
use llama_warden_connect::{self as connect, EndNotice, GlobalArgs, StreamEnd, await_daemon};
use llama_warden_events::{Incarnation, ServerId};
use llama_warden_exit::{CommandFailure, CommandResult, Exit};
use serde_json::Value;

use super::status;
use crate::args::LogsArgs;
use llama_warden_terminal::output::{print_json, print_line, reader_gone};

/// Columns in which ids are aligned: one long id would push the lines of all others out of the window.
const WIDEST_PREFIX: usize = 24;

pub async fn run(global: &GlobalArgs, args: &LogsArgs) -> CommandResult {
    let client = connect::to_daemon(global).await?;
    let options =
        LogOptions { tail: Some(args.lines), follow: args.follow, stream: args.stream, ..LogOptions::default() };
    let servers = status::fetch(&client, &args.ids).await?.servers;
    let is_one = matches!(&*args.ids, [one] if one.is_id());
    let longest = servers.iter().map(|server| server.model_id.as_str().len()).max().unwrap_or_default();
    let width = longest.min(WIDEST_PREFIX);
    let log = |id: ServerId| {
        let prefix = if is_one { String::new() } else { format!("{:width$} | ", id.as_str()) };
        let has_times = args.timestamps || !is_one;
        ServerLog {
            id,
            prefix,
            has_times,
            json: global.json,
            position: LogPosition::default(),
            last: None,
            launch: None,
        }
    };
    let mut logs: Vec<_> = servers.into_iter().map(|server| log(server.model_id)).collect();
    if !args.follow {
        let mut kept = Vec::new();
        for (log, ServerLog { id, .. }) in logs.iter().enumerate() {
            let mut records = client.logs(id, options).await.map_err(connect::request_failure)?;
            let mut latest = None;
            while let Some(record) = records.next().await.map_err(connect::request_failure)? {
                if let LogRecord::Line { at, .. } = &record {
                    // Never back: a clock that is set back does not change the order in which one server wrote.
                    latest = latest.max(Some(*at));
                }
                kept.push((latest, log, record));
            }
        }
        kept.sort_by_key(|(at, ..)| *at);
        kept.into_iter().try_for_each(|(_, log, record)| logs[log].print(record))?;
        return Ok(Exit::Done);
    }
    let notice = EndNotice::default();
    let follow = async |mut log: ServerLog| log.follow(&client, options, &notice).await;
    tokio::select! {
        followed = try_join_all(logs.into_iter().map(follow)) => followed.map(|_| Exit::Done),
        () = reader_gone() => Ok(Exit::Done),
    }
}

/// What was printed of one server so far.
struct ServerLog {
    id: ServerId,
    /// Before each line of text.
    prefix: String,
    /// Whether the time follows the prefix.
    has_times: bool,
    json: bool,
    /// Of the last lines, behind which a stream that broke goes on.
    position: LogPosition,
    /// The greatest order of a line.
    last: Option<u64>,
    launch: Option<Incarnation>,
}

impl ServerLog {
    /// Goes on with the next daemon when one has ended.
    async fn follow(&mut self, client: &Client, mut options: LogOptions, notice: &EndNotice) -> CommandResult {
        let mut boot = client.status().await.map_err(connect::request_failure)?.boot;
        loop {
            let end = match self.print_new(client, options).await? {
                Ok(()) => StreamEnd::Whole,
                Err(error) => StreamEnd::of(error)?,
            };
            let server = client.server(&self.id);
            if end == StreamEnd::Whole && matches!(server.await, Err(ClientError::Problem(_))) {
                // The stream has ended since the server is no longer configured.
                return Ok(Exit::Done);
            }
            let next = await_daemon(client, boot, end, notice).await?;
            if next != boot {
                eprintln!("{}--- another run of the daemon ---", self.prefix);
                (self.position, self.last, self.launch) = (LogPosition::default(), None, None);
            }
            (boot, options.tail, options.after) = (next, None, self.position);
        }
    }

    /// Prints the lines after the last one. The inner error is that of the connection.
    async fn print_new(
        &mut self,
        client: &Client,
        options: LogOptions,
    ) -> Result<Result<(), ClientError>, CommandFailure> {
        let mut records = match client.logs(&self.id, options).await {
            Ok(records) => records,
            Err(error) => return Ok(Err(error)),
        };
        let seen = self.last;
        loop {
            let record = match records.next().await {
                Ok(Some(record)) => record,
                Ok(None) => return Ok(Ok(())),
                Err(error) => return Ok(Err(error)),
            };
            if let LogRecord::Line { stream, order, number, .. } = &record {
                // Of a stream without a position, older lines than those that were asked for at first.
                let is_older = options.after.of(*stream).is_none() && seen.is_some_and(|seen| *order <= seen);
                self.position.pass(*stream, *number);
                if is_older {
                    continue;
                }
                self.last = self.last.max(Some(*order));
            }
            self.print(record)?;
        }
    }

    fn print(&mut self, record: LogRecord) -> Result<(), CommandFailure> {
        let prefix = &self.prefix;
        match record {
            record if self.json => print_json(&self.document(record)?)?,
            LogRecord::Line { incarnation, at, line, .. } => {
                if self.launch.replace(incarnation).is_some_and(|before| before != incarnation) {
                    // Not by the server, so not on standard output.
                    eprintln!("{prefix}--- launch {incarnation} ---");
                }
                let time = if self.has_times { format!("{at:.3} ") } else { String::new() };
                print_line(format_args!("{prefix}{time}{line}"))?;
            }
            LogRecord::Lost { stream, lost } => eprintln!("{prefix}[{lost} lines of {stream} were lost]"),
        }
        Ok(())
    }

    /// A record with the server that it is of.
    fn document(&self, record: LogRecord) -> Result<Value, CommandFailure> {
        let mut document = serde_json::to_value(record).map_err(CommandFailure::failed)?;
        document["server"] = self.id.as_str().into();
        Ok(document)
    }
}
