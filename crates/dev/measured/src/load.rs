//! wrk, which asks for the same again and again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use llama_warden_test_parts::error::{Error, OnPath};
use llama_warden_test_parts::{proxies, shell};

/// The core that a load and what it asks run on: over two, a latency is that of the hypervisor.
pub const CORE: &str = "0";

/// A request that is sent again and again.
#[derive(Debug)]
pub struct Load {
    wrk: PathBuf,
    script: PathBuf,
}

/// What wrk says of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoadReport {
    /// Whole answers.
    pub requests: f64,
    /// The median of the times until they were whole, in microseconds.
    pub p50: f64,
}

impl Load {
    /// Prepares requests with this body.
    ///
    /// # Errors
    /// When wrk cannot be provided, or its script cannot be written into `folder`.
    pub fn write(folder: &Path, body: &str) -> Result<Self, Error> {
        let script = folder.join(format!("load-{}.lua", body.len()));
        let text = format!(
            "wrk.method = \"POST\"\nwrk.headers[\"Content-Type\"] = \"application/json\"\nwrk.body = [[{body}]]\n"
        );
        fs::write(&script, text).on("write", &script)?;
        Ok(Self { wrk: proxies::wrk()?, script })
    }

    /// Sends requests to a port for `time`.
    ///
    /// # Errors
    /// When an answer is an error, or a connection breaks.
    pub fn run(&self, port: u16, connections: u32, time: Duration) -> Result<LoadReport, Error> {
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", CORE]).arg(&self.wrk).args(["--latency", "--timeout", "20s", "--threads", "1"]);
        command.args(["--connections", &connections.to_string(), "--duration", &format!("{}s", time.as_secs())]);
        command.arg("--script").arg(&self.script).arg(format!("http://127.0.0.1:{port}/v1/chat/completions"));
        let said = shell::read(&mut command)?;
        let is_good = !said.contains("Non-2xx") && !said.contains("Socket errors");
        let report = LoadReport::parse(&said).filter(|report| is_good && report.requests > 0.0);
        report.ok_or_else(|| Error::missing(format!("requests to port {port} went wrong:\n{said}"), "run it again"))
    }
}

impl LoadReport {
    fn parse(said: &str) -> Option<Self> {
        let lines = || said.lines().map(str::trim);
        let requests = lines().find_map(|line| line.split_once(" requests in ")?.0.parse().ok())?;
        let p50 = lines().find_map(|line| microseconds(line.strip_prefix("50%")?.trim()))?;
        Some(Self { requests, p50 })
    }
}

fn microseconds(text: &str) -> Option<f64> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6)];
    let (number, factor) = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    number.parse::<f64>().ok().map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_of_wrk_is_read() {
        let said = "Running 1s test @ http://127.0.0.1:1/\n  1 threads and 1 connections\n  Latency Distribution\n     \
                    50%   84.00us\n     75%    1.20ms\n  14543 requests in 1.10s, 4.87MB read\nRequests/sec:  13220.1\n";
        assert_eq!(LoadReport::parse(said), Some(LoadReport { requests: 14543.0, p50: 84.0 }));
        assert_eq!([microseconds("1.20ms"), microseconds("2.00s"), microseconds("x")], [Some(1200.0), Some(2e6), None]);
    }
}
