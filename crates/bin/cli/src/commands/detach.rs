//! `up --detach`: starts a daemon in the background, and returns when it answers.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use llama_warden_client::{Client, DaemonAddress};
use llama_warden_connect::GlobalArgs;
use llama_warden_daemon::{BACKGROUND_LOG, LOCK, StateDir};
use llama_warden_exit::{CommandFailure, CommandResult, Exit};
use llama_warden_inventory::{Inventory, LoadedConfig};
use llama_warden_support::{open_own_file, read_regular};
use serde_json::json;
use tokio::time::timeout;

use crate::args::UpArgs;
use crate::commands::take_over::{self, HandedOver};
use llama_warden_terminal::advice;
use llama_warden_terminal::output::print_either;

/// Pause between two looks at the daemon.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Longest wait for the servers that are taken over. It takes as long as their executables take to list their options.
const LONGEST_ADOPTION: Duration = Duration::from_secs(5);

/// Most of the log that a failed start prints, in bytes.
const LOG_SHOWN: u64 = 4096;

/// Longest text of a lock that is read, in bytes: many times a pid.
const HOLDER_LENGTH: u64 = 64;

pub async fn run(global: &GlobalArgs, args: &UpArgs) -> CommandResult {
    let loaded = LoadedConfig::find_with_models(global.config.as_deref(), &args.models)?;
    let (state, control) = (loaded.state_dir()?, loaded.control_socket()?);
    let path = state.join(BACKGROUND_LOG);
    let unusable = |error: std::io::Error| {
        CommandFailure::failed(format!("cannot write the daemon's log {}: {error}", path.display())).next_step(
            "remove it if it is no file of the daemon's, or name a directory of your own as daemon.state-dir",
        )
    };
    let handed_over = if args.take_over { take_over::run(&Inventory::scan(loaded)?, args).await? } else { None };
    // Whoever holds the directory writes this log.
    drop(StateDir::acquire(&state)?);
    let mut log =
        open_own_file(&path, OpenOptions::new().append(true).create(true).read(true).mode(0o600)).map_err(unusable)?;
    let begin = log.seek(SeekFrom::End(0)).map_err(unusable)?;
    let mut daemon = spawn(global, args, &log)?;
    wait_for_answer(&mut daemon, &control).await.map_err(|exit| {
        let said = read_from(&mut log, begin);
        let failure =
            CommandFailure::new(exit, format!("the daemon did not start; its log says:\n{}", said.trim_end()))
                .next_step(format!("the whole log is {}", path.display()));
        if handed_over.is_some() { take_over::without_daemon(failure) } else { failure }
    })?;
    if let Some(handed_over) = &handed_over {
        // One that is ended for its new options takes longer, and nobody waits for that here.
        let _ = timeout(LONGEST_ADOPTION, wait_for_servers(handed_over, &control)).await;
    }
    let pid = daemon.id();
    let data = json!({ "pid": pid, "log": path, "control": control });
    print_either(global.json, &data, || {
        format!("llama-warden is up (pid {pid})\n  log   {}\n  stop  {}", path.display(), advice::command("down"))
    })
}

/// Starts this program again, without the options that only concern this one.
fn spawn(global: &GlobalArgs, args: &UpArgs, log: &File) -> Result<Child, CommandFailure> {
    let failed = |error: std::io::Error| CommandFailure::failed(format!("cannot start the daemon: {error}"));
    // Not the path of the file, which an update may have replaced.
    let mut command = Command::new("/proc/self/exe");
    if let Some(called) = std::env::args_os().next() {
        // The name that it says in its advice, and that others see.
        command.arg0(called);
    }
    if let Some(config) = &global.config {
        command.arg("--config").arg(config);
    }
    command.args(["up", "--own-session"]);
    command.args(args.profile.iter().map(|profile| format!("--profile={profile}")));
    for folder in &args.models {
        command.arg("--models").arg(folder);
    }
    command.args(args.servers.iter().map(|server| format!("--server={server}")));
    let output = || log.try_clone().map(Stdio::from).map_err(failed);
    command.stdin(Stdio::null()).stdout(output()?).stderr(output()?).spawn().map_err(failed)
}

/// Waits until the daemon answers on its control socket.
///
/// # Errors
/// The exit code of a daemon that ended instead.
async fn wait_for_answer(daemon: &mut Child, control: &Path) -> Result<(), Exit> {
    let client = Client::new(DaemonAddress::Unix(control.to_owned()), None);
    loop {
        // First the end: the socket may be that of another daemon, which is why this one ended.
        if let Ok(Some(status)) = daemon.try_wait() {
            let exits = [Exit::Usage, Exit::Held];
            let exit = exits.into_iter().find(|exit| Some(i32::from(exit.code())) == status.code());
            return Err(exit.unwrap_or(Exit::Failed));
        }
        if client.status().await.is_ok() && is_holder(daemon.id(), control) {
            return Ok(());
        }
        // Neither an end nor a socket announces itself to a parent that waits for both.
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Waits until the daemon knows what has become of the servers that were handed over.
async fn wait_for_servers(handed_over: &HandedOver, control: &Path) {
    let client = Client::new(DaemonAddress::Unix(control.to_owned()), None);
    // An error is that of a daemon that has ended since, which the next command tells.
    while client.status().await.is_ok_and(|status| !handed_over.is_known_to(&status)) {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Whether this process holds the state directory of the socket.
fn is_holder(pid: u32, control: &Path) -> bool {
    let lock = control.with_file_name(LOCK);
    read_regular(&lock, HOLDER_LENGTH).is_ok_and(|holder| holder.trim_ascii() == pid.to_string().as_bytes())
}

/// The end of what the log says from byte `begin` on.
fn read_from(log: &mut File, begin: u64) -> String {
    let mut said = Vec::new();
    let end = log.seek(SeekFrom::End(0)).unwrap_or_default();
    let _ = log.seek(SeekFrom::Start(begin.max(end.saturating_sub(LOG_SHOWN))));
    let _ = log.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}
