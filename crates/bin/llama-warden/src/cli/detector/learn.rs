//! `detector learn`: starts an unknown build a few times and writes a pack that reads it.

use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use llama_warden_component::{Host, HostSettings};
use llama_warden_config::{Fleet, ServerSpec};
use llama_warden_events::{BootId, SuperviseCommand};
use llama_warden_hooks::Hooks;
use llama_warden_launcher::{DialectSet, Launcher, LauncherSettings, ShimProgram};
use llama_warden_plugin_files::PluginFile as _;
use llama_warden_readiness::{LearnError, Lesson, PackSet, Subject, learn};
use llama_warden_terminator::Terminator;
use serde_json::json;
use tokio::sync::{oneshot, watch};

use super::args::LearnArgs;
use super::binary;
use super::recorder::Recorder;
use super::rounds::{Outcome, Rounds, RoundsFailure};
use crate::cli::args::Global;
use crate::cli::{print_json, print_line};
use crate::daemon;
use crate::exit::{Exit, Failure};

/// The name of the server that is started.
const ID: &str = "learn";
/// More events than all starts have.
const FACTS_KEPT: usize = 16_384;
/// Longest time for the components to end, a killed server included.
const END: Duration = Duration::from_secs(20);

pub fn run(global: &Global, args: &LearnArgs) -> Result<Exit, Failure> {
    let spec = server(&args.command)?;
    let outcome = daemon::runtime()?.block_on(start(spec.clone(), args))?;
    let subject = Subject {
        name: name(args, outcome.build)?,
        build: outcome.build,
        options: outcome.options,
        model: spec.model,
        host: String::from(&spec.host),
        health: outcome.health,
    };
    let lesson = learn(&subject, &outcome.recordings, &PackSet::built_in()).map_err(not_learnt)?;
    hand_over(global, args, &lesson)
}

/// The server that the command line describes: its own arguments, and nothing from any configuration.
fn server(command: &[OsString]) -> Result<ServerSpec, Failure> {
    let usage = |message: &str, step: &str| Failure::new(Exit::Usage, message).next_step(step);
    let (program, arguments) =
        command.split_first().ok_or_else(|| usage("no executable is named", "name one after --"))?;
    let mut rest = Vec::new();
    let (mut model, mut port, mut host) = (None, None, None);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let slot = match word.to_str() {
            Some("-m" | "--model") => &mut model,
            Some("--port") => &mut port,
            Some("--host") => &mut host,
            Some(word) => {
                rest.push(word.to_owned());
                continue;
            }
            None => return Err(usage("an argument is no text", "name files by paths that are UTF-8")),
        };
        let value = words.next().and_then(|value| value.to_str());
        let value = value.ok_or_else(|| usage(&format!("{} has no value", word.display()), "add one"))?;
        *slot = Some(value.to_owned());
    }
    let model = model.ok_or_else(|| {
        usage(
            "there is no --model among the arguments",
            "add one that takes a second or more to load: `cargo xtask gguf`",
        )
    })?;
    let model = std::path::absolute(&model).unwrap_or_else(|_| PathBuf::from(&model));
    let port = match port {
        Some(port) => port.parse().map_err(|_| usage("--port is no port", "name one from 1 to 65535, or none"))?,
        None => free_port()?,
    };
    let mut spec = binary::server(ID, &binary::locate(Path::new(program))?, &model, port)?;
    spec.flags = Arc::default();
    spec.args = rest;
    if let Some(host) = host {
        spec.host = host.into();
    }
    Ok(spec)
}

fn free_port() -> Result<u16, Failure> {
    let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    port.map(|address| address.port()).map_err(|error| {
        Failure::new(Exit::Failed, format!("there is no free port: {error}")).next_step("name one by --port")
    })
}

