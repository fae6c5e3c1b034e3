//! Runs the target `body`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| llama_warden_fuzz_targets::run("body", input));
