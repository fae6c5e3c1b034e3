//! Cleans a line: removes colours, carriage returns, NUL bytes and the log prefix, and takes a message out of its JSON.
//!
//! A line is copied only if something has to go from its middle, which is rare.
//!
//! Worked example, a coloured line as builds since 2026 write it to a terminal:
//!
//! ```text
//! \x1b[34m0.00.244.892\x1b[0m \x1b[32mI \x1b[0msrv  init: ready\r     input
//! 0.00.244.892 I srv  init: ready                                     strip_controls
//! srv  init: ready                                                    without_prefix: what patterns see
//! ```
//!
//! A line without a byte below the space, which nearly every line is, skips the first step: `has_control` finds that out in
//! one pass, 16 bytes at a time.

use std::borrow::Cow;

use crate::pack_file::StructuredSource;

const ESCAPE: u8 = 0x1b;

/// Cleans the lines of one launch.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LineCleaner {
    unwraps_json: bool,
}

/// A line as patterns see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CleanLine<'a> {
    /// The message.
    pub(crate) text: Cow<'a, [u8]>,
    /// The port of the child that wrote it: a router puts `[PORT] ` before the lines of its children.
    pub(crate) child: Option<u16>,
    /// Whether the line had a time or a level, or was JSON.
    pub(crate) has_prefix: bool,
}

impl<'a> From<&'a [u8]> for CleanLine<'a> {
    /// The line itself.
    fn from(line: &'a [u8]) -> Self {
        Self { text: Cow::Borrowed(line), child: None, has_prefix: false }
    }
}

impl LineCleaner {
    /// A cleaner that unwraps messages from these forms of structured output.
    pub(crate) fn new(structured: &[StructuredSource]) -> Self {
        Self { unwraps_json: structured.contains(&StructuredSource::LogJsonl) }
    }

    /// The message of a line: without terminal control, and without the prefixes or the JSON that builds since 2026 put around
    /// it.
    #[inline]
    pub(crate) fn clean(self, line: &[u8]) -> CleanLine<'_> {
        if !has_control(line) {
            return self.message(line);
        }
        // A carriage return at the end costs no copy.
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(first) = memchr::memchr3(ESCAPE, b'\r', 0, line) else { return self.message(line) };
        let mut clean = Vec::with_capacity(line.len());
        clean.extend_from_slice(&line[..first]);
        strip_controls(&line[first..], &mut clean);
        let CleanLine { text, child, has_prefix } = self.message(&clean);
        CleanLine { text: Cow::Owned(text.into_owned()), child, has_prefix }
    }

    #[inline]
    fn message(self, line: &[u8]) -> CleanLine<'_> {
        match line.first() {
            Some(b'0'..=b'9' | b'D' | b'I' | b'W' | b'E') => {
                let text = without_prefix(line);
                CleanLine { text: Cow::Borrowed(text), child: None, has_prefix: text.len() < line.len() }
            }
            Some(b'{' | b'[') => self.wrapped_message(line),
            _ => line.into(),
        }
    }

    /// The message in JSON, behind the port of a child, or both: a router and its child may each write JSON.
    fn wrapped_message(self, line: &[u8]) -> CleanLine<'_> {
        let outer = self.json_message(line);
        let has_json = outer.is_some();
        match outer.unwrap_or(Cow::Borrowed(line)) {
            Cow::Borrowed(text) => self.child_message(text, has_json),
            Cow::Owned(text) => {
                let CleanLine { text, child, has_prefix } = self.child_message(&text, has_json);
                CleanLine { text: Cow::Owned(text.into_owned()), child, has_prefix }
            }
        }
    }

    /// The message of a line that may be a child's.
    fn child_message(self, line: &[u8], has_prefix: bool) -> CleanLine<'_> {
        let Some((child, rest)) = child_line(line) else { return CleanLine { has_prefix, ..line.into() } };
        let text = self.json_message(rest).unwrap_or_else(|| Cow::Borrowed(without_prefix(rest)));
        CleanLine { has_prefix: has_prefix || text.len() < rest.len(), text, child: Some(child) }
    }

    fn json_message(self, line: &[u8]) -> Option<Cow<'_, [u8]>> {
        if self.unwraps_json { json_message(line) } else { None }
    }
}

