//! Hands the lines of one launch about requests to the request log.

use llama_warden_bus::wall_time;
use llama_warden_events::{Incarnation, ServerId};
use llama_warden_requests::{RequestLine, RequestLog, TokenTiming};
use tokio::time::Instant;

/// The requests of one launch.
pub(crate) struct LaunchRequests {
    log: RequestLog,
    server: ServerId,
    launch: Incarnation,
    /// Before this, no request can have begun; `None` for a process that was taken over.
    earliest: Option<Instant>,
    /// Whether the pack knows how these builds print requests.
    is_known: bool,
    /// Whether there was a ready line. Builds print requests if they print that: both disappear with a lower verbosity.
    has_ready_line: bool,
    has_verdict: bool,
}

impl LaunchRequests {
    /// The requests of a launch that begins now.
    pub(crate) fn new(log: RequestLog, server: ServerId, launch: Incarnation) -> Self {
        log.begin(&server, launch);
        Self {
            log,
            server,
            launch,
            earliest: Some(Instant::now()),
            is_known: false,
            has_ready_line: false,
            has_verdict: false,
        }
    }

    /// The pack is chosen. A process that was taken over may end requests that began before, and printed its ready line then.
    pub(crate) fn expect(&mut self, is_known: bool, was_ready: bool) {
        self.is_known = is_known;
        if was_ready {
            self.earliest = None;
            self.has_ready_line |= self.log.prints(&self.server);
        }
    }

    /// Counts a line. One that names more time than there was is not the server's own.
    pub(crate) fn note(&self, line: RequestLine) {
        let milliseconds = match line {
            RequestLine::Prompt(TokenTiming { milliseconds, .. })
            | RequestLine::Decode(TokenTiming { milliseconds, .. }) => milliseconds,
            RequestLine::SlotTimings(_) | RequestLine::SlotBusy(_) | RequestLine::SlotReleased(_) => 0.0,
        };
        if self.earliest.is_none_or(|earliest| milliseconds <= earliest.elapsed().as_secs_f64() * 1e3) {
            self.log.note(&self.server, self.launch, line, wall_time());
        }
    }

    /// There was a ready line, which may come after the probe.
    pub(crate) fn on_ready_line(&mut self) {
        if !std::mem::replace(&mut self.has_ready_line, true) && self.has_verdict {
            self.tell();
        }
    }

    /// The launch is ready, or failed.
    pub(crate) fn on_verdict(&mut self) {
        self.has_verdict = true;
        self.tell();
    }

    fn tell(&self) {
        self.log.set_prints(&self.server, self.launch, self.is_known && self.has_ready_line);
    }
}

#[cfg(test)]
impl LaunchRequests {
    pub(crate) fn of_test() -> Self {
        Self::new(RequestLog::default(), ServerId::new("a").expect("valid"), Incarnation::new(1))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn decode(milliseconds: f64) -> RequestLine {
        RequestLine::Decode(TokenTiming { tokens: 2, milliseconds })
    }

    fn prints(requests: &LaunchRequests) -> bool {
        requests.log.prints(&requests.server)
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_took_longer_than_the_launch_is_not_counted() {
        let mut requests = LaunchRequests::of_test();
        tokio::time::advance(Duration::from_secs(2)).await;
        requests.note(decode(2_001.0));
        assert!(!prints(&requests));
        requests.note(decode(1_999.0));
        requests.expect(true, true);
        requests.note(decode(9_000.0));
        assert_eq!(requests.log.read(&requests.server, |record| record.requests()), Some(2));
    }

    #[tokio::test]
    async fn a_known_build_that_prints_its_ready_line_prints_requests() {
        for (is_known, has_line, expected) in [(true, true, true), (true, false, false), (false, true, false)] {
            for line_comes_first in [true, false] {
                let mut requests = LaunchRequests::of_test();
                requests.expect(is_known, false);
                if line_comes_first && has_line {
                    requests.on_ready_line();
                }
                requests.on_verdict();
                if !line_comes_first && has_line {
                    requests.on_ready_line();
                }
                assert_eq!(prints(&requests), expected, "{is_known} {has_line} {line_comes_first}");
            }
        }
    }
}
