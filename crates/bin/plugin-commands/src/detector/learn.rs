//! `detector learn`: starts an unknown build a few times and writes a pack that reads it.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use llama_warden_component::{ContextParts, Host, HostSettings};
use llama_warden_config::{ConfigSource, Environment, Fleet, ServerSpec};
use llama_warden_connect::GlobalArgs;
use llama_warden_daemon::build_runtime;
use llama_warden_detectors::{LearnError, LearnSubject, LearnedPack, PackSet, learn};
use llama_warden_dialects::DialectSet;
use llama_warden_events::{BootId, SuperviseCommand};
use llama_warden_exit::{CommandFailure, CommandResult, Exit};
use llama_warden_hooks::Hooks;
use llama_warden_inventory::LoadedConfig;
use llama_warden_launcher::{GuardianProgram, Launcher, LauncherSettings, Spawner};
use llama_warden_plugin_files::PluginFile as _;
use llama_warden_support::{Durability, replace_file};
use llama_warden_terminator::Terminator;
use serde_json::json;
use tokio::sync::{oneshot, watch};

use super::LearnArgs;
use llama_warden_builds::executable;
use llama_warden_builds::recorder::OutputRecorder;
use llama_warden_builds::starts::{RecordedStarts, RepeatedStarts, StartsError};
use llama_warden_terminal::output::{print_json, print_line};

/// The name of the server that is started.
const ID: &str = "learn";
/// Number of events that are kept: more than 50 starts publish.
const EVENTS_KEPT: usize = 16_384;
/// Longest time for the components to end, including the kill of a server.
const END_TIMEOUT: Duration = Duration::from_secs(20);

pub fn run(global: &GlobalArgs, args: &LearnArgs) -> CommandResult {
    let spec = server(&args.command)?;
    if let Some(out) = &args.out {
        check_writable(out)?;
    }
    let outcome = build_runtime()?.block_on(start(spec.clone(), args))?;
    let subject = LearnSubject {
        name: name(args, outcome.build)?,
        build: outcome.build,
        options: outcome.options,
        model: spec.model,
        host: spec.host.to_string(),
        health: outcome.health,
    };
    let lesson = learn(&subject, &outcome.recordings, &PackSet::built_in()).map_err(learn_failure)?;
    write_pack(global, args, &lesson)
}

/// The server of the command line: its own arguments, the built-in defaults, and nothing from the configuration.
fn server(command: &[OsString]) -> Result<ServerSpec, CommandFailure> {
    let usage = |message: &str, step: &str| CommandFailure::usage(message).next_step(step);
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
            None => return Err(usage("an argument is not valid UTF-8", "use paths that are valid UTF-8")),
        };
        let value = words.next().and_then(|value| value.to_str());
        let value = value.ok_or_else(|| usage(&format!("{} has no value", word.display()), "add one"))?;
        *slot = Some(value.to_owned());
    }
    let model = model.ok_or_else(|| {
        usage("there is no --model among the arguments", "name one that takes a second or more to load")
    })?;
    let model = std::path::absolute(&model).unwrap_or_else(|_| PathBuf::from(&model));
    let port = match port {
        Some(port) => port
            .parse()
            .map_err(|_| usage("--port is not a port number", "use one from 1 to 65535, or leave it out"))?,
        None => free_port()?,
    };
    // Only what the command line says reaches the server: no default flag may change what the build prints.
    let mut spec = executable::default_spec(ID, &executable::locate(Path::new(program))?, &model, port)?;
    spec.flags = Arc::default();
    spec.args = rest;
    if let Some(host) = host {
        spec.host = host.into();
    }
    Ok(spec)
}

fn free_port() -> Result<u16, CommandFailure> {
    let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    port.map(|address| address.port()).map_err(|error| {
        CommandFailure::failed(format!("there is no free port: {error}")).next_step("name one by --port")
    })
}

