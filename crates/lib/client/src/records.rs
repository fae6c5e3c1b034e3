//! A stream of records: NDJSON, decoded line by line.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::{ClientError, DaemonAddress};

/// Longest silence of a daemon that lives: it sends a keep-alive every 5 s. It has one thread, which a heavy load may keep busy for
/// a moment.
const SILENCE: Duration = Duration::from_secs(8);

/// Longest record in bytes. A gap contains the report of every server.
const RECORD_LIMIT: usize = 16 * 1024 * 1024;

/// The records of a stream, as they arrive. Dropping it closes the connection.
#[derive(Debug)]
pub struct Records<T> {
    address: DaemonAddress,
    body: Incoming,
    lines: Lines,
    record: PhantomData<fn() -> T>,
}

impl<T> Records<T> {
    pub(crate) fn new(address: DaemonAddress, body: Incoming) -> Self {
        Self { address, body, lines: Lines::default(), record: PhantomData }
    }
}

impl<T: DeserializeOwned> Records<T> {
    /// Waits for the next record; `None` when the daemon ended the stream. Safe to cancel.
    ///
    /// # Errors
    /// If the connection breaks, the daemon does not even send keep-alives, or a record cannot be decoded or is longer than
    /// 16 MiB.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(line) = self.lines.pop() {
                let record = serde_json::from_slice(&line).map_err(|error| self.protocol(error.to_string()))?;
                return Ok(Some(record));
            }
            let frame = timeout(SILENCE, self.body.frame()).await;
            let silent = |_| ClientError::NoAnswer { address: self.address.clone(), limit: SILENCE };
            match frame.map_err(silent)? {
                Some(Ok(frame)) => {
                    let data = frame.into_data().unwrap_or_default();
                    if self.lines.push(&data).is_err() {
                        return Err(self.protocol(format!("a record has more than {RECORD_LIMIT} bytes")));
                    }
                }
                Some(Err(error)) => return Err(self.protocol(error.to_string())),
                None if self.lines.is_whole() => return Ok(None),
                None => return Err(self.protocol("the stream ended within a record".to_owned())),
            }
        }
    }

    fn protocol(&self, detail: String) -> ClientError {
        ClientError::Protocol { address: self.address.clone(), detail }
    }
}

/// Splits bytes into lines. Drops blank lines, which the daemon sends as keep-alives.
#[derive(Debug, Default)]
struct Lines {
    whole: VecDeque<Vec<u8>>,
    partial: Vec<u8>,
}

/// A line is longer than [`RECORD_LIMIT`].
struct TooLong;

impl Lines {
    fn push(&mut self, data: &[u8]) -> Result<(), TooLong> {
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            if self.partial.len() + text.len() > RECORD_LIMIT {
                return Err(TooLong);
            }
            self.partial.extend_from_slice(text);
            if ended {
                let line = std::mem::take(&mut self.partial);
                self.whole.extend((!line.trim_ascii().is_empty()).then_some(line));
            }
        }
        Ok(())
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        self.whole.pop_front()
    }

    fn is_whole(&self) -> bool {
        self.partial.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_do_not_depend_on_how_the_bytes_arrive() {
        let bytes = b"{\"a\":1}\n\n \n{\"b\":2}\n{\"c";
        for size in 1..=bytes.len() {
            let mut lines = Lines::default();
            for chunk in bytes.chunks(size) {
                assert!(lines.push(chunk).is_ok());
            }
            let popped: Vec<_> = std::iter::from_fn(|| lines.pop()).collect();
            assert_eq!(popped, [b"{\"a\":1}".to_vec(), b"{\"b\":2}".to_vec()], "in pieces of {size}");
            assert!(!lines.is_whole());
        }
    }
}
