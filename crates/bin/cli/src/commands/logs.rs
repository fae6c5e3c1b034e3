//! `logs`: prints the output of a server as it wrote it.

use llama_warden_api_types::LogRecord;
use llama_warden_client::{Client, ClientError, LogOptions};
use llama_warden_daemon::{CommandFailure, CommandResult, Exit};

use crate::args::{GlobalArgs, LogsArgs};
use crate::connect;
use crate::next_daemon::{StreamEnd, await_daemon};
use crate::output::{print_json, print_line};

pub async fn run(global: &GlobalArgs, args: &LogsArgs) -> CommandResult {
    let client = connect::to_daemon(global)?;
    let mut options = LogOptions { tail: Some(args.lines), follow: args.follow, stream: args.stream };
    if !args.follow {
        show(global, args, &client, options, &mut None).await?.map_err(connect::request_failure)?;
        return Ok(Exit::Done);
    }
    let mut boot = client.status().await.map_err(connect::request_failure)?.boot;
    // The position of the last line that was printed, which a stream that broke does not repeat.
    let mut last = None;
    loop {
        let end = match show(global, args, &client, options, &mut last).await? {
            Ok(()) => StreamEnd::Whole,
            Err(error) => StreamEnd::of(error)?,
        };
        if end == StreamEnd::Whole && is_removed(&client, args).await {
            return Ok(Exit::Done);
        }
        let next = await_daemon(&client, boot, end).await?;
        if next != boot {
            eprintln!("[another run of the daemon]");
            last = None;
        }
        boot = next;
        options.tail = None;
    }
}

/// Whether the stream ended because its server is no longer configured.
async fn is_removed(client: &Client, args: &LogsArgs) -> bool {
    matches!(client.server(&args.id).await, Err(ClientError::Problem(_)))
}

/// Prints the lines after `last`, and moves it to the last one. The inner error is that of the connection.
async fn show(
    global: &GlobalArgs,
    args: &LogsArgs,
    client: &Client,
    options: LogOptions,
    last: &mut Option<u64>,
) -> Result<Result<(), ClientError>, CommandFailure> {
    let mut records = match client.logs(&args.id, options).await {
        Ok(records) => records,
        Err(error) => return Ok(Err(error)),
    };
    let seen = *last;
    loop {
        let record = match records.next().await {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        };
        if let LogRecord::Line { order, .. } = &record {
            if seen.is_some_and(|seen| *order <= seen) {
                continue;
            }
            *last = (*last).max(Some(*order));
        }
        match record {
            record if global.json => print_json(&record)?,
            LogRecord::Line { line, .. } => print_line(line)?,
            LogRecord::Lost { stream, lost } => eprintln!("[{lost} lines of {stream} were lost]"),
        }
    }
}
