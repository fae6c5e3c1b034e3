//! Signals: which are handled, and how one ends the process by its default action, with or without a core dump.

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

/// The signals that are blocked in every thread: a thread of `signals` handles them.
pub(crate) fn handled_signals() -> SigSet {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set
}

/// Ends the process by the default action of `signal`, without a core dump.
pub(crate) fn die(signal: Signal) -> ! {
    limit_core(|_| 0);
    end_by(signal)
}

/// Ends the process by the default action of `signal`, with a core dump where the hard limit allows one.
pub(crate) fn die_with_core(signal: Signal) -> ! {
    limit_core(|hard| hard);
    end_by(signal)
}

fn end_by(signal: Signal) -> ! {
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

/// Sets the soft limit of core dumps to what `soft` makes of the hard one, which needs no privilege.
fn limit_core(soft: fn(u64) -> u64) {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_CORE) {
        let _ = setrlimit(Resource::RLIMIT_CORE, soft(hard), hard);
    }
}
