//! `logs`: prints the output of a server as it wrote it.

use llama_warden_api_types::LogRecord;
use llama_warden_client::LogOptions;
use llama_warden_daemon::{CommandResult, Exit};

use crate::args::{GlobalArgs, LogsArgs};
use crate::connect;
use crate::output::{print_json, print_line, reader_gone};

pub async fn run(global: &GlobalArgs, args: &LogsArgs) -> CommandResult {
    let client = connect::to_daemon(global)?;
    let options = LogOptions { tail: Some(args.lines), follow: args.follow, stream: args.stream };
    let mut records = client.logs(&args.id, options).await.map_err(connect::request_failure)?;
    let printed = async {
        let mut launch = None;
        while let Some(record) = records.next().await.map_err(connect::request_failure)? {
            match record {
                record if global.json => print_json(&record)?,
                LogRecord::Line { incarnation, line, .. } => {
                    if launch.replace(incarnation).is_some_and(|before| before != incarnation) {
                        // Not by the server, so not on standard output.
                        eprintln!("--- launch {incarnation} ---");
                    }
                    print_line(line)?;
                }
                LogRecord::Lost { stream, lost } => eprintln!("[{lost} lines of {stream} were lost]"),
            }
        }
        Ok(Exit::Done)
    };
    tokio::select! {
        printed = printed => printed,
        () = reader_gone(), if args.follow => Ok(Exit::Done),
    }
}
