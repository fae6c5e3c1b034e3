//! `cargo xtask functions`: finds out which functions a daemon runs, and writes the linker script that places them together.
//!
//! A daemon is traced from its start through what a usual day brings: servers become ready, are asked about, restarted, killed and
//! stopped. The kernel maps a file in pieces of 64 KiB, so that functions that are rarely needed take memory if they lie between others.
//! The script is read when the program is linked (`crates/bin/llama-warden/build.rs`). A function that it does not name lies behind the
//! others, so that an old script costs memory and nothing else.

mod names;
mod trace;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use llama_warden_test_parts::error::{Error, OnPath};
use llama_warden_test_parts::{paths, shell, shipped};
use serde_json::Value;

use crate::idle::{self, UsualDaemon};
use crate::killer;
use crate::programs::{self, Programs, shell_word};
use names::FunctionNames;

/// The linker script, from the root of the checkout.
const SCRIPT: &str = "crates/bin/llama-warden/daemon-functions.ld";

/// The name of the script that is started in the place of the daemon.
const TRACED: &str = "traced";

/// Which program to trace.
#[derive(Debug, clap::Args)]
pub struct FunctionsOptions {
    /// The programs to trace, of the `dist` profile and not stripped; built without it, which takes minutes
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
    /// Start and drive the daemon that is traced, with its state in this folder
    #[arg(long, hide = true, value_name = "FOLDER", requires = "programs")]
    drive: Option<PathBuf>,
}

/// A function of the program.
#[derive(Debug, Clone)]
struct Function {
    /// All names of the same code.
    symbols: Vec<String>,
    bytes: u64,
}

/// Traces a daemon and writes the script.
///
/// # Errors
/// When the program does not build, has no symbols, or the daemon does not do what it is told.
pub fn run(options: &FunctionsOptions) -> Result<ExitCode, Error> {
    let folder = match &options.programs {
        Some(folder) => folder.clone(),
        None => build()?,
    };
    let programs = Programs::in_folder(&folder)?;
    let functions = functions(&programs.daemon)?;
    if let Some(folder) = &options.drive {
        return usual_day(&programs.with_daemon(folder.join(TRACED)), folder).map(|()| ExitCode::SUCCESS);
    }
    let home = programs::empty_folder()?;
    write_traced(&programs, home.path())?;
    let own = std::env::current_exe().on("find", Path::new("/proc/self/exe"))?;
    // In a process of its own: a thread that waits for the daemon would take the stops of the trace away.
    let mut driver = Command::new(&own);
    driver.args(["functions", "--programs"]).arg(&folder).arg("--drive").arg(home.path());
    let driver = driver.stdin(Stdio::null()).stdout(Stdio::null()).spawn().on("start", &own)?;
    let run = trace::entered(&home.path().join("pid"), &programs.daemon, functions.keys().copied(), driver.id());
    let run = run.on("trace", &programs.daemon)?;
    let mut names = FunctionNames::default();
    functions.iter().for_each(|(address, function)| names.add(function, run.contains(address)));
    let script = paths::root().join(SCRIPT);
    fs::write(&script, names.script()).on("write", &script)?;
    eprintln!("functions: {} of {} were run, {}", run.len(), functions.len(), names.summary());
    println!("{}", script.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds the programs into one folder. The double of llama-server is that of the `release` profile: it is not traced.
fn build() -> Result<PathBuf, Error> {
    let Programs { daemon, stand_in, .. } = Programs::of_daemon(shipped::build(true)?)?;
    fs::copy(&stand_in, daemon.with_file_name("stand-in-llama-server")).on("copy", &stand_in)?;
    Ok(daemon.with_file_name(""))
}

/// The functions of a program, by their addresses in its file.
fn functions(program: &Path) -> Result<BTreeMap<u64, Function>, Error> {
    let listed = shell::read(Command::new("nm").args(["--defined-only", "--print-size"]).arg(program))?;
    let mut functions = BTreeMap::<u64, Function>::new();
    for line in listed.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [address, bytes, "t" | "T" | "w" | "W", symbol] = fields[..] else { continue };
        let number = |text| u64::from_str_radix(text, 16).unwrap_or_default();
        let function =
            functions.entry(number(address)).or_insert_with(|| Function { symbols: Vec::new(), bytes: number(bytes) });
        function.symbols.push(symbol.to_owned());
    }
    match functions.is_empty() {
        true => Err(Error::missing(
            format!("{} has no symbols", program.display()),
            "build it with CARGO_PROFILE_DIST_STRIP=none",
        )),
        false => Ok(functions),
    }
}

/// Writes a script that waits to be traced before it becomes a daemon.
fn write_traced(programs: &Programs, folder: &Path) -> Result<(), Error> {
    let script = folder.join(TRACED);
    let (pid, program) = (shell_word(&folder.join("pid")), shell_word(&programs.daemon));
    let text =
        format!("#!/bin/sh\ncase \" $* \" in *' up '*) echo $$ > {pid}; kill -STOP $$;; esac\nexec {program} \"$@\"\n");
    fs::write(&script, text).on("write", &script)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).on("change", &script)
}

/// What a daemon does on a usual day.
fn usual_day(programs: &Programs, folder: &Path) -> Result<(), Error> {
    let UsualDaemon { daemon, port } = idle::usual(programs, folder, 3)?;
    for question in [&["status"][..], &["status", "--json"], &["logs", "s0"], &["events"]] {
        daemon.ask(question)?;
    }
    let control = crate::soak::SoakClient(folder.join("state/control.sock"));
    for path in ["/metrics", "/metrics?servers=1", "/livez", "/readyz", "/api/v1/memory", "/api/v1/sd"] {
        control.get(path)?;
    }
    scrape(port).on("ask for", Path::new("/metrics"))?;
    daemon.ask(&["restart", "--wait", "s0"])?;
    let status: Value = serde_json::from_str(&daemon.ask(&["status", "--json"])?).unwrap_or_default();
    killer::kill(status["servers"][1]["pid"].as_u64().unwrap_or_default())?;
    daemon.ask(&["wait", "--timeout", "60s", "s1"])?;
    daemon.ask(&["reload"])?;
    daemon.ask(&["stop", "--wait", "s2"])?;
    daemon.ask(&["start", "--wait", "s2"])?;
    daemon.stop()
}

/// Asks for the metrics over TCP, as Prometheus does.
fn scrape(port: u16) -> io::Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    io::copy(&mut stream, &mut io::sink()).map(drop)
}
