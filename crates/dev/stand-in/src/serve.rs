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
    ending,
    eras::Era,
    lines::{self, Step},
    listener::Listener,
    model_file::{self, ModelFileHeader},
    replay, routes,
    schedule::ScriptPhase,
    script::{LoadProgress, ReadyLine, Script},
    settings::Settings,
    signals,
    state::{Server, ServerPhase},
};

/// Runs a server. Returns only if its signals cannot be blocked.
pub(crate) fn run(script: Script, settings: Settings, inherited: Inherited) -> ExitCode {
    // The alarm survives exec.
    alarm::set(script.max_life_s.max(1));
    if ending::handled_signals().thread_block().is_err() {
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
    lines::print(server, Step::Opening);
    // Since 2024 the builds bind before the load, so that `/health` can answer 503 during it.
    let early = server.script.era > Era::December2023;
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
    lines::print(server, Step::BeforeBind);
    if server.settings.api_keys.is_empty() {
        lines::print(server, Step::OpenToAll);
    }
    if server.script.never_bind {
        return;
    }
    // The options of the era decide, and a script can only add sharing to them. The HTTP library shared ports until autumn 2025.
    let settings = &server.settings;
    let shared = settings.reuse_port || server.script.reuse_port || server.script.era <= Era::August2025;
    let bound = Listener::bind(&settings.host, settings.port, shared);
    let Ok((listener, handle)) = bound.and_then(|listener| listener.handle().map(|handle| (listener, handle))) else {
        lines::print(server, Step::BindFailed);
        fail(server);
    };
    server.listens(listener.port(), handle);
    let server = Arc::clone(server);
    thread::spawn(move || routes::serve(&server, &listener));
}

fn load(server: &Arc<Server>) {
    lines::print(server, Step::LoadBegan);
    if server.script.ready_line == ReadyLine::Early {
        lines::print(server, Step::Ready);
    }
    actions::perform_in_background(server, ScriptPhase::Loading);
    match model_file::check(&server.settings.model, server.script.era) {
        Ok(header) => print_header(server, &header),
        Err(fault) => {
            lines::print_load_failure(server, &fault);
            fail(server);
        }
    }
    simulate_load(server);
    lines::print(server, Step::Loaded);
}

fn print_header(server: &Server, header: &ModelFileHeader) {
    let [pairs, tensors] = [header.pairs, header.tensors].map(|count| count.to_string());
    lines::print_with(server, Step::HeaderRead, &[("pairs", &pairs), ("tensors", &tensors)]);
    if let Some(name) = &header.name {
        lines::print_with(server, Step::NameRead, &[("name", name)]);
    }
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
            LoadProgress::Lines => {
                let percent = step * 100 / steps;
                lines::print_with(server, Step::LoadProgress, &[("percent", &percent.to_string())]);
            }
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
    (0..times).for_each(|_| lines::print(server, Step::Ready));
    lines::print(server, Step::Idle);
    actions::perform(server, ScriptPhase::Ready);
}

/// Exits as the era does when it cannot serve: in mid 2024 by a crash.
fn fail(server: &Server) -> ! {
    if server.script.era == Era::July2024 {
        ending::die(Signal::SIGSEGV);
    }
    std::process::exit(1)
}
