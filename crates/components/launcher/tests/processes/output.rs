//! The output of servers.

use std::sync::Arc;

use llama_warden_events::{ProcessEnd, StreamName};

use crate::TestCase;
use crate::fixture::{LauncherFixture, id, on_runtime};

pub const TESTS: &[TestCase] = &[
    ("the_last_line_is_there_before_the_exit_is_heard_also_without_a_line_end", last_line),
    ("bytes_that_are_not_text_are_kept_and_break_nothing", bytes),
    ("a_line_in_pieces_is_one_line", pieces),
    ("one_line_of_100_mb_takes_less_than_a_mib", long_line),
    ("a_flood_on_both_streams_is_read_to_the_end", flood),
    ("closed_streams_are_not_an_exit", closed),
    ("keys_are_redacted_from_the_output", keys),
];

fn last_line() {
    on_runtime(async {
        let mut fixture = LauncherFixture::new("echo first; printf 'error: the reason' >&2; exit 1").await;
        for incarnation in 1..=20 {
            fixture.launch(incarnation).await;
            assert_eq!(fixture.exited().await.0, ProcessEnd::Exited { code: 1 });
            let stderr = fixture.bus.lane().tail(&id(), Some(StreamName::Stderr), 100);
            assert_eq!(stderr.len() as u64, incarnation);
            assert_eq!(stderr.last().map(|line| line.bytes.as_slice()), Some(&b"error: the reason"[..]));
        }
        fixture.end().await;
    });
}

fn bytes() {
    on_runtime(async {
        let mut fixture = LauncherFixture::new(r"printf '\377\376\000\n' && printf 'after\n' && exit 9").await;
        fixture.launch(1).await;
        assert_eq!(fixture.exited().await.0, ProcessEnd::Exited { code: 9 }, "the second write did not fail");
        let lines = fixture.bus.lane().tail(&id(), Some(StreamName::Stdout), 10);
        let lines: Vec<&[u8]> = lines.iter().map(|line| line.bytes.as_slice()).collect();
        assert_eq!(lines, [&b"\xff\xfe\0"[..], b"after"]);
        fixture.end().await;
    });
}

fn pieces() {
    on_runtime(async {
        let mut fixture = LauncherFixture::new(r"for c in r e a d y '\r\n'; do printf $c; sleep 0.01; done").await;
        fixture.launch(1).await;
        fixture.exited().await;
        assert_eq!(fixture.lines(), ["ready"]);
        fixture.end().await;
    });
}

fn long_line() {
    on_runtime(async {
        let mut fixture = LauncherFixture::with_environment(&[("PATH", "/usr/bin:/bin")]).await;
        let mut server = fixture.server("a", "echo up; head -c 100000000 /dev/zero | tr '\\0' x; echo; echo next");
        server.log_ring_bytes = 256 * 1024;
        fixture.configure([server]).await;
        fixture.launch(1).await;
        fixture.printed("up").await;
        // From here on the kernel measures the peak anew.
        std::fs::write("/proc/self/clear_refs", "5").expect("write");
        let before = resident_kib();
        fixture.exited().await;
        let grown = peak_kib().saturating_sub(before);
        let lengths: Vec<usize> = fixture.lines().iter().map(String::len).collect();
        assert_eq!(lengths, [2, 64 * 1024, 4]);
        assert!(grown < 1024, "the peak of resident memory grew by {grown} KiB");
        fixture.end().await;
    });
}

fn flood() {
    on_runtime(async {
        let body = "seq 200000 >&2 & seq 200000; wait";
        let mut fixture = LauncherFixture::new(body).await;
        fixture.launch(1).await;
        assert_eq!(fixture.exited().await.0, ProcessEnd::Exited { code: 0 });
        for stream in StreamName::ALL {
            assert_eq!(fixture.bus.lane().counters(&id(), stream).lines, 200_000, "{stream}");
        }
        fixture.end().await;
    });
}

fn closed() {
    on_runtime(async {
        let mut fixture = LauncherFixture::with_environment(&[("PATH", "/usr/bin:/bin")]).await;
        let mark = fixture.path("mark");
        let body = format!("echo up; exec <&- >&- 2>&-; sleep 0.2; echo late > '{}'; exit 6", mark.display());
        let server = fixture.server("a", &body);
        fixture.configure([server]).await;
        fixture.launch(1).await;
        assert_eq!(fixture.exited().await.0, ProcessEnd::Exited { code: 6 });
        assert!(mark.exists(), "it went on after it had closed its streams");
        fixture.end().await;
    });
}

fn keys() {
    on_runtime(async {
        let mut fixture = LauncherFixture::with_environment(&[("PATH", "/usr/bin:/bin")]).await;
        let file = fixture.path("keys");
        std::fs::write(&file, "sk-from-file\n").expect("write");
        let mut server = fixture.server("a", "echo sk-from-file $MY_TOKEN $@");
        let help = "--model FNAME  x\\n--api-key-file FNAME  x\\n";
        server.binary = fixture
            .write(
                "keyed",
                format!("#!/bin/sh\n[ \"$1\" = --help ] && printf %b '{help}' && exit\necho sk-from-file $MY_TOKEN\n"),
            )
            .into();
        server.api_key_file = Some(file);
        Arc::make_mut(&mut server.env).insert("MY_TOKEN".into(), "from-environment".into());
        fixture.configure([server]).await;
        fixture.launch(1).await;
        fixture.exited().await;
        assert_eq!(fixture.lines(), ["[redacted] [redacted]"]);
        fixture.end().await;
    });
}

fn resident_kib() -> u64 {
    status("VmRSS:")
}

fn peak_kib() -> u64 {
    status("VmHWM:")
}

fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("readable");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("is listed");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
