//! The real parts: programs of others that some tests need. `cargo xtask test` provides all of them.

use std::path::PathBuf;

/// A program of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// llama.cpp's llama-server.
    LlamaServer,
    /// Prometheus, with promtool beside it.
    Prometheus,
}

impl Part {
    const fn variable(self) -> &'static str {
        match self {
            Self::LlamaServer => "LLAMA_WARDEN_TEST_LLAMA_SERVER",
            Self::Prometheus => "LLAMA_WARDEN_TEST_PROMETHEUS",
        }
    }

    const fn describe(self) -> &'static str {
        match self {
            Self::LlamaServer => "a real llama-server",
            Self::Prometheus => "a real Prometheus",
        }
    }

    /// Its path, where the environment names one.
    fn path(self) -> Option<PathBuf> {
        std::env::var_os(self.variable()).filter(|path| !path.is_empty()).map(PathBuf::from)
    }
}

/// The path of a real part, or `None`, and a line that says so, where a test has to be left out.
///
/// # Panics
/// When it is not there although `LLAMA_WARDEN_TEST_ALL` demands every part.
pub fn real(part: Part) -> Option<PathBuf> {
    if let Some(path) = part.path() {
        assert!(path.is_file(), "{} names {}, which does not exist", part.variable(), path.display());
        return Some(path);
    }
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let missing = format!("{test} (needs {}; run cargo xtask test)", part.describe());
    assert!(std::env::var_os("LLAMA_WARDEN_TEST_ALL").is_none(), "left out: {missing}");
    println!("left out: {missing}");
    None
}
