//! `logs`: prints the output of servers as they wrote it. Lines of several servers begin with the server's id.

use std::collections::BTreeMap;

use futures_util::stream::{SelectAll, StreamExt, unfold};
use llama_warden_api_types::LogRecord;
use llama_warden_client::{ClientError, LogOptions, Records};
use llama_warden_daemon::{CommandFailure, CommandResult, Exit};
use llama_warden_events::{Incarnation, ServerId};
use serde_json::Value;

use super::status;
use crate::args::{GlobalArgs, LogsArgs};
use crate::connect;
use crate::output::{print_json, print_line, reader_gone};

pub async fn run(global: &GlobalArgs, args: &LogsArgs) -> CommandResult {
    tokio::select! {
        printed = print_all(global, args) => printed,
        () = reader_gone(), if args.follow => Ok(Exit::Done),
    }
}

async fn print_all(global: &GlobalArgs, args: &LogsArgs) -> CommandResult {
    let client = connect::to_daemon(global).await?;
    let options = LogOptions { tail: Some(args.lines), follow: args.follow, stream: args.stream };
    let report = status::fetch(&client, &args.ids).await?;
    let ids: Vec<_> = report.servers.into_iter().map(|server| server.model_id).collect();
    let is_one = matches!(&*args.ids, [one] if one.is_id());
    let width = ids.iter().map(|id| id.as_str().len()).max().unwrap_or_default();
    let mut printer = LogPrinter { json: global.json, width: (!is_one).then_some(width), launches: BTreeMap::new() };
    let mut followed = SelectAll::new();
    for id in ids {
        let records = client.logs(&id, options).await.map_err(connect::request_failure)?;
        let mut log = Box::pin(unfold(Some((id, records)), next));
        if args.follow {
            followed.push(log);
            continue;
        }
        // The kept lines of one server after those of another.
        while let Some(record) = log.next().await {
            printer.print(record)?;
        }
    }
    while let Some(record) = followed.next().await {
        printer.print(record)?;
    }
    Ok(Exit::Done)
}

/// A server's log that goes on.
type Log = (ServerId, Records<LogRecord>);

/// A record of a server's log, or the error that ends it.
type Received = (ServerId, Result<LogRecord, ClientError>);

/// The next record of a log, and the log behind it.
async fn next(log: Option<Log>) -> Option<(Received, Option<Log>)> {
    let (id, mut records) = log?;
    match records.next().await {
        Ok(Some(record)) => Some(((id.clone(), Ok(record)), Some((id, records)))),
        Ok(None) => None,
        Err(error) => Some(((id, Err(error)), None)),
    }
}

/// Prints the records of one server or of several.
struct LogPrinter {
    json: bool,
    /// The width of the ids before the lines; `None` for the log of one server.
    width: Option<usize>,
    /// The launch of the latest line of each server.
    launches: BTreeMap<ServerId, Incarnation>,
}

impl LogPrinter {
    fn print(&mut self, (id, record): Received) -> Result<(), CommandFailure> {
        let record = record.map_err(connect::request_failure)?;
        if self.json {
            return print_json(&with_server(&id, record)?);
        }
        let prefix = self.width.map_or_else(String::new, |width| format!("{:width$} | ", id.as_str()));
        match record {
            LogRecord::Line { incarnation, line, .. } => {
                if self.launches.insert(id, incarnation).is_some_and(|before| before != incarnation) {
                    // Not by the server, so not on standard output.
                    eprintln!("{prefix}--- launch {incarnation} ---");
                }
                print_line(format_args!("{prefix}{line}"))
            }
            LogRecord::Lost { stream, lost } => {
                eprintln!("{prefix}[{lost} lines of {stream} were lost]");
                Ok(())
            }
        }
    }
}

fn with_server(id: &ServerId, record: LogRecord) -> Result<Value, CommandFailure> {
    let mut record = serde_json::to_value(record).map_err(CommandFailure::failed)?;
    record["server"] = id.as_str().into();
    Ok(record)
}
