//! The output of servers.

use std::sync::Arc;

use llama_warden_events::{ProcessEnd, StreamName};

use crate::Promise;
use crate::bench::{Bench, id, on_runtime};

pub const PROMISES: &[Promise] = &[
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
        let mut bench = Bench::new("echo first; printf 'error: the reason' >&2; exit 1").await;
        for incarnation in 1..=20 {
            bench.launch(incarnation).await;
            assert_eq!(bench.exited().await.0, ProcessEnd::Exited { code: 1 });
            let stderr = bench.stage.lane().tail(&id(), Some(StreamName::Stderr), 100);
            assert_eq!(stderr.len() as u64, incarnation);
            assert_eq!(stderr.last().map(|line| line.bytes.as_slice()), Some(&b"error: the reason"[..]));
        }
        bench.end().await;
    });
}

fn bytes() {
    on_runtime(async {
        let mut bench = Bench::new(r"printf '\377\376\000\n' && printf 'after\n' && exit 9").await;
        bench.launch(1).await;
        assert_eq!(bench.exited().await.0, ProcessEnd::Exited { code: 9 }, "the second write did not fail");
        let lines = bench.stage.lane().tail(&id(), Some(StreamName::Stdout), 10);
        let lines: Vec<&[u8]> = lines.iter().map(|line| line.bytes.as_slice()).collect();
        assert_eq!(lines, [&b"\xff\xfe\0"[..], b"after"]);
        bench.end().await;
    });
}

fn pieces() {
    on_runtime(async {
        let mut bench = Bench::new(r"for c in r e a d y '\r\n'; do printf $c; sleep 0.01; done").await;
        bench.launch(1).await;
        bench.exited().await;
        assert_eq!(bench.lines(), ["ready"]);
        bench.end().await;
    });
}

fn long_line() {
    on_runtime(async {
        let mut bench = Bench::with_environment(&[("PATH", "/usr/bin:/bin")]).await;
        let mut server = bench.server("a", "echo up; head -c 100000000 /dev/zero | tr '\\0' x; echo; echo next");
        server.log_ring_bytes = 256 * 1024;
        bench.configure([server]).await;
        bench.launch(1).await;
        bench.printed("up").await;
        // From here on the kernel measures the peak anew.
        std::fs::write("/proc/self/clear_refs", "5").expect("write");
        let before = resident_kib();
        bench.exited().await;
        let grown = peak_kib().saturating_sub(before);
        let lengths: Vec<usize> = bench.lines().iter().map(String::len).collect();
        assert_eq!(lengths, [2, 64 * 1024, 4]);
        assert!(grown < 1024, "the peak of resident memory grew by {grown} KiB");
        bench.end().await;
    });
}

fn flood() {
    on_runtime(async {
        let body = "seq 200000 >&2 & seq 200000; wait";
        let mut bench = Bench::new(body).await;
        bench.launch(1).await;
        assert_eq!(bench.exited().await.0, ProcessEnd::Exited { code: 0 });
        for stream in StreamName::ALL {
            assert_eq!(bench.stage.lane().counters(&id(), stream).lines, 200_000, "{stream}");
        }
        bench.end().await;
    });
}

fn closed() {
    on_runtime(async {
        let mut bench = Bench::with_environment(&[("PATH", "/usr/bin:/bin")]).await;
        let mark = bench.path("mark");
        let body = format!("echo up; exec <&- >&- 2>&-; sleep 0.2; echo late > '{}'; exit 6", mark.display());
        let server = bench.server("a", &body);
        bench.configure([server]).await;
        bench.launch(1).await;
        assert_eq!(bench.exited().await.0, ProcessEnd::Exited { code: 6 });
        assert!(mark.exists(), "it went on after it had closed its streams");
        bench.end().await;
    });
}

fn keys() {
    on_runtime(async {
        let mut bench = Bench::with_environment(&[("PATH", "/usr/bin:/bin")]).await;
        let file = bench.path("keys");
        std::fs::write(&file, "sk-from-file\n").expect("write");
        let mut server = bench.server("a", "echo sk-from-file $MY_TOKEN $@");
        let help = "--model FNAME  x\\n--api-key-file FNAME  x\\n";
        server.binary = bench
            .write(
                "keyed",
                format!("#!/bin/sh\n[ \"$1\" = --help ] && printf %b '{help}' && exit\necho sk-from-file $MY_TOKEN\n"),
            )
            .into();
        server.api_key_file = Some(file);
        Arc::make_mut(&mut server.env).insert("MY_TOKEN".into(), "from-environment".into());
        bench.configure([server]).await;
        bench.launch(1).await;
        bench.exited().await;
        assert_eq!(bench.lines(), ["[redacted] [redacted]"]);
        bench.end().await;
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
