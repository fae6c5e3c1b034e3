//! `logs`: the output of a server, as it wrote it.

use llama_warden_api::LogRecord;
use llama_warden_api::client::LogOptions;
use llama_warden_daemon::{Exit, Failure};

use crate::args::{Global, LogsArgs};
use crate::connect;
use crate::output::{print_json, print_line};

pub async fn run(global: &Global, args: &LogsArgs) -> Result<Exit, Failure> {
    let client = connect::client(global)?;
    let options = LogOptions { tail: Some(args.lines), follow: args.follow, stream: args.stream };
    let mut records = client.logs(&args.id, options).await.map_err(connect::failure)?;
    while let Some(record) = records.next().await.map_err(connect::failure)? {
        match record {
            record if global.json => print_json(&record)?,
            LogRecord::Line { line, .. } => print_line(line)?,
            LogRecord::Lost { stream, lost } => eprintln!("[{lost} lines of {stream} were lost]"),
        }
    }
    Ok(Exit::Done)
}