/// Runs the starts, with the daemon's own launcher and terminator.
async fn start(spec: ServerSpec, args: &LearnArgs) -> Result<RecordedStarts, CommandFailure> {
    let boot = BootId::from_random(fastrand::u64(..));
    let mut host = Host::new(HostSettings { boot, events_kept: EVENTS_KEPT, drain: END_TIMEOUT, cancel: END_TIMEOUT });
    let spawner = Spawner::start(GuardianProgram::OwnExecutable).map_err(CommandFailure::failed)?;
    let launcher = LauncherSettings {
        boot,
        spawner: spawner.clone(),
        outlive: false,
        bus: host.bus().clone(),
        environment: std::env::vars_os().collect(),
        dialects: DialectSet::built_in(),
        dialects_dir: None,
        state_dir: None,
    };
    let recorder = OutputRecorder::default();
    host.lane().register_taps(Arc::new(recorder.clone()));
    let fleet = watch::channel(Fleet::new([spec.clone()])).1;
    let (report, outcome) = oneshot::channel();
    let starts = RepeatedStarts { spec: Arc::new(spec), starts: args.starts, timeout: args.timeout, recorder, report };
    let lane = host.lane().clone();
    let configuration = LoadedConfig::parse(&ConfigSource::text("/", ""), Environment::default())?.configuration;
    let bus = host.bus().clone();
    // None of these components keeps files.
    let state_dir = PathBuf::new();
    let context = ContextParts { configuration, fleet: fleet.clone(), bus, lane: lane.clone(), state_dir }.into();
    host.add(Launcher::new(fleet, lane, launcher))?;
    host.add(Terminator::build(&context))?;
    // The server has no hooks. This component owns the hook commands, which launcher and terminator send anyway.
    host.add(Hooks::build(&context, spawner))?;
    host.add(starts)?;

    // A signal ends the starts in order, with a killed server, instead of this process at once.
    let commands = host.commands();
    let running = host.start()?;
    let interrupted = tokio::spawn(async move {
        if interruption().await.is_ok() {
            let shut_down = SuperviseCommand::ShutDown { trigger: "a signal".to_owned(), force: true };
            // Refused only if the starts have ended.
            let _ = commands.send(shut_down).await;
        }
    });
    let joined = running.join().await;
    interrupted.abort();
    joined.map_err(CommandFailure::failed)?;
    let outcome = outcome.await.map_err(|_| CommandFailure::failed("the starts were cancelled"))?;
    outcome.map_err(starts_failure)
}

/// Waits for TERM or INT.
async fn interruption() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted,
    }
}

fn starts_failure(failure: StartsError) -> CommandFailure {
    let step = match &failure {
        StartsError::Failed { lines, .. } => {
            lines.iter().for_each(|line| eprintln!("  {line}"));
            "run the command by hand and check that it becomes ready"
        }
        StartsError::NotReady { .. } => "give it more time by --timeout, or a smaller model",
        _ => "try again",
    };
    CommandFailure::failed(failure).next_step(step)
}

fn learn_failure(error: LearnError) -> CommandFailure {
    let step = match error {
        LearnError::NoReadyLine { lines: 0 } => "leave out what silences the log, such as --log-disable or -lv 1",
        LearnError::NoReadyLine { .. } => {
            "use a model that takes longer to load; a build without such a line becomes ready by the probe alone"
        }
        _ => "use a model that takes longer to load, or write the pack by hand: docs/detectors.md",
    };
    CommandFailure::failed(error).next_step(step)
}

/// The pack's name: `--name`, otherwise the name of the file, otherwise one of the build.
fn name(args: &LearnArgs, build: Option<u64>) -> Result<String, CommandFailure> {
    let of_file = || Some(args.out.as_ref()?.file_stem()?.to_string_lossy().into_owned());
    let of_build =
        || build.filter(|build| *build > 1).map_or_else(|| "learnt".to_owned(), |build| format!("learnt-b{build}"));
    let name = args.name.clone().or_else(of_file).unwrap_or_else(of_build);
    let fits = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if (1..=64).contains(&name.len()) && fits(&name) && name != "auto" {
        return Ok(name);
    }
    Err(CommandFailure::usage(format!("`{name}` is not a valid pack name"))
        .next_step("pass --name with 1 to 64 characters of A-Z a-z 0-9 . _ -"))
}

/// Fails, before anything is started, for a file that could not be written in the end.
fn check_writable(out: &Path) -> Result<(), CommandFailure> {
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // As the pack will be written: a new file beside the old one, which it replaces.
    let written = if out.is_dir() { Err(ErrorKind::IsADirectory.into()) } else { tempfile::tempfile_in(folder) };
    written.map(drop).map_err(|error| cannot_write(out, &error))
}

fn cannot_write(out: &Path, error: &std::io::Error) -> CommandFailure {
    CommandFailure::failed(format!("cannot write {}: {error}", out.display()))
        .next_step("name a file in a folder that exists and can be written")
}

/// Writes the pack to its file or to standard output, and a summary to standard error.
fn write_pack(global: &GlobalArgs, args: &LearnArgs, lesson: &LearnedPack) -> CommandResult {
    let pack = &lesson.pack;
    if let Some(out) = &args.out {
        // In one step: a daemon may be watching its folder.
        replace_file(out, pack.text().as_bytes(), Durability::Process).map_err(|error| cannot_write(out, &error))?;
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
