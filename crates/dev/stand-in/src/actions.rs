//! Performs the scheduled actions of a script.

use std::{
    fs::File,
    io,
    os::unix::process::CommandExt,
    process::Command,
    str::FromStr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::signal::{Signal, raise},
    unistd,
};

use crate::{
    dump, ending,
    grandchild::{self, Grandchild},
    output::{self, Stream},
    schedule::{ScheduledAction, ScriptAction, ScriptPhase},
    state::Server,
};

/// Performs the actions of `phase` in order. An action that fails prints its error to stderr.
pub(crate) fn perform(server: &Server, phase: ScriptPhase) {
    for ScheduledAction { after_ms, action, .. } in server.script.actions_at(phase) {
        thread::sleep(Duration::from_millis(after_ms));
        if let Err(error) = run(server, &action) {
            output::write(Stream::Stderr, format!("stand-in: {:?}: {error}\n", action));
        }
    }
}

/// Performs the actions of `phase` in a thread of their own.
pub(crate) fn perform_in_background(server: &Arc<Server>, phase: ScriptPhase) {
    if !server.script.actions_at(phase).is_empty() {
        let server = Arc::clone(server);
        thread::spawn(move || perform(&server, phase));
    }
}

fn run(server: &Server, action: &ScriptAction) -> io::Result<()> {
    match action {
        ScriptAction::Say { text, stream } => output::write(*stream, format!("{text}\n")),
        ScriptAction::Bytes { bytes, stream } => output::write(*stream, bytes),
        ScriptAction::HugeLine { megabytes, stream } => huge_line(*megabytes, *stream),
        ScriptAction::Flood { megabytes, stream } => flood(*megabytes, *stream),
        ScriptAction::Chat { every_ms, lines } => chat(Duration::from_millis(*every_ms), *lines),
        ScriptAction::CloseStdio {} => close_stdio()?,
        ScriptAction::StopSelf {} => raise(Signal::SIGSTOP)?,
        ScriptAction::Exit { code, last_words } => {
            print_last_words(last_words.as_deref());
            std::process::exit(*code)
        }
        ScriptAction::Die { signal, core, last_words } => {
            let signal = Signal::from_str(signal)?;
            print_last_words(last_words.as_deref());
            if *core { ending::die_with_core(signal) } else { ending::die(signal) }
        }
        ScriptAction::Spawn(grandchild) => spawn(server, grandchild)?,
        ScriptAction::Exec { argv } => return Err(exec(argv)),
        ScriptAction::Dump { path } => dump::write(&server.inherited, path)?,
        ScriptAction::Eat { megabytes } => allocate(*megabytes),
        ScriptAction::Zombies { count } => {
            (0..*count).try_for_each(|_| grandchild::spawn_zombie(&server.settings.program))?;
        }
    }
    Ok(())
}

fn huge_line(megabytes: u32, stream: Stream) {
    let megabyte = vec![b'x'; 1 << 20];
    (0..megabytes).for_each(|_| output::write(stream, &megabyte));
    output::write(stream, b"\n");
}

fn flood(megabytes: u32, stream: Stream) {
    let mut line = vec![b'f'; 99];
    line.push(b'\n');
    let block = line.repeat((1 << 20) / line.len());
    (0..megabytes).for_each(|_| output::write(stream, &block));
}

fn chat(every: Duration, lines: u32) {
    let began = Instant::now();
    for line in 1..=lines {
        output::write(Stream::Stderr, format!("chat {line}\n"));
        thread::sleep((every * line).saturating_sub(began.elapsed()));
    }
}

/// Redirects the descriptors to `/dev/null` instead of closing them: the next socket would get their numbers, and the log
/// would be sent to a client. The reader of the pipe sees an end of file either way.
fn close_stdio() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    unistd::dup2_stdin(&null)?;
    unistd::dup2_stdout(&null)?;
    unistd::dup2_stderr(&null)?;
    Ok(())
}

fn print_last_words(text: Option<&str>) {
    output::write(Stream::Stderr, text.unwrap_or_default());
}

fn spawn(server: &Server, grandchild: &Grandchild) -> io::Result<()> {
    let listener = if grandchild.hold_port { server.listener() } else { None };
    // The flag is cleared during the spawn only, or other children would inherit the socket too.
    if let Some(listener) = listener {
        fcntl(listener, FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    let spawned = grandchild.spawn(&server.settings.program);
    if let Some(listener) = listener {
        fcntl(listener, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    spawned
}

/// Calls exec, which returns only if it fails.
fn exec(argv: &[String]) -> io::Error {
    // The signal mask survives exec, and TERM has to end the new program.
    let _ = ending::handled_signals().thread_unblock();
    match argv.split_first() {
        Some((program, arguments)) => Command::new(program).args(arguments).exec(),
        None => io::Error::new(io::ErrorKind::InvalidInput, "exec names no program"),
    }
}

/// Allocates memory and leaks it until the process ends.
fn allocate(megabytes: u32) {
    for _ in 0..megabytes {
        Box::leak(vec![1_u8; 1 << 20].into_boxed_slice());
    }
}
