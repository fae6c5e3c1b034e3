//! `logs`: prints the output of a server as it wrote it.

use llama_warden_api_types::LogRecord;
use llama_warden_client::{Client, ClientError, LogOptions};
use llama_warden_daemon::{CommandFailure, CommandResult, Exit};
use llama_warden_events::Incarnation;

use crate::args::{GlobalArgs, LogsArgs};
use crate::connect;
use crate::next_daemon::{StreamEnd, await_daemon};
use crate::output::{print_json, print_line, reader_gone};

pub async fn run(global: &GlobalArgs, args: &LogsArgs) -> CommandResult {
    let client = connect::to_daemon(global)?;
    let options = LogOptions { tail: Some(args.lines), follow: args.follow, stream: args.stream };
    let mut shown = Shown { global, args, last: None, launch: None };
    if !args.follow {
        shown.print(&client, options).await?.map_err(connect::request_failure)?;
        return Ok(Exit::Done);
    }
    tokio::select! {
        followed = shown.follow(&client, options) => followed,
        () = reader_gone() => Ok(Exit::Done),
    }
}

/// What was printed so far.
struct Shown<'a> {
    global: &'a GlobalArgs,
    args: &'a LogsArgs,
    /// The position of the last line, behind which a stream that broke goes on.
    last: Option<u64>,
    launch: Option<Incarnation>,
}

impl Shown<'_> {
    /// Goes on with the next daemon when one has ended.
    async fn follow(&mut self, client: &Client, mut options: LogOptions) -> CommandResult {
        let mut boot = client.status().await.map_err(connect::request_failure)?.boot;
        loop {
            let end = match self.print(client, options).await? {
                Ok(()) => StreamEnd::Whole,
                Err(error) => StreamEnd::of(error)?,
            };
            let server = client.server(&self.args.id);
            if end == StreamEnd::Whole && matches!(server.await, Err(ClientError::Problem(_))) {
                // The stream has ended since the server is no longer configured.
                return Ok(Exit::Done);
            }
            let next = await_daemon(client, boot, end).await?;
            if next != boot {
                eprintln!("--- another run of the daemon ---");
                (self.last, self.launch) = (None, None);
            }
            (boot, options.tail) = (next, None);
        }
    }

    /// Prints the lines after the last one. The inner error is that of the connection.
    async fn print(&mut self, client: &Client, options: LogOptions) -> Result<Result<(), ClientError>, CommandFailure> {
        let mut records = match client.logs(&self.args.id, options).await {
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
            if let LogRecord::Line { order, .. } = &record {
                if seen.is_some_and(|seen| *order <= seen) {
                    continue;
                }
                self.last = self.last.max(Some(*order));
            }
            match record {
                record if self.global.json => print_json(&record)?,
                LogRecord::Line { incarnation, line, .. } => {
                    if self.launch.replace(incarnation).is_some_and(|before| before != incarnation) {
                        // Not by the server, so not on standard output.
                        eprintln!("--- launch {incarnation} ---");
                    }
                    print_line(line)?;
                }
                LogRecord::Lost { stream, lost } => eprintln!("[{lost} lines of {stream} were lost]"),
            }
        }
    }
}