/// The message of a line for people: without terminal control, and without the time stamp, thread and level that builds of
/// any era put around it.
pub fn message_text(line: &[u8]) -> String {
    let mut clean = Vec::with_capacity(line.len());
    strip_controls(line, &mut clean);
    let message = LineCleaner { unwraps_json: true }.message(&clean);
    let text = String::from_utf8_lossy(&message.text);
    let text = structured_text(&text).unwrap_or_else(|| text.trim().to_owned());
    // JSON brings its own: `"\r"` is a carriage return only once it is read.
    let mut clean = Vec::with_capacity(text.len());
    strip_controls(text.as_bytes(), &mut clean);
    String::from_utf8_lossy(&clean).into_owned()
}

/// The message of a line of 2024-04 to 2024-08, ` ERR [  main] text | tid="1" timestamp=2 port="3"`, or of the JSON before.
fn structured_text(line: &str) -> Option<String> {
    if let Some((head, fields)) = line.split_once(" | tid=") {
        let (_, text) = head.split_once("] ")?;
        let rest = fields.split_once(" timestamp=").and_then(|(_, rest)| rest.split_once(' ')).map(|(_, rest)| rest);
        return Some(rest.map_or_else(|| text.to_owned(), |rest| format!("{text} | {rest}")));
    }
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).ok()?;
    let text = fields.get("msg").or_else(|| fields.get("message"))?.as_str()?.to_owned();
    let is_frame = |name: &str| {
        matches!(name, "msg" | "message" | "tid" | "timestamp" | "level" | "function" | "line" | "time" | "type")
    };
    let rest = fields.iter().filter(|(name, _)| !is_frame(name)).map(|(name, value)| format!("{name}={value}"));
    let rest = rest.collect::<Vec<_>>().join(" ");
    Some(if rest.is_empty() { text } else { format!("{text} | {rest}") })
}

/// Whether the line has a byte below the space. One minimum over all bytes stands for a search for the three that matter
/// (ESC, CR, NUL); a tab passes for one too, and only costs the search that follows.
///
/// The minimum is taken lane by lane: compilers turn `min_lanes` into one vector instruction. A line of 40 bytes is read as
/// the blocks 0..16 and 16..32, then 24..40: overlapping the last block is cheaper than a loop over single bytes.
fn has_control(line: &[u8]) -> bool {
    let (blocks, rest) = line.as_chunks();
    let mut least = blocks.iter().fold([u8::MAX; 16], min_lanes);
    let rest = match line.last_chunk() {
        Some(last) => {
            least = min_lanes(least, last);
            u8::MAX
        }
        // Shorter than one block.
        None => rest.iter().fold(u8::MAX, |least, byte| least.min(*byte)),
    };
    least.iter().fold(rest, |least, byte| least.min(*byte)) < b' '
}

/// The lesser byte of each lane.
fn min_lanes(mut least: [u8; 16], block: &[u8; 16]) -> [u8; 16] {
    for (least, byte) in least.iter_mut().zip(block) {
        *least = (*least).min(*byte);
    }
    least
}

/// Appends `bytes` to `out` without escape sequences, carriage returns and NUL bytes.
pub fn strip_controls(bytes: &[u8], out: &mut Vec<u8>) {
    let mut rest = bytes;
    while let Some(at) = memchr::memchr3(ESCAPE, b'\r', 0, rest) {
        out.extend_from_slice(&rest[..at]);
        rest = if rest[at] == ESCAPE { after_escape(&rest[at + 1..]) } else { &rest[at + 1..] };
    }
    out.extend_from_slice(rest);
}

