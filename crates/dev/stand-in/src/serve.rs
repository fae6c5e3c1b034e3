//! A server's life: bind, load, be ready, until a signal or a deed ends it.

use std::{
    process::ExitCode,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nix::{sys::signal::Signal, unistd::alarm};

use crate::{
    actions,
    dump::Inherited,
    ending::{self, Core},
    eras::Era,
    listener::{Listener, Sharing},
    log::Line,
    model_file, replay, routes,
    script::{LineDress, LoadProgress, Moment, ReadyLine, Script},
    settings::Settings,
    signals,
    state::{Phase, Server},
};

/// Runs a server; it returns only when signals cannot be had.
pub(crate) fn run(script: Script, settings: Settings, inherited: Inherited) -> ExitCode {
    // The alarm also reaches a process that has become another program.
    alarm::set(script.max_life_s.max(1));
    if signals::awaited().thread_block().is_err() {
        return ExitCode::FAILURE;
    }
    let server = Arc::new(Server::new(script, settings, inherited));
    let life = Arc::clone(&server);
    // Threads inherit the blocked signals, so every one of them starts after the block above.
    thread::spawn(move || live(&life));
    signals::watch(&server);
    ExitCode::FAILURE
}

fn live(server: &Arc<Server>) {
    actions::perform(server, Moment::Start);
    server.log.lines(server.words.opening());
    let early = !server.script.era.binds_after_load();
    if early {
        bind(server);
    }
    match &server.script.replay {
        Some(recorded) => replay::run(server, recorded),
        None => load(server),
    }
    if !early {
        bind(server);
    }
    be_ready(server);
}

fn bind(server: &Arc<Server>) {
    server.log.lines(server.words.before_bind());
    if server.script.never_bind {
        return;
    }
    let settings = &server.settings;
    let shared = settings.reuse_port || server.script.reuse_port || server.script.era.shares_ports();
    let sharing = if shared { Sharing::Shared } else { Sharing::Exclusive };
    let bound = Listener::bind(&settings.host, settings.port, sharing);
    let Ok((listener, handle)) = bound.and_then(|listener| listener.handle().map(|handle| (listener, handle))) else {
        fail(server, server.words.bind_failure(settings.port));
    };
    server.listens(listener.port(), handle);
    let server = Arc::clone(server);
    thread::spawn(move || routes::serve(&server, &listener));
}

fn load(server: &Arc<Server>) {
    server.log.lines(server.words.load_began(server.port()));
    if server.script.ready_line == ReadyLine::Early {
        say_ready(server);
    }
    actions::perform_meanwhile(server, Moment::Loading);
    match model_file::check(&server.settings.model, server.script.era) {
        Ok(header) => server.log.lines(server.words.header_read(&header)),
        Err(fault) => fail(server, server.words.load_failure(&fault)),
    }
    take_the_time(server);
    server.log.lines(server.words.loaded());
}

/// Lets the load last, with what the script wants to be seen of it.
fn take_the_time(server: &Server) {
    let era = server.script.era;
    let steps: u32 = match server.script.load_progress {
        LoadProgress::Dots => 100,
        LoadProgress::Lines => 10,
        LoadProgress::Era if era < Era::B11669 => 80,
        LoadProgress::Era | LoadProgress::None => 1,
    };
    let began = Instant::now();
    let whole = Duration::from_millis(server.script.load_ms);
    for step in 1..=steps {
        thread::sleep((whole * step / steps).saturating_sub(began.elapsed()));
        match server.script.load_progress {
            LoadProgress::Lines => server.log.line(&Line::info(format!("loading {} %", step * 100 / steps))),
            LoadProgress::Dots | LoadProgress::Era if steps > 1 => server.log.fragment("."),
            LoadProgress::Dots | LoadProgress::Era | LoadProgress::None => {}
        }
    }
    if steps > 10 {
        server.log.fragment("\n");
    }
}

fn be_ready(server: &Arc<Server>) {
    // In the real builds too, /health turns a moment before the line is out.
    server.advance(Phase::Ready);
    let times = match server.script.ready_line {
        ReadyLine::Once | ReadyLine::AgainWhenStopping => 1,
        ReadyLine::Twice => 2,
        ReadyLine::Early | ReadyLine::Never => 0,
    };
    (0..times).for_each(|_| say_ready(server));
    server.log.lines(server.words.idle());
    actions::perform(server, Moment::Ready);
}

/// Prints the ready line in the script's dress.
pub(crate) fn say_ready(server: &Server) {
    let dress: LineDress = server.script.ready_dress;
    server.words.ready(server.port()).iter().for_each(|line| server.log.dressed(line, dress));
}

/// Ends as the build does when it cannot serve.
fn fail(server: &Server, lines: Vec<Line>) -> ! {
    server.log.lines(lines);
    if server.script.era.crashes_on_failure() {
        ending::die(Signal::SIGSEGV, Core::Forbidden);
    }
    ending::leave(1)
}