/// Runs the starts with the daemon's own launcher and terminator.
async fn start(spec: ServerSpec, args: &LearnArgs) -> Result<Outcome, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(Exit::Failed, error);
    let boot = BootId::from_random(fastrand::u64(..));
    let mut host = Host::new(HostSettings { boot, events_kept: FACTS_KEPT, drain: END, cancel: END });
    let launcher = LauncherSettings {
        boot,
        shim: ShimProgram::OwnExecutable,
        environment: std::env::vars_os().collect(),
        dialects: DialectSet::built_in(),
        dialects_dir: None,
        state_dir: None,
    };
    let recorder = Recorder::default();
    host.lane().register_taps(Arc::new(recorder.clone()));
    let fleet = watch::channel(Fleet::new([spec.clone()])).1;
    let (report, outcome) = oneshot::channel();
    let rounds = Rounds { spec: Arc::new(spec), starts: args.starts, timeout: args.timeout, recorder, report };
    let lane = host.lane().clone();
    host.add(Launcher::new(fleet.clone(), lane, launcher)).map_err(|error| failed(&error))?;
    host.add(Terminator::new(fleet.clone())).map_err(|error| failed(&error))?;
    // The server has none; it owns the commands that launcher and terminator send.
    host.add(Hooks::new(fleet)).map_err(|error| failed(&error))?;
    host.add(rounds).map_err(|error| failed(&error))?;

    let commands = host.commands();
    let running = host.start().map_err(|error| failed(&error))?;
    let interrupted = tokio::spawn(async move {
        if interruption().await.is_ok() {
            let order = SuperviseCommand::ShutDown { trigger: "a signal".to_owned(), force: true };
            // Refused, it has ended already.
            let _ = commands.send(order).await;
        }
    });
    let joined = running.join().await;
    interrupted.abort();
    joined.map_err(|error| failed(&error))?;
    let outcome = outcome.await.map_err(|_| failed(&"the starts were given up"))?;
    outcome.map_err(not_started)
}

/// Waits for a signal that asks to end.
async fn interruption() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn not_started(failure: RoundsFailure) -> Failure {
    let step = match &failure {
        RoundsFailure::Failed { lines, .. } => {
            lines.iter().for_each(|line| eprintln!("  {line}"));
            "see that the command becomes ready by hand"
        }
        RoundsFailure::NotReady { .. } => "give it more time by --timeout, or a smaller model",
        _ => "try again",
    };
    Failure::new(Exit::Failed, failure).next_step(step)
}

fn not_learnt(error: LearnError) -> Failure {
    let step = match error {
        LearnError::NoReadyLine { lines: 0 } => "leave out what silences the log, such as --log-disable or -lv 1",
        LearnError::NoReadyLine { .. } => {
            "use a model that takes longer to load; a build without such a line becomes ready by the probe alone"
        }
        _ => "use a model that takes longer to load, or write the pack by hand: docs/detectors.md",
    };
    Failure::new(Exit::Failed, error).next_step(step)
}

/// The pack's name: as asked for, else after the file, else after the build.
fn name(args: &LearnArgs, build: Option<u64>) -> Result<String, Failure> {
    let of_file = || Some(args.out.as_ref()?.file_stem()?.to_string_lossy().into_owned());
    let of_build =
        || build.filter(|build| *build > 1).map_or_else(|| "learnt".to_owned(), |build| format!("learnt-b{build}"));
    let name = args.name.clone().or_else(of_file).unwrap_or_else(of_build);
    let fits = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if (1..=64).contains(&name.len()) && fits(&name) && name != "auto" {
        return Ok(name);
    }
    Err(Failure::new(Exit::Usage, format!("`{name}` is no name for a pack"))
        .next_step("pass --name with 1 to 64 of A-Z a-z 0-9 . _ -"))
}

fn hand_over(global: &Global, args: &LearnArgs, lesson: &Lesson) -> Result<Exit, Failure> {
    let pack = &lesson.pack;
    if let Some(out) = &args.out {
        write(out, pack.text())?;
    }
    if global.json {
        print_json(&json!({
            "name": pack.name(),
            "file": args.out,
            "patterns": pack.patterns().len(),
            "early_lines": lesson.early,
            "text": pack.text(),
        }))?;
    } else if args.out.is_none() {
        print_line(pack.text().trim_end())?;
    }
    let ready = pack.patterns().first().map_or("", |pattern| &*pattern.regex);
    eprintln!("learnt {}: ready is {ready}; {} lines only look like it", pack.name(), lesson.early);
    if let Some(out) = &args.out {
        eprintln!("wrote {}: put it into the folder that readiness.detectors-dir names", out.display());
    }
    Ok(Exit::Done)
}

/// Writes the file in one step: a daemon may be watching its folder.
fn write(out: &Path, text: &str) -> Result<(), Failure> {
    let mut draft = out.as_os_str().to_owned();
    draft.push(".new");
    let written = std::fs::write(&draft, text).and_then(|()| std::fs::rename(&draft, out));
    written.map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot write {}: {error}", out.display()))
            .next_step("name a file in a folder that exists")
    })
}
