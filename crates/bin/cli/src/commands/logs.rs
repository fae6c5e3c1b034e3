//! `logs`: prints the output of servers as they wrote it. Lines of several servers begin with the server's id.

use futures_util::stream::{SelectAll, StreamExt, unfold};
use llama_warden_api_types::LogRecord;
use llama_warden_client::{ClientError, LogOptions, Records};
use llama_warden_daemon::{CommandFailure, CommandResult, Exit};
use llama_warden_events::ServerId;
use serde_json::Value;

use super::status;
use crate::args::{GlobalArgs, LogsArgs};
use crate::connect;
use crate::output::{print_json, print_line};

pub async fn run(global: &GlobalArgs, args: &LogsArgs) -> CommandResult {
    let client = connect::to_daemon(global).await?;
    let options = LogOptions { tail: Some(args.lines), follow: args.follow, stream: args.stream };
    let report = status::fetch(&client, &args.ids).await?;
    let ids: Vec<_> = report.servers.into_iter().map(|server| server.model_id).collect();
    let is_one = matches!(&*args.ids, [one] if one.is_id());
    let width = ids.iter().map(|id| id.as_str().len()).max().unwrap_or_default();
    let mut logs = SelectAll::new();
    for id in ids {
        let records = client.logs(&id, options).await.map_err(connect::request_failure)?;
        if args.follow {
            logs.push(Box::pin(unfold(Some((id, records)), next)));
            continue;
        }
        // The kept lines of one server after those of another.
        let mut log = Box::pin(unfold(Some((id, records)), next));
        while let Some(record) = log.next().await {
            print(global, is_one, width, record)?;
        }
    }
    while let Some(record) = logs.next().await {
        print(global, is_one, width, record)?;
    }
    Ok(Exit::Done)
}

/// A record of a server's log, or the error that ends it.
type Received = (ServerId, Result<LogRecord, ClientError>);

/// The next record of a log, and the log behind it.
async fn next(
    log: Option<(ServerId, Records<LogRecord>)>,
) -> Option<(Received, Option<(ServerId, Records<LogRecord>)>)> {
    let (id, mut records) = log?;
    match records.next().await {
        Ok(Some(record)) => Some(((id.clone(), Ok(record)), Some((id, records)))),
        Ok(None) => None,
        Err(error) => Some(((id, Err(error)), None)),
    }
}

fn print(global: &GlobalArgs, is_one: bool, width: usize, (id, record): Received) -> Result<(), CommandFailure> {
    let prefix = if is_one { String::new() } else { format!("{id:width$} | ") };
    match record.map_err(connect::request_failure)? {
        record if global.json => print_json(&with_server(&id, record)?),
        LogRecord::Line { line, .. } => print_line(format_args!("{prefix}{line}")),
        LogRecord::Lost { stream, lost } => {
            eprintln!("{prefix}[{lost} lines of {stream} were lost]");
            Ok(())
        }
    }
}

fn with_server(id: &ServerId, record: LogRecord) -> Result<Value, CommandFailure> {
    let mut record = serde_json::to_value(record).map_err(CommandFailure::failed)?;
    record["server"] = id.as_str().into();
    Ok(record)
}
