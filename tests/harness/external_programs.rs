//! The real parts: programs of others that some tests need. `cargo xtask test` provides all of them.

use std::path::PathBuf;

/// A program of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExternalProgram {
    /// llama.cpp's llama-server.
    LlamaServer,
    /// The one inside llama-cpp-python 0.3.2, of November 2024.
    LlamaServer0_3_2,
    /// The one inside llama-cpp-python 0.3.16, of August 2025.
    LlamaServer0_3_16,
    /// Prometheus, with promtool beside it.
    Prometheus,
}

impl ExternalProgram {
    const fn variable(self) -> &'static str {
        match self {
            Self::LlamaServer => "LLAMA_WARDEN_TEST_LLAMA_SERVER",
            Self::LlamaServer0_3_2 => "LLAMA_WARDEN_TEST_LLAMA_SERVER_0_3_2",
            Self::LlamaServer0_3_16 => "LLAMA_WARDEN_TEST_LLAMA_SERVER_0_3_16",
            Self::Prometheus => "LLAMA_WARDEN_TEST_PROMETHEUS",
        }
    }

    const fn describe(self) -> &'static str {
        match self {
            Self::LlamaServer => "a real llama-server",
            Self::LlamaServer0_3_2 => "a llama-server of 2024",
            Self::LlamaServer0_3_16 => "a llama-server of 2025",
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
pub fn external_program(part: ExternalProgram) -> Option<PathBuf> {
    match part.path() {
        Some(path) => {
            assert!(path.is_file(), "{} names {}, which does not exist", part.variable(), path.display());
            Some(path)
        }
        None => {
            leave_out(&format!("{}; run cargo xtask test", part.describe()));
            None
        }
    }
}

/// Whether this process may become another user; a line says so where it may not and a test has to be left out.
///
/// # Panics
/// When it may not although `LLAMA_WARDEN_TEST_ALL` demands everything.
pub fn is_root() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        leave_out("root");
    }
    is_root
}

fn leave_out(needs: &str) {
    let thread = std::thread::current();
    let missing = format!("{} (needs {needs})", thread.name().unwrap_or("a test"));
    assert!(std::env::var_os("LLAMA_WARDEN_TEST_ALL").is_none(), "left out: {missing}");
    println!("left out: {missing}");
}
