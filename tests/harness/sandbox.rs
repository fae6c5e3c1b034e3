//! The sandbox of one test: its directory, its daemons, and the checks after it.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::FutureExt;
use llama_warden_stand_in::{Era, Script};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::daemon::TestDaemon;
use crate::fleet::TestFleet;
use crate::options::DaemonOptions;
use crate::postconditions;
use crate::procfs::ignores;
use crate::program::{ProgramRun, daemon_program, stand_in_program};

/// Limit of a whole test, for many waits in a row that each end in time.
const TEST_LIMIT: Duration = Duration::from_secs(240);

/// A temporary directory, and the daemons that were started in it.
#[derive(Debug)]
pub struct Sandbox {
    directory: TempDir,
    daemons: RefCell<Vec<TestDaemon>>,
}

/// Runs a test in a new sandbox, and then checks what must hold after every test.
///
/// # Panics
/// If the test panics or takes longer than `TEST_LIMIT`, or a check fails.
pub fn sandbox(test: impl AsyncFnOnce(&Sandbox)) {
    sandbox_within(TEST_LIMIT, test);
}

/// As [`sandbox()`], for a test that may take up to `limit`.
///
/// # Panics
/// As [`sandbox()`].
pub fn sandbox_within(limit: Duration, test: impl AsyncFnOnce(&Sandbox)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let own_status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    if ignores(&own_status, Signal::SIGINT) {
        // A shell without job control has its background commands ignore INT, and they pass that on to the programs under test, which
        // people interrupt. A handler is not passed on: `execve` sets the signal to its default.
        runtime.block_on(async { signal(SignalKind::interrupt()).map(drop).expect("a handler") });
    }
    let directory = TempDir::with_prefix("lw-").expect("the temporary directory can be written");
    let sandbox = Sandbox { directory, daemons: RefCell::default() };
    runtime.block_on(async {
        let outcome = AssertUnwindSafe(timeout(limit, test(&sandbox))).catch_unwind().await;
        let daemons = sandbox.daemons.take();
        let violations = postconditions::check_and_clean_up(sandbox.path(), &daemons).await;
        let violations: String = violations.iter().map(|violation| format!("after the test: {violation}\n")).collect();
        if matches!(outcome, Ok(Ok(()))) && violations.is_empty() {
            return;
        }
        postconditions::print_diagnostics(&daemons);
        match outcome {
            Err(panic) => {
                eprintln!("{violations}");
                resume_unwind(panic)
            }
            Ok(Err(_)) => panic!("the test does not end within {limit:?}\n{violations}"),
            Ok(Ok(())) => panic!("{violations}"),
        }
    });
}

impl Sandbox {
    /// The directory, which is HOME of everything that runs in it.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The path of `name` in the directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// A fleet whose servers are stand-ins.
    pub fn fleet(&self) -> TestFleet {
        self.fleet_named("warden")
    }

    /// As [`Self::fleet`], for a test with several fleets: `name` is the prefix of its files.
    pub fn fleet_named(&self, name: &str) -> TestFleet {
        TestFleet::new(name, self.path(), stand_in_program())
    }

    /// The path of a stand-in that imitates the build of `era`, also when it is asked for `--version` and `--help`.
    pub fn build_of(&self, era: Era) -> PathBuf {
        let name = serde_json::to_string(&era).expect("an era has a name");
        self.build(name.trim_matches('"'), &Script { era, ..Script::default() })
    }

    /// The path of a stand-in in the folder `name`, which follows `script` also when it is asked for `--version` and
    /// `--help`.
    pub fn build(&self, name: &str, script: &Script) -> PathBuf {
        let folder = self.file(name);
        std::fs::create_dir_all(&folder).expect("the sandbox can be written");
        let program = folder.join("llama-server");
        // A link, since a copy takes 8 MB. The stand-in looks for its script beside the path by which it was called.
        std::os::unix::fs::symlink(stand_in_program(), &program).expect("the sandbox can be written");
        script.write_beside(&program).expect("the sandbox can be written");
        program
    }

    /// Starts a daemon, and waits until it answers.
    pub async fn up(&self, fleet: &TestFleet) -> TestDaemon {
        self.up_with(fleet, &DaemonOptions::default()).await
    }

    /// Starts a daemon with a server for each id, and waits until all of them are ready.
    pub async fn up_ready(&self, ids: &[&str]) -> (TestFleet, TestDaemon) {
        let mut fleet = self.fleet();
        for id in ids {
            fleet.server(id, Script::default());
        }
        let daemon = self.up_until_ready(&fleet, ids).await;
        (fleet, daemon)
    }

    /// As [`Self::up`], and waits until these servers are ready.
    pub async fn up_until_ready(&self, fleet: &TestFleet, ids: &[&str]) -> TestDaemon {
        let daemon = self.up(fleet).await;
        for id in ids {
            daemon.ready(id).await;
        }
        daemon
    }

    /// As [`Self::up`], with options.
    pub async fn up_with(&self, fleet: &TestFleet, options: &DaemonOptions) -> TestDaemon {
        let daemon = self.launch(fleet, options);
        daemon.answering().await;
        daemon
    }

    /// Starts a daemon without waiting for it.
    pub fn launch(&self, fleet: &TestFleet, options: &DaemonOptions) -> TestDaemon {
        let mut daemons = self.daemons.borrow_mut();
        let daemon = TestDaemon::spawn(fleet, options, self.path(), daemons.len());
        daemons.push(daemon.clone());
        daemon
    }

    /// Runs llama-warden with a configuration and arguments to its end.
    pub async fn run<S: AsRef<OsStr>>(&self, config: &Path, arguments: impl IntoIterator<Item = S>) -> ProgramRun {
        let mut command = self.program(daemon_program());
        command.arg("--config").arg(config).args(arguments);
        ProgramRun::to_end(command).await
    }

    /// The path of a copy of llama-warden in a folder of its own, without the project's other programs beside it.
    pub fn copy_of_daemon(&self) -> PathBuf {
        let copy = self.file("elsewhere/bin/llama-warden");
        if !copy.exists() {
            std::fs::create_dir_all(self.file("elsewhere/bin")).expect("the sandbox can be written");
            // `cp` writes it: if this process did, a child that another thread forks at that moment would inherit the
            // descriptor, and the kernel refuses to execute a file that is open for writing (ETXTBSY).
            let copied = std::process::Command::new("cp").arg(daemon_program()).arg(&copy).status();
            assert!(copied.expect("cp runs").success(), "the sandbox can be written");
        }
        copy
    }

    /// A command in the sandbox's directory, with PATH and HOME as its only environment.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).env("HOME", self.path()).current_dir(self.path()).kill_on_drop(true);
        command
    }
}
