//! Ends the process by the default action of a signal, with or without a core dump.

use std::{
    os::unix::process::CommandExt,
    process::{Command, exit},
};

use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::{SigSet, Signal, raise},
};

use crate::output::{self, Stream};

/// The exit code of the stand-in where its script cannot be read or carried out.
pub(crate) const BAD_SCRIPT: i32 = 64;

/// Whether the kernel may write a core dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CoreDump {
    Allowed,
    Forbidden,
}

/// Ends the process by the default action of `signal`.
pub(crate) fn die(signal: Signal, core: CoreDump) -> ! {
    limit_core(core);
    if signal == Signal::SIGPIPE {
        die_of_a_broken_pipe();
    }
    let mut set = SigSet::empty();
    set.add(signal);
    // If this fails the signal stays blocked, and the message below reports it.
    let _ = set.thread_unblock();
    // Rust's handler for stack overflows catches the first SIGSEGV or SIGBUS and restores the default action.
    for _ in 0..2 {
        let _ = raise(signal);
    }
    output::write(Stream::Stderr, format!("stand-in: {signal} does not kill\n"));
    exit(BAD_SCRIPT)
}

/// Dies of SIGPIPE in a shell. Rust's runtime ignores the signal, and a shell started by `Command` has the default action.
fn die_of_a_broken_pipe() -> ! {
    let error = Command::new("/bin/sh").args(["-c", "kill -PIPE $$"]).exec();
    output::write(Stream::Stderr, format!("stand-in: /bin/sh: {error}\n"));
    exit(BAD_SCRIPT)
}

fn limit_core(core: CoreDump) {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_CORE) {
        let soft = if core == CoreDump::Allowed { hard } else { 0 };
        // Lowering the soft limit, or raising it up to the hard one, needs no privilege.
        let _ = setrlimit(Resource::RLIMIT_CORE, soft, hard);
    }
}
