//! Runs a server: binds, loads, becomes ready, and serves until a signal or an action ends the process.

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
    ending::{self, CoreDump},
    eras::Era,
    listener::{Listener, Sharing},
    log::{self, ServerLogLine},
    model_file, replay, routes,
    schedule::ScriptPhase,
    script::{LineStyle, LoadProgress, ReadyLine, Script},
    settings::Settings,
    signals,
    state::{Server, ServerPhase},
};

/// Runs a server. Returns only if its signals cannot be blocked.
pub(crate) fn run(script: Script, settings: Settings, inherited: Inherited) -> ExitCode {
    // The alarm survives exec.
    alarm::set(script.max_life_s.max(1));
    if signals::handled_signals().thread_block().is_err() {
        return ExitCode::FAILURE;
    }
    let server = Arc::new(Server::new(script, settings, inherited));
    let life = Arc::clone(&server);
    // Threads inherit the signal mask, so all of them start after the signals are blocked.
    thread::spawn(move || run_life(&life));
    signals::watch(&server);
    ExitCode::FAILURE
}

fn run_life(server: &Arc<Server>) {
    actions::perform(server, ScriptPhase::Start);
    server.log.lines(server.lines.opening());
    // Since 2024 the builds bind before the load, so that `/health` can answer 503 during it.
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
    become_ready(server);
}

fn bind(server: &Arc<Server>) {
    server.log.lines(server.lines.before_bind());
    if server.script.never_bind {
        return;
    }
    // The options of the era decide, and a script can only add sharing to them.
    let settings = &server.settings;
    let shared = settings.reuse_port || server.script.reuse_port || server.script.era.shares_ports();
    let sharing = if shared { Sharing::Shared } else { Sharing::Exclusive };
    let bound = Listener::bind(&settings.host, settings.port, sharing);
    let Ok((listener, handle)) = bound.and_then(|listener| listener.handle().map(|handle| (listener, handle))) else {
        fail(server, server.lines.bind_failure(settings.port));
    };
    server.listens(listener.port(), handle);
    let server = Arc::clone(server);
    thread::spawn(move || routes::serve(&server, &listener));
}

fn load(server: &Arc<Server>) {
    server.log.lines(server.lines.load_began(server.port()));
    if server.script.ready_line == ReadyLine::Early {
        print_ready_line(server);
    }
    actions::perform_in_background(server, ScriptPhase::Loading);
    match model_file::check(&server.settings.model, server.script.era) {
        Ok(header) => server.log.lines(server.lines.header_read(&header)),
        Err(fault) => fail(server, server.lines.load_failure(&fault)),
    }
    simulate_load(server);
    server.log.lines(server.lines.loaded());
}

/// Takes the time of the load, and prints the progress that the script asks for.
fn simulate_load(server: &Server) {
    let era = server.script.era;
    let steps: u32 = match server.script.load_progress {
        LoadProgress::Dots => 100,
        LoadProgress::Lines => 10,
        LoadProgress::Era if era < Era::B11669 => 80,
        LoadProgress::Era | LoadProgress::None => 1,
    };
    // Sleep towards fixed points in time, so that slow output does not lengthen the load.
    let began = Instant::now();
    let whole = Duration::from_millis(server.script.load_ms);
    for step in 1..=steps {
        thread::sleep((whole * step / steps).saturating_sub(began.elapsed()));
        match server.script.load_progress {
            LoadProgress::Lines => server.log.line(&log::info(format!("loading {} %", step * 100 / steps))),
            LoadProgress::Dots | LoadProgress::Era if steps > 1 => server.log.fragment("."),
            LoadProgress::Dots | LoadProgress::Era | LoadProgress::None => {}
        }
    }
    if steps > 10 {
        server.log.fragment("\n");
    }
}

fn become_ready(server: &Arc<Server>) {
    // As in the real builds, `/health` turns 200 a moment before the line is printed.
    server.advance(ServerPhase::Ready);
    let times = match server.script.ready_line {
        ReadyLine::Once | ReadyLine::AgainWhenStopping => 1,
        ReadyLine::Twice => 2,
        ReadyLine::Early | ReadyLine::Never => 0,
    };
    (0..times).for_each(|_| print_ready_line(server));
    server.log.lines(server.lines.idle());
    actions::perform(server, ScriptPhase::Ready);
}

/// Prints the ready line in the script's encoding.
pub(crate) fn print_ready_line(server: &Server) {
    let style: LineStyle = server.script.ready_style;
    server.lines.ready(server.port()).iter().for_each(|line| server.log.styled(line, style));
}

/// Prints the lines of a failure, and exits as the era does when it cannot serve.
fn fail(server: &Server, lines: Vec<ServerLogLine>) -> ! {
    server.log.lines(lines);
    if server.script.era.crashes_on_failure() {
        ending::die(Signal::SIGSEGV, CoreDump::Forbidden);
    }
    std::process::exit(1)
}
