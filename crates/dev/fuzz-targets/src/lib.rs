//! Promises that hold for any bytes: one function for each reader of bytes that others have written.
//!
//! A function takes any bytes, gives them to the code that reads them in the product, and panics where a promise of that code is
//! not kept. The programs in `fuzz/` call one function each with what libFuzzer invents (`cargo xtask fuzz`); the test
//! `inputs` calls all of them with the inputs in `fuzz/corpus` and with those in `fuzz/regressions`, which once broke a promise.
//!
//! An input is what the code reads, as it is, so that a person can write one. What else a function needs it takes from a
//! generator whose seed is the input: an input always does the same.

#![expect(clippy::panic, clippy::expect_used, reason = "a panic is how a broken promise is told")]

mod body;
mod configuration;
mod dialect;
mod event_log;
mod gguf;
mod help;
mod http;
mod lines;
mod matchers;
mod pack;
mod redactor;
mod state_files;

/// A function for any bytes, by the name of its program and of its folders of inputs.
pub type FuzzTarget = (&'static str, fn(&[u8]));

/// Every function.
pub const TARGETS: [FuzzTarget; 12] = [
    ("body", body::check),
    ("configuration", configuration::check),
    ("dialect", dialect::check),
    ("event-log", event_log::check),
    ("gguf", gguf::check),
    ("help", help::check),
    ("http", http::check),
    ("lines", lines::check),
    ("matchers", matchers::check),
    ("pack", pack::check),
    ("redactor", redactor::check),
    ("state-files", state_files::check),
];

/// Calls the function called `name`.
///
/// # Panics
/// If there is none, or it finds a broken promise.
pub fn run(name: &str, input: &[u8]) {
    let (_, check) = TARGETS.iter().find(|(target, _)| *target == name).expect("a name of the table");
    check(input);
}

/// A generator that gives the same numbers for the same input.
fn generator(input: &[u8]) -> fastrand::Rng {
    // FNV-1a, which is stable, unlike the hash of the standard library.
    let hash = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    fastrand::Rng::with_seed(input.iter().fold(0xcbf2_9ce4_8422_2325, hash))
}

/// Cuts bytes into pieces: of one byte, of a few, or of many.
fn pieces<'a>(bytes: &'a [u8], generator: &mut fastrand::Rng) -> Vec<&'a [u8]> {
    let most = [1, 7, 300, 70_000][generator.usize(..4)];
    let mut pieces = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(generator.usize(1..=most).min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces
}

/// Checks that a line and a column, both from 1, are a place in a text or directly behind it.
fn check_place(text: &str, line: usize, column: usize) {
    let lines = text.split('\n').count();
    assert!((1..=lines).contains(&line), "line {line} of {lines}");
    let length = text.split('\n').nth(line - 1).map_or(0, |line| line.chars().count());
    assert!((1..=length + 1).contains(&column), "column {column} of {length} in line {line}");
}
