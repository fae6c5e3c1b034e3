//! `logs`: the output of a server, as it wrote it.

use llama_warden_api_types::LogRecord;
use llama_warden_client::LogOptions;

use super::args::{Global, LogsArgs};
use super::{peer, print_json, print_line};
use crate::exit::{Exit, Failure};

pub async fn run(global: &Global, args: &LogsArgs) -> Result<Exit, Failure> {
    let client = peer::client(global)?;
    let options = LogOptions { tail: Some(args.lines), follow: args.follow, stream: args.stream };
    let mut records = client.logs(&args.id, options).await.map_err(peer::failure)?;
    while let Some(record) = records.next().await.map_err(peer::failure)? {
        match record {
            record if global.json => print_json(&record)?,
            LogRecord::Line { line, .. } => print_line(line)?,
            LogRecord::Lost { stream, lost } => eprintln!("[{lost} lines of {stream} were lost]"),
        }
    }
    Ok(Exit::Done)
}