/// The bytes after an escape sequence, whose ESC is already read. Knows the three forms of ECMA-48: control sequences
/// (`ESC [ … final`), operating system commands (`ESC ] … BEL` or `… ESC \`), and two-byte escapes. A sequence that is cut
/// off by the end of the line swallows the rest.
fn after_escape(rest: &[u8]) -> &[u8] {
    match rest.first() {
        Some(b'[') => {
            let end = rest[1..].iter().position(|byte| (0x40..=0x7e).contains(byte));
            end.map_or(&[], |end| &rest[end + 2..])
        }
        Some(b']') => match memchr::memchr2(0x07, ESCAPE, rest) {
            Some(end) if rest[end] == ESCAPE => rest.get(end + 2..).unwrap_or_default(),
            Some(end) => &rest[end + 1..],
            None => &[],
        },
        Some(_) => &rest[1..],
        None => &[],
    }
}

/// The bytes after the time `M.SS.mmm.uuu ` and the level `L `, of which builds may write both, one or none.
fn without_prefix(line: &[u8]) -> &[u8] {
    let rest = without_time(line).unwrap_or(line);
    match rest {
        [b'D' | b'I' | b'W' | b'E', b' ', text @ ..] => text,
        _ => rest,
    }
}

/// The bytes after a time in minutes, seconds, milliseconds and microseconds, which is the default since b9760.
fn without_time(line: &[u8]) -> Option<&[u8]> {
    let minutes = line.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if minutes == 0 {
        return None;
    }
    let (time, rest) = line[minutes..].split_first_chunk::<12>()?;
    let [dot, s, t, dot2, m, l, i, dot3, u, v, w, space] = time;
    let fits = [dot, dot2, dot3] == [&b'.'; 3]
        && *space == b' '
        && [s, t, m, l, i, u, v, w].into_iter().all(u8::is_ascii_digit);
    fits.then_some(rest)
}

/// The port of a router's child, and its line. A longer number is the clock of 2023.
fn child_line(line: &[u8]) -> Option<(u16, &[u8])> {
    let line = line.strip_prefix(b"[")?;
    let digits = line.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (port, rest) = line.split_at_checked(digits).filter(|_| (2..=5).contains(&digits))?;
    Some((std::str::from_utf8(port).ok()?.parse().ok()?, rest.strip_prefix(b"] ")?))
}

