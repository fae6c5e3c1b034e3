//! TERM and INT, as llama-server takes them: deadly while it loads, then graceful, then impatient.
//!
//! Both are blocked in every thread, and one thread waits for them. The default action is brought about by
//! unblocking and raising.

use std::{path::Path, sync::Arc, thread, time::Duration};

use nix::sys::signal::{SigSet, Signal};

use crate::{
    actions,
    ending::{self, Core},
    eras::{Handler, StreamedStop},
    listener,
    output::{self, Stream},
    script::{Moment, ReadyLine, TermScript},
    serve,
    state::{Phase, Server},
};

/// The signals that are waited for.
pub(crate) fn awaited() -> SigSet {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set
}

/// Waits for signals for ever.
pub(crate) fn watch(server: &Arc<Server>) {
    let mut terms = 0;
    count(server.script.term_count_file.as_deref(), terms);
    while let Ok(signal) = awaited().wait() {
        if signal == Signal::SIGTERM {
            terms += 1;
            count(server.script.term_count_file.as_deref(), terms);
        }
        take(server, signal);
    }
}

fn take(server: &Arc<Server>, signal: Signal) {
    match server.script.term {
        TermScript::Ignore => return,
        TermScript::Code(code) => ending::leave(code),
        TermScript::Era | TermScript::Slow(_) => {}
    }
    let unhandled = server.script.era.handler() == Handler::None && server.script.term == TermScript::Era;
    match server.phase() {
        Phase::Loading => ending::die(signal, Core::Forbidden),
        Phase::Ready if unhandled => ending::die(signal, Core::Forbidden),
        Phase::Ready => {
            let server = Arc::clone(server);
            // Apart, so that a second signal is heard while the first is at work.
            thread::spawn(move || stop(&server));
        }
        Phase::Stopping => {
            output::write_text(Stream::Stderr, "Received second interrupt, terminating immediately.\n");
            ending::leave(1)
        }
    }
}

fn stop(server: &Arc<Server>) {
    if !server.advance(Phase::Stopping) {
        return;
    }
    // Closing the socket for one process closes it for all that share it.
    if !server.script.keeps_port()
        && let Some(listener) = server.listener()
    {
        listener::stop_listening(listener);
    }
    server.log.lines(server.words.cleaning_up());
    if server.script.ready_line == ReadyLine::AgainWhenStopping {
        serve::say_ready(server);
    }
    actions::perform(server, Moment::Stopping);
    if let TermScript::Slow(ms) = server.script.term {
        thread::sleep(Duration::from_millis(ms));
    }
    if server.is_streaming() {
        end_streams(server);
    }
    ending::leave(0)
}

fn end_streams(server: &Server) {
    match server.script.era.streamed_stop() {
        StreamedStop::EndsWithGeneration => server.await_streams(None),
        StreamedStop::Aborts => {
            output::write_text(Stream::Stderr, "terminate called without an active exception\n");
            ending::die(Signal::SIGABRT, Core::Forbidden)
        }
        StreamedStop::EndsAtPing => {
            server.await_streams(u64::try_from(server.settings.sse_ping_interval).ok().map(Duration::from_secs));
        }
    }
}

/// Replaces the file as a whole, so that a reader never sees half a number.
fn count(file: Option<&Path>, terms: u32) {
    if let Some(path) = file
        && let Err(error) = output::replace_file(path, &terms.to_string())
    {
        output::write_text(Stream::Stderr, &format!("stand-in: {}: {error}\n", path.display()));
    }
}
