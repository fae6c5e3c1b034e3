//! The random behaviour of a stand-in: the script beside its model.

use fastrand::Rng;

/// Scripts, from well-behaved to hopeless. `max_life_s` bounds what is left if the soak itself is killed.
const SCRIPTS: [&str; 16] = [
    r#"{"max_life_s": 300}"#,
    r#"{"max_life_s": 300, "load_ms": 300, "load_progress": "lines"}"#,
    r#"{"max_life_s": 300, "load_ms": 1500, "silent": true}"#,
    r#"{"max_life_s": 300, "era": "2025-08", "load_ms": 50}"#,
    r#"{"max_life_s": 300, "ready_line": "early", "load_ms": 200}"#,
    r#"{"max_life_s": 300, "acts": [{"at": "start", "do": {"exit": {"code": 1, "last_words": "no"}}}]}"#,
    r#"{"max_life_s": 300, "load_ms": 400, "acts": [{"at": "loading", "after_ms": 50, "do": {"die": {"signal": "SIGSEGV"}}}]}"#,
    r#"{"max_life_s": 300, "acts": [{"at": "ready", "after_ms": 100, "do": {"exit": {"code": 3, "last_words": "oops"}}}]}"#,
    r#"{"max_life_s": 300, "acts": [{"at": "ready", "do": {"die": {"signal": "SIGABRT"}}}]}"#,
    r#"{"max_life_s": 300, "acts": [{"at": "ready", "do": {"flood": {"megabytes": 2, "stream": "stderr"}}}]}"#,
    r#"{"max_life_s": 300, "acts": [{"at": "ready", "do": {"huge_line": {"megabytes": 1}}}]}"#,
    r#"{"max_life_s": 300, "acts": [{"at": "ready", "do": {"close_stdio": {}}}]}"#,
    r#"{"max_life_s": 300, "health": "hang"}"#,
    r#"{"max_life_s": 300, "health": {"flap": [[0, 200], [300, 503], [900, 200]]}}"#,
    r#"{"max_life_s": 300, "term": "ignore"}"#,
    r#"{"max_life_s": 300, "term": {"slow": 400}}"#,
];

/// One of the scripts; a well-behaved one in half of the cases.
pub fn script(rng: &mut Rng) -> &'static str {
    if rng.bool() { SCRIPTS[0] } else { SCRIPTS[rng.usize(..SCRIPTS.len())] }
}
