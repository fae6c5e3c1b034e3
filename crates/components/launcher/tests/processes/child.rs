//! The roles that this executable plays when a test runs it as a server or as a daemon.

use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::process::ExitCode;

use llama_warden_events::ProcessEnd;
use nix::sys::signal::{SigSet, SigmaskHow};

use crate::fixture::{self, LauncherFixture, on_runtime};

/// Runs the program that `arguments` name.
pub fn run(arguments: &[String]) -> ExitCode {
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["inspect", ..] => inspect(),
        ["listen", rest @ ..] => listen(rest),
        ["die-with-a-server", state_dir, body] => die_with_a_server(state_dir, body),
        ["be-init", orphans] => be_init(orphans),
        _ => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}

/// Prints what it was born with.
fn inspect() {
    let mut files: Vec<String> = std::fs::read_dir("/proc/self/fd")
        .expect("readable")
        .filter_map(|entry| {
            let path = entry.expect("readable").path();
            let target = std::fs::read_link(&path).ok()?.display().to_string();
            let kind = target.split(':').next().unwrap_or_default().to_owned();
            // The directory that is being read is open too.
            (!kind.ends_with("/fd")).then(|| format!("{}={kind}", path.file_name().expect("named").display()))
        })
        .collect();
    files.sort();
    let mut mask = SigSet::empty();
    nix::sys::signal::pthread_sigmask(SigmaskHow::SIG_BLOCK, None, Some(&mut mask)).expect("readable");
    let pid = nix::unistd::getpid();
    let mut names: Vec<String> = std::env::vars().map(|(name, _)| name).collect();
    names.sort();
    println!("files {}", files.join(" "));
    println!("mask {}", mask.iter().count());
    println!("leads {} {}", nix::unistd::getpgrp() == pid, nix::unistd::getsid(None) == Ok(pid));
    println!("terminal {}", std::fs::File::open("/dev/tty").map(|file| file.as_raw_fd()).is_ok());
    println!("names {}", names.join(" "));
}

/// Listens on the address that a llama-server would.
fn listen(arguments: &[&str]) {
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| *argument == name).expect("is passed");
        arguments[at + 1]
    };
    let _listener = TcpListener::bind(format!("{}:{}", value("--host"), value("--port"))).expect("bind");
    println!("listening");
    std::thread::park();
}

/// Launches a server, says its process id, and waits to be killed.
fn die_with_a_server(state_dir: &str, body: &str) {
    on_runtime(async {
        let mut fixture = LauncherFixture::open(&[("PATH", "/usr/bin:/bin")], Some(state_dir.into())).await;
        let server = fixture.server("a", body);
        fixture.configure([server]).await;
        println!("{}", fixture.launch(1).await);
        std::future::pending::<()>().await;
    });
}

/// Gets orphans, like process 1, while a server ends with 7.
fn be_init(orphans: &str) {
    nix::sys::prctl::set_child_subreaper(true).expect("taken");
    on_runtime(async {
        let body = format!(
            "i=0; while [ $i -lt {orphans} ]; do (env -u LLAMA_WARDEN_LAUNCH setsid sh -c 'exit 3' >/dev/null 2>&1 &); \
             i=$((i+1)); done; echo done; read never; exit 7"
        );
        let mut fixture = LauncherFixture::new(&body).await;
        fixture.launch(1).await;
        fixture.printed("done").await;
        assert_eq!(fixture.exited().await.0, ProcessEnd::Exited { code: 7 });
        fixture::no_zombies();
        fixture.end().await;
    });
}
