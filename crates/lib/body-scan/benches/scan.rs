//! How fast bodies are searched for their model while they come.
//!
//! Run by `cargo xtask bench --only router` as `cargo bench -p llama-warden-body-scan --bench scan -- ROUNDS`. Each line has a label, the
//! megabytes per second of the scanner, and those of a count of the quotes in the same bytes.

use std::hint::black_box;
use std::time::Instant;

use http::HeaderMap;
use llama_warden_body_scan::BodyScanner;

const BYTES: usize = 16 << 20;
/// What one read of a socket brings.
const CHUNK: usize = 16 << 10;

fn main() {
    let rounds = std::env::args().nth(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(5_u32);
    let bodies = [
        ("text", conversation()),
        ("image", image()),
        ("messages", messages(r#""role": "user", "content": "Yes, but what does it cost, and \"when\"?""#)),
        ("indented", messages("\n      \"role\": \"user\",\n      \"content\": \"Yes, but what does it cost?\"\n    ")),
        ("foreign", messages(&format!(r#""content": "{}""#, "Über den Fluß führt eine Brücke; ".repeat(20)))),
        ("ideographs", messages(&format!(r#""content": "{}""#, "文字の数だけ意味がある。".repeat(50)))),
        ("escaped", messages(&format!(r#""content": "{}""#, r"\u6587\u5b57\u306e\u6570".repeat(50)))),
        ("tokens", messages(&format!(r#""prompt": [{}0]"#, "151644, 872, 198, ".repeat(100)))),
    ];
    for _ in 0..rounds {
        for (label, body) in &bodies {
            let scanned = speed(body, |chunks| {
                let mut scanner = BodyScanner::new(&HeaderMap::new());
                chunks.for_each(|chunk| scanner.feed(chunk));
                assert_eq!(black_box(&scanner).model(), Some("last"));
            });
            let counted = speed(body, |chunks| {
                black_box(chunks.map(|chunk| memchr::memchr_iter(b'"', chunk).count()).sum::<usize>());
            });
            println!("{label} {scanned} {counted}");
        }
    }
}

fn speed(body: &[u8], read: impl FnOnce(&mut dyn Iterator<Item = &[u8]>)) -> f64 {
    let began = Instant::now();
    read(&mut body.chunks(CHUNK));
    body.len() as f64 / 1e6 / began.elapsed().as_secs_f64()
}

/// Messages as a chat has them, with an escape in each line. The model comes last.
fn conversation() -> Vec<u8> {
    let line = "and then he said \\\"so be it\\\", which nobody had thought of before that evening came\\n";
    let message = format!(r#"{{"role": "user", "content": "{}"}}"#, line.repeat(12));
    let messages = vec![message; BYTES / (12 * line.len())].join(", ");
    format!(r#"{{"messages": [{messages}], "model": "last"}}"#).into_bytes()
}

/// Many messages with these members. The model comes last.
fn messages(members: &str) -> Vec<u8> {
    let messages = vec![format!("{{{members}}}"); BYTES / (members.len() + 4)].join(", ");
    format!(r#"{{"messages": [{messages}], "model": "last"}}"#).into_bytes()
}

/// One picture in base64.
fn image() -> Vec<u8> {
    let picture = "iVBORw0KGgoAAAANSUhEUgAA+/8AAAAA".repeat(BYTES / 32);
    let url = format!(r#"{{"type": "image_url", "image_url": {{"url": "data:image/png;base64,{picture}"}}}}"#);
    format!(r#"{{"messages": [{{"role": "user", "content": [{url}]}}], "model": "last"}}"#).into_bytes()
}
