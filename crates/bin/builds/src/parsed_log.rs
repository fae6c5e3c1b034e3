//! Parses a server's log for `detector test`: plain lines, or a transcript with streams and times.

use llama_warden_events::StreamName;
use serde_json::Value;

/// A log, line by line.
#[derive(Debug, PartialEq)]
pub struct ParsedLog {
    /// The server's port, if the log is a transcript that contains it.
    pub port: Option<u16>,
    /// The lines of output, in order.
    pub lines: Vec<ParsedLogLine>,
}

/// One line of output.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedLogLine {
    /// Line number in the file, from 1.
    pub number: usize,
    /// Seconds from the spawn to this line, if the log says so.
    pub at_seconds: Option<f64>,
    /// The stream, if the log says so.
    pub stream: Option<StreamName>,
    /// The line without its end.
    pub line: Vec<u8>,
}

impl ParsedLog {
    /// Parses a log: a transcript if its first line is an object with a time and a stream, otherwise plain lines.
    pub fn read(bytes: &[u8]) -> Self {
        let mut lines = bytes.split(|byte| *byte == b'\n').collect::<Vec<_>>();
        if lines.last().is_some_and(|last| last.is_empty()) {
            lines.pop();
        }
        let is_transcript = lines.first().and_then(|first| record(first)).is_some();
        let numbered = lines.into_iter().zip(1..);
        if is_transcript { Self::transcript(numbered) } else { Self::plain(numbered) }
    }

    fn transcript<'a>(lines: impl Iterator<Item = (&'a [u8], usize)>) -> Self {
        let mut log = Self { port: None, lines: Vec::new() };
        for (line, number) in lines {
            let Some((micros, stream, data)) = record(line) else { continue };
            if stream == "meta" {
                log.port = data["port"].as_u64().and_then(|port| port.try_into().ok());
            }
            let stream = StreamName::ALL.into_iter().find(|name| name.as_str() == stream);
            if let (Some(stream), Some(text)) = (stream, data.as_str()) {
                let line = text.as_bytes().to_vec();
                log.lines.push(ParsedLogLine { number, at_seconds: Some(micros / 1e6), stream: Some(stream), line });
            }
        }
        log
    }

    fn plain<'a>(lines: impl Iterator<Item = (&'a [u8], usize)>) -> Self {
        let plain = |(line, number): (&[u8], usize)| ParsedLogLine {
            number,
            at_seconds: stamp(line),
            stream: None,
            line: line.strip_suffix(b"\r").unwrap_or(line).to_vec(),
        };
        Self { port: None, lines: lines.map(plain).collect() }
    }
}

/// A line of a transcript: microseconds since the spawn, stream and data.
fn record(line: &[u8]) -> Option<(f64, String, Value)> {
    let mut record: Value = serde_json::from_slice(line).ok()?;
    Some((record["t_us"].as_f64()?, record["stream"].as_str()?.to_owned(), record["data"].take()))
}

/// Seconds since the server's start, as llama-server prints them: `M.SS.mmm.uuu`, or `time` (microseconds) in JSON.
fn stamp(line: &[u8]) -> Option<f64> {
    if line.starts_with(b"{") {
        let record: Value = serde_json::from_slice(line).ok()?;
        return record["time"].as_f64().map(|micros| micros / 1e6);
    }
    let text = std::str::from_utf8(line.split(|byte| *byte == b' ').next()?).ok()?;
    let parts: Vec<&str> = text.split('.').collect();
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let [minutes, seconds, millis, micros] = parts[..] else { return None };
    let fits = seconds.len() == 2 && millis.len() == 3 && micros.len() == 3 && parts.iter().all(is_number);
    let number = |part: &str| part.parse::<f64>().unwrap_or(0.0);
    // One division: a sum of fractions has digits that nobody wrote.
    fits.then(|| ((number(minutes) * 60.0 + number(seconds)) * 1e6 + number(millis) * 1e3 + number(micros)) / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transcript_has_streams_times_and_a_port() {
        let log = ParsedLog::read(
            b"{\"t_us\":0,\"stream\":\"meta\",\"data\":{\"port\":8001}}\n{\"t_us\":1500000,\"stream\":\"stdout\",\"data\":\"up\"}\n\
              {\"t_us\":2,\"stream\":\"health\",\"data\":{}}\n",
        );
        assert_eq!(log.port, Some(8001));
        let line =
            ParsedLogLine { number: 2, at_seconds: Some(1.5), stream: Some(StreamName::Stdout), line: b"up".to_vec() };
        assert_eq!(log.lines, [line]);
    }

    #[test]
    fn a_plain_log_has_the_times_that_its_lines_carry() {
        let log = ParsedLog::read(
            b"1.02.003.004 I up\r\nplain\n{\"type\":\"log\",\"time\":2500000,\"msg\":\"x\"}\n\xff\n127.0.0.1 x",
        );
        let times: Vec<_> = log.lines.iter().map(|line| line.at_seconds).collect();
        assert_eq!(times, [Some(62.003_004), None, Some(2.5), None, None]);
        assert_eq!((log.lines[0].number, &*log.lines[0].line), (1, &b"1.02.003.004 I up"[..]));
    }
}
