//! The ways out: an exit code, or a signal's default action.

use std::{os::unix::process::CommandExt, process::Command};

use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::{SigSet, Signal, raise},
};

use crate::output::{self, Stream};

/// The exit code of a script that cannot be followed.
pub(crate) const BAD_SCRIPT: i32 = 64;

/// Whether the kernel may leave a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CoreDump {
    Allowed,
    Forbidden,
}

/// Ends the process with `code`.
pub(crate) fn leave(code: i32) -> ! {
    std::process::exit(code)
}

/// Ends the process by the default action of `signal`.
pub(crate) fn die(signal: Signal, core: CoreDump) -> ! {
    limit_core(core);
    if signal == Signal::SIGPIPE {
        die_of_a_broken_pipe();
    }
    let mut set = SigSet::empty();
    set.add(signal);
    // Failing leaves the signal blocked, and the line below says that nothing happened.
    let _ = set.thread_unblock();
    // Rust's handler for stack overflows takes the first SIGSEGV or SIGBUS and only restores the default action.
    for _ in 0..2 {
        let _ = raise(signal);
    }
    output::write_text(Stream::Stderr, &format!("stand-in: {signal} does not kill\n"));
    leave(BAD_SCRIPT)
}

/// Rust ignores SIGPIPE, and only an exec gives it back its default action.
fn die_of_a_broken_pipe() -> ! {
    let error = Command::new("/bin/sh").args(["-c", "kill -PIPE $$"]).exec();
    output::write_text(Stream::Stderr, &format!("stand-in: /bin/sh: {error}\n"));
    leave(BAD_SCRIPT)
}

fn limit_core(core: CoreDump) {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_CORE) {
        let soft = if core == CoreDump::Allowed { hard } else { 0 };
        // Lowering, or raising up to the hard limit, is always permitted.
        let _ = setrlimit(Resource::RLIMIT_CORE, soft, hard);
    }
}
