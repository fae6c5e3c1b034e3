//! What tests measure about faults, for the generated page `docs/faults.md`.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

/// The variable that names the file to which measurements are appended; `cargo xtask faults --measure` sets it.
const FILE: &str = "LLAMA_WARDEN_TEST_MEASURES";

/// Records how long something took, for the row of fault `code`. Of several measurements, the page shows the longest.
///
/// # Panics
/// If the file that the environment names cannot be written.
pub fn measured(code: &str, what: &str, took: Duration) {
    let milliseconds = took.as_secs_f64() * 1000.0;
    println!("measured for {code}: {what} {milliseconds:.1} ms");
    let Some(path) = std::env::var_os(FILE) else { return };
    let mut file = File::options().create(true).append(true).open(path).expect("the file can be written");
    // One write, since tests run side by side.
    file.write_all(format!("{code}\t{what}\t{milliseconds:.1}\n").as_bytes()).expect("the file can be written");
}
