//! The way of output from bytes to lines: no line is lost or changed by how the bytes come, and little is held.

use std::borrow::Cow;

use llama_warden_bus::{FollowedLine, OutputKey, OutputLane, wall_time};
use llama_warden_component_kit::server;
use llama_warden_events::{Incarnation, StreamName};
use llama_warden_support::{LineSplitter, head_and_tail};

use crate::{generator, pieces};

/// The most that a line has. A splitter holds up to twice that before it cuts, and a piece, in a buffer of a power of two.
const MAX_LINE: usize = 64 << 10;

/// The size of a ring.
const RING: usize = 8 << 10;

/// Splits the input into lines, in pieces, and sends them through a ring.
pub(crate) fn check(input: &[u8]) {
    let mut generator = generator(input);
    // Long lines, which libFuzzer would never invent.
    let stream = match generator.u8(..8) {
        0 => Cow::Owned(input.repeat(1 + (3 * MAX_LINE) / input.len().max(1))),
        _ => Cow::Borrowed(input),
    };
    let expected = reference(&stream);
    let mut lines = Vec::new();
    let mut splitter = LineSplitter::default();
    for piece in pieces(&stream, &mut generator) {
        splitter.feed(piece, |line| lines.push(line.to_vec()));
        assert!(splitter.held_bytes() <= 4 * MAX_LINE, "{} bytes are held", splitter.held_bytes());
    }
    splitter.finish(|line| lines.push(line.to_vec()));
    assert_eq!(splitter.held_bytes(), 0, "nothing is held after the end");
    assert!(lines == expected, "{} lines of {} expected ones, or others", lines.len(), expected.len());
    check_ring(&lines);
}

/// The lines of a stream that comes whole.
fn reference(stream: &[u8]) -> Vec<Vec<u8>> {
    let mut lines: Vec<_> = stream.split(|byte| *byte == b'\n').map(last_segment).collect();
    // What stands behind the last line feed is a line only if it is more than nothing.
    if lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    lines.into_iter().map(|line| head_and_tail(line, MAX_LINE).into_owned()).collect()
}

/// What a terminal shows of a line with carriage returns: its last part that is more than nothing.
fn last_segment(line: &[u8]) -> &[u8] {
    line.split(|byte| *byte == b'\r').rfind(|segment| !segment.is_empty()).unwrap_or_default()
}

/// A follower gets each line or hears how many it lost; what is kept are the newest lines, whole, and no more than the ring holds.
fn check_ring(lines: &[Vec<u8>]) {
    let lane = OutputLane::default();
    let id = server("fuzz");
    let key = OutputKey { server: id.clone(), incarnation: Incarnation::new(1), stream: StreamName::Stderr };
    let mut sink = lane.open(&key, RING);
    let mut follower = lane.follow(&id, StreamName::Stderr, 0);
    let (mut seen, mut lost) = (0_usize, 0_u64);
    for (number, line) in lines.iter().enumerate() {
        sink.push(wall_time(), line);
        // Not after each line, so that the ring runs over.
        if number % 64 == 63 || number + 1 == lines.len() {
            loop {
                let followed = follower.try_next();
                if followed.is_empty() {
                    break;
                }
                for entry in followed {
                    match entry {
                        FollowedLine::Lost { lines } => lost += lines,
                        FollowedLine::Line(got) => {
                            let at = seen + usize::try_from(lost).unwrap_or(usize::MAX);
                            assert!(lines[at].starts_with(&got.bytes), "line {at} is another one");
                            assert!(
                                got.bytes.len() == lines[at].len() || got.bytes.len() > RING / 2,
                                "line {at} is cut"
                            );
                            seen += 1;
                        }
                    }
                }
            }
        }
    }
    assert_eq!(seen as u64 + lost, lines.len() as u64, "a line is followed or counted");
    let kept = lane.tail(&id, None, usize::MAX);
    assert!(kept.iter().map(|line| line.bytes.len()).sum::<usize>() <= RING, "the ring is larger than it may be");
    assert!(!kept.is_empty() || lines.is_empty(), "the newest line is kept");
    for (kept, line) in kept.iter().rev().zip(lines.iter().rev()) {
        assert!(line.starts_with(&kept.bytes), "what is kept are the newest lines");
    }
    assert_eq!(lane.counters(&id, StreamName::Stderr).lines, lines.len() as u64);
}
