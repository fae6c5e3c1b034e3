//! A matcher for an imaginary fork of llama-server that counts its layers and speaks of geese.
//!
//! A detector pack cannot compute. This fork prints `goose: layer 12 of 48`, which is a percentage only after a division, and
//! confirms its ready line by a checksum of its port, so that the line cannot be spoofed.

use llama_warden::plugin::{FailureReason, Matcher, ServerSpec, StreamName, Verdict};

/// Reads one launch of the fork.
#[derive(Debug)]
pub struct GooseMatcher {
    port: u16,
}

impl GooseMatcher {
    /// A matcher for a launch that was given `port`.
    pub const fn new(port: u16) -> Self {
        Self { port }
    }

    /// The matcher for servers of the models that only the fork runs; others are left to their detector packs.
    pub fn for_server(server: &ServerSpec, port: u16) -> Option<Box<dyn Matcher>> {
        let model = server.model.file_name()?.to_str()?;
        if model.starts_with("goose") { Some(Box::new(Self::new(port))) } else { None }
    }

    /// The number that the fork prints after its ready line.
    pub fn checksum(port: u16) -> u16 {
        port % 97
    }
}

impl Matcher for GooseMatcher {
    fn on_line(&mut self, stream: StreamName, line: &[u8]) -> Verdict {
        let Some(text) = std::str::from_utf8(line).ok().and_then(|line| line.strip_prefix("goose: ")) else {
            return Verdict::Nothing;
        };
        if let Some(layers) = text.strip_prefix("layer ") {
            return Verdict::Progress { percent: percent(layers) };
        }
        match text.split_once(' ') {
            Some(("landed", sum)) if stream == StreamName::Stdout && sum.parse() == Ok(Self::checksum(self.port)) => {
                Verdict::Ready
            }
            // Ranks order the failures of one launch: the lowest is what it is said to have failed of.
            Some(("feathers", "exhausted")) => Verdict::Failure { reason: FailureReason::OutOfMemory, rank: 0 },
            _ => Verdict::Nothing,
        }
    }
}

/// `12 of 48` is 25.
fn percent(layers: &str) -> Option<f64> {
    let (done, all) = layers.split_once(" of ")?;
    let (done, all): (f64, f64) = (done.parse().ok()?, all.parse().ok()?);
    (all > 0.0 && done <= all).then(|| 100.0 * done / all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_fork_are_understood() {
        let mut matcher = GooseMatcher::new(8001);
        let cases: [(&[u8], Verdict); 6] = [
            (b"goose: layer 12 of 48", Verdict::Progress { percent: Some(25.0) }),
            (b"goose: layer x of 0", Verdict::Progress { percent: None }),
            (b"goose: landed 47", Verdict::Ready),
            (b"goose: landed 48", Verdict::Nothing),
            (b"goose: feathers exhausted", Verdict::Failure { reason: FailureReason::OutOfMemory, rank: 0 }),
            (b"\xff a goose: landed 47", Verdict::Nothing),
        ];
        for (line, expected) in cases {
            assert_eq!(matcher.on_line(StreamName::Stdout, line), expected, "{}", String::from_utf8_lossy(line));
        }
    }
}
