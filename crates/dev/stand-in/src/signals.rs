//! Handles TERM and INT as llama-server does: they kill it while it loads; then the first stops it gracefully, and the second
//! exits at once.
//!
//! Both signals are blocked in every thread, and one thread waits for them. For the default action it unblocks the signal
//! and raises it.

use std::{path::Path, sync::Arc, thread, time::Duration};

use nix::sys::signal::Signal;

use crate::{
    actions, ending,
    eras::Era,
    lines::{self, Step},
    listener,
    output::{self, Stream},
    schedule::ScriptPhase,
    script::{ReadyLine, TermScript},
    state::{Server, ServerPhase},
};

/// Waits for signals and handles them, without end.
pub(crate) fn watch(server: &Arc<Server>) {
    let mut terms = 0;
    count(server.script.term_count_file.as_deref(), terms);
    while let Ok(signal) = ending::handled_signals().wait() {
        if signal == Signal::SIGTERM {
            terms += 1;
            count(server.script.term_count_file.as_deref(), terms);
        }
        on_signal(server, signal);
    }
}

fn on_signal(server: &Arc<Server>, signal: Signal) {
    match server.script.term {
        TermScript::Ignore => return,
        TermScript::Code(code) => std::process::exit(code),
        TermScript::Era | TermScript::Slow(_) => {}
    }
    // The other builds handle TERM and INT once the model is loaded.
    let unhandled =
        matches!(server.script.era, Era::December2023 | Era::November2024) && server.script.term == TermScript::Era;
    match server.phase() {
        ServerPhase::Loading => ending::die(signal),
        ServerPhase::Ready if unhandled => ending::die(signal),
        ServerPhase::Ready => {
            let server = Arc::clone(server);
            // In a thread of its own, so that a second signal is handled while the stop takes its time.
            thread::spawn(move || stop(&server));
        }
        // llama-server prints this to stderr directly, so that it appears also with a silent log.
        ServerPhase::Stopping => {
            output::write(Stream::Stderr, "Received second interrupt, terminating immediately.\n");
            std::process::exit(1)
        }
    }
}

fn stop(server: &Arc<Server>) {
    if !server.advance(ServerPhase::Stopping) {
        return;
    }
    // A shutdown applies to every process that shares the socket, so it is left out for a grandchild that keeps the port.
    if !server.script.keeps_port()
        && let Some(listener) = server.listener()
    {
        listener::stop_listening(listener);
    }
    lines::print(server, Step::CleaningUp);
    if server.script.ready_line == ReadyLine::AgainWhenStopping {
        lines::print(server, Step::Ready);
    }
    actions::perform(server, ScriptPhase::Stopping);
    if let TermScript::Slow(ms) = server.script.term {
        thread::sleep(Duration::from_millis(ms));
    }
    end_streams(server);
    std::process::exit(0)
}

/// A stop waits for responses that are streamed to clients, in builds of today at most until the next ping. In 2025 a thread
/// was not joined then, which calls `std::terminate`.
fn end_streams(server: &Server) {
    match server.script.era {
        Era::December2023 | Era::July2024 | Era::November2024 => server.await_streams(None),
        Era::August2025 if server.is_streaming() => {
            output::write(Stream::Stderr, "terminate called without an active exception\n");
            ending::die(Signal::SIGABRT)
        }
        Era::August2025 => {}
        Era::B11669 => {
            server.await_streams(u64::try_from(server.settings.sse_ping_interval).ok().map(Duration::from_secs));
        }
    }
}

/// Replaces the file in one step, so that a reader never sees a part of the number.
fn count(file: Option<&Path>, terms: u32) {
    if let Some(path) = file
        && let Err(error) = output::replace_file(path, &terms.to_string())
    {
        output::write(Stream::Stderr, format!("stand-in: {}: {error}\n", path.display()));
    }
}