/// The message of a line of `--log-jsonl`. That writes its keys in a fixed order, with `msg` last, so that no JSON parser is
/// needed unless the message itself is escaped.
fn json_message(line: &[u8]) -> Option<Cow<'_, [u8]>> {
    const KEY: &[u8] = b"\"msg\":";
    line.strip_prefix(b"{\"type\":\"log\",")?;
    // Only numbers and a level come before the message, so the first `"msg":` is the key.
    let quoted = line[memchr::memmem::find(line, KEY)? + KEY.len()..].strip_suffix(b"}")?;
    let message = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let message = message.strip_suffix(b"\\n").unwrap_or(message);
    if memchr::memchr(b'\\', message).is_none() {
        return Some(Cow::Borrowed(message));
    }
    let mut decoded: String = serde_json::from_slice(quoted).ok()?;
    decoded.truncate(decoded.trim_end_matches('\n').len());
    Some(Cow::Owned(decoded.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] = b"srv  llama_server: listening on http://127.0.0.1:8080";

    fn clean(line: &[u8]) -> Vec<u8> {
        LineCleaner::new(&[StructuredSource::LogJsonl]).clean(line).text.into_owned()
    }

    proptest::proptest! {
        #[test]
        fn a_control_byte_is_seen_wherever_it_stands(line in proptest::collection::vec(0x1c_u8.., 0..70)) {
            proptest::prop_assert_eq!(has_control(&line), line.iter().any(|byte| *byte < b' '));
        }
    }

    #[test]
    fn a_message_is_the_same_however_it_is_wrapped() {
        let wrapped: [&[u8]; 8] = [
            b"srv  llama_server: listening on http://127.0.0.1:8080",
            b"srv  llama_server: listening on http://127.0.0.1:8080\r",
            b"0.00.022.002 I srv  llama_server: listening on http://127.0.0.1:8080",
            b"123.00.022.002 I srv  llama_server: listening on http://127.0.0.1:8080",
            b"\x1b[34m0.00.244.892\x1b[0m \x1b[32mI \x1b[0msrv  llama_server: listening on http://127.0.0.1:8080",
            b"srv  llama_server: \0listening \0on http://127.0.0.1:8080\0\r\r",
            b"\x1b]0;title\x07srv  llama_server: listening on \x1b]8;;x\x1b\\http://127.0.0.1:8080",
            b"{\"type\":\"log\",\"time\":1,\"level\":\"info\",\"msg\":\"srv  llama_server: listening on http://127.0.0.1:8080\\n\"}",
        ];
        for line in wrapped {
            assert_eq!(clean(line), MESSAGE, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn what_only_looks_like_a_prefix_stays() {
        for line in [
            &b"0.00.022 I srv"[..],
            b"12",
            b"0.",
            b"INFO x",
            b"[1] x",
            b"[123456] x",
            b"[8001]x",
            b"{\"type\":\"log\"}",
            b"{\"level\":1}",
        ] {
            assert_eq!(clean(line), line, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn a_json_message_is_decoded_and_stays_as_it_is_for_a_pack_that_does_not_read_it() {
        let line = br#"{"type":"log","time":1,"level":"info","msg":"load_model: \"C:\\a\"\n"}"#;
        assert_eq!(clean(line), br#"load_model: "C:\a""#);
        assert_eq!(&*LineCleaner::default().clean(line).text, line.as_slice());
        let cut = br#"{"type":"log","time":1,"level":"info","msg":"load_mo"#;
        assert_eq!(clean(cut), cut);
    }

    #[test]
    fn a_message_for_people_carries_no_time_stamp_of_any_era() {
        let cases = [
            (
                "0.00.080.342 E srv  start: couldn't bind HTTP server socket",
                "srv  start: couldn't bind HTTP server socket",
            ),
            (
                " ERR [    main] couldn't bind HTTP server socket | tid=\"1405\" timestamp=1795353883 port=\"8001\"",
                "couldn't bind HTTP server socket | port=\"8001\"",
            ),
            ("INFO [ update_slots] all slots are idle | tid=\"1405\" timestamp=1795353883", "all slots are idle"),
            (
                r#"{"timestamp":1706630400,"level":"ERROR","function":"load_model","line":1,"message":"unable to load model","model":"a.gguf"}"#,
                "unable to load model | model=\"a.gguf\"",
            ),
            (r#"{"type":"log","time":1,"level":"error","msg":"main: exiting\n"}"#, "main: exiting"),
            ("\u{1b}[31m  error: unknown argument: --x\u{1b}[0m\r", "error: unknown argument: --x"),
            (r#"{"type":"log","time":1,"level":"error","msg":"\u001b[31mmain:\r exiting\u0000"}"#, "main: exiting"),
            (r#"{"level":"ERROR","message":"\u001b]0;title\u0007no","model":"a\r"}"#, "no | model=\"a\\r\""),
            ("", ""),
        ];
        for (line, expected) in cases {
            assert_eq!(message_text(line.as_bytes()), expected);
        }
    }

    #[test]
    fn a_cut_off_escape_sequence_swallows_only_itself() {
        for line in [&b"abc\x1b"[..], b"abc\x1b[", b"abc\x1b[31", b"abc\x1b]8;;", b"abc\x1b]8;;\x1b"] {
            assert_eq!(clean(line), b"abc", "{line:?}");
        }
    }

    #[test]
    fn a_plain_line_is_not_copied() {
        let line = b"llama_context: n_ctx = 512".to_vec();
        assert_eq!(LineCleaner::default().clean(&line).text.as_ptr(), line.as_ptr());
    }
}
