//! Matchers: the verdict on a line depends on the line alone, whatever pieces it comes in and whatever came before.

use std::sync::LazyLock;

use llama_warden_detectors::{Matcher, Pack, PackSet, Verdict, message_text};
use llama_warden_events::StreamName;
use llama_warden_support::LineSplitter;

use crate::{generator, pieces};

static PACKS: LazyLock<PackSet> = LazyLock::new(PackSet::built_in);

/// Reads the input as the output of a server, with every built-in pack.
pub(crate) fn check(input: &[u8]) {
    let mut lines = Vec::new();
    let mut splitter = LineSplitter::default();
    splitter.feed(input, |line| lines.push(line.to_vec()));
    splitter.finish(|line| lines.push(line.to_vec()));
    let mut generator = generator(input);
    for pack in PACKS.iter() {
        for stream in StreamName::ALL {
            check_stream(pack, stream, input, &lines, &mut generator);
        }
    }
    for line in &lines {
        let text = message_text(line);
        assert!(!text.contains(['\r', '\0']), "{text:?}");
    }
}

fn check_stream(pack: &Pack, stream: StreamName, input: &[u8], lines: &[Vec<u8>], generator: &mut fastrand::Rng) {
    let mut matcher = pack.matcher(Some(8001));
    let whole: Vec<Verdict> = lines.iter().map(|line| matcher.on_line(stream, line)).collect();
    let mut in_pieces = Vec::new();
    let mut splitter = LineSplitter::default();
    for piece in pieces(input, generator) {
        splitter.feed(piece, |line| in_pieces.push(matcher.on_line(stream, line)));
    }
    splitter.finish(|line| in_pieces.push(matcher.on_line(stream, line)));
    assert_eq!(in_pieces, whole, "in pieces, with {pack:?}");

    for (line, verdict) in lines.iter().zip(whole) {
        let alone = pack.matcher(Some(8001)).on_line(stream, line);
        assert_eq!(alone, verdict, "alone: {:?}", line.escape_ascii().to_string());
        if let Verdict::Progress { percent: Some(percent) } | Verdict::Loading { percent: Some(percent) } = verdict {
            assert!((0.0..=100.0).contains(&percent), "{percent} %");
        }
        // A line that brings escape sequences may leave one open, which then swallows ours.
        if !line.contains(&0x1b) {
            let coloured = [b"\x1b[32m", line.as_slice(), b"\x1b[0m\r"].concat();
            assert_eq!(matcher.on_line(stream, &coloured), verdict, "coloured: {:?}", line.escape_ascii().to_string());
        }
    }
}
