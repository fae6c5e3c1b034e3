//! The sandbox of one test, and the frame around each test.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::FutureExt;
use llama_warden_stand_in::{Era, Script};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

use crate::daemon::TestDaemon;
use crate::fleet::TestFleet;
use crate::options::DaemonOptions;
use crate::postconditions;
use crate::program::{ProgramRun, daemon_program, stand_in_program};

/// Longest time of a test. Each wait has a deadline of its own; this one is for many waits in a row.
const TEST_LIMIT: Duration = Duration::from_secs(240);

/// A directory, and the daemons that run in it.
#[derive(Debug)]
pub struct Sandbox {
    directory: TempDir,
    daemons: RefCell<Vec<TestDaemon>>,
}

/// Runs a test on a sandbox and asserts what has to hold after every test.
///
/// # Panics
/// When the test does, or when something was left behind.
pub fn sandbox(test: impl AsyncFnOnce(&Sandbox)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let directory = TempDir::with_prefix("lw-").expect("the temporary directory can be written");
    let sandbox = Sandbox { directory, daemons: RefCell::default() };
    runtime.block_on(async {
        let outcome = AssertUnwindSafe(timeout(TEST_LIMIT, test(&sandbox))).catch_unwind().await;
        let daemons = sandbox.daemons.take();
        let violations = postconditions::check_and_clean_up(sandbox.path(), &daemons).await;
        if matches!(outcome, Ok(Ok(()))) && violations.is_empty() {
            return;
        }
        postconditions::print_diagnostics(&daemons);
        match outcome {
            Err(panic) => {
                eprintln!("{violations}");
                resume_unwind(panic)
            }
            Ok(Err(_)) => panic!("the test does not end within {TEST_LIMIT:?}\n{violations}"),
            Ok(Ok(())) => panic!("{violations}"),
        }
    });
}

impl Sandbox {
    /// Its directory: HOME of everything that runs on it.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A path in its directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// A fleet of stand-ins.
    pub fn fleet(&self) -> TestFleet {
        self.fleet_named("warden")
    }

    /// A fleet of stand-ins beside others: its files carry its name.
    pub fn fleet_named(&self, name: &str) -> TestFleet {
        TestFleet::new(name, self.path(), stand_in_program())
    }

    /// A stand-in that says that it is a build of `era`, also when it is asked for its options.
    pub fn build_of(&self, era: Era) -> PathBuf {
        let name = serde_json::to_string(&era).expect("an era has a name");
        self.build(name.trim_matches('"'), &Script { era, ..Script::default() })
    }

    /// A stand-in that lies in a folder of its own and answers questions as `script` says.
    pub fn build(&self, name: &str, script: &Script) -> PathBuf {
        let folder = self.file(name);
        std::fs::create_dir_all(&folder).expect("the sandbox can be written");
        let program = folder.join("llama-server");
        // A copy would cost 8 MB; the stand-in looks for its script beside the name by which it is called.
        std::os::unix::fs::symlink(stand_in_program(), &program).expect("the sandbox can be written");
        script.write_beside(&program).expect("the sandbox can be written");
        program
    }

    /// Starts a daemon and waits until it answers.
    pub async fn up(&self, fleet: &TestFleet) -> TestDaemon {
        self.up_with(fleet, &DaemonOptions::default()).await
    }

    /// The same with options.
    pub async fn up_with(&self, fleet: &TestFleet, options: &DaemonOptions) -> TestDaemon {
        let daemon = self.launch(fleet, options);
        daemon.answering().await;
        daemon
    }

    /// Starts a daemon and returns at once.
    pub fn launch(&self, fleet: &TestFleet, options: &DaemonOptions) -> TestDaemon {
        let mut daemons = self.daemons.borrow_mut();
        let daemon = TestDaemon::spawn(fleet, options, self.path(), daemons.len());
        daemons.push(daemon.clone());
        daemon
    }

    /// Runs the command line with this configuration to its end.
    pub async fn run<S: AsRef<OsStr>>(&self, config: &Path, arguments: impl IntoIterator<Item = S>) -> ProgramRun {
        let mut command = self.program(daemon_program());
        command.arg("--config").arg(config).args(arguments);
        ProgramRun::to_end(command).await
    }

    /// The daemon's program in a directory of its own, where nothing of the project lies beside it.
    pub fn copy_of_daemon(&self) -> PathBuf {
        let copy = self.file("elsewhere/bin/llama-warden");
        if !copy.exists() {
            std::fs::create_dir_all(self.file("elsewhere/bin")).expect("the sandbox can be written");
            // A process of its own writes it: another thread that forks meanwhile would keep our descriptor, and the kernel
            // runs no program that somebody has open for writing.
            let copied = std::process::Command::new("cp").arg(daemon_program()).arg(&copy).status();
            assert!(copied.expect("cp runs").success(), "the sandbox can be written");
        }
        copy
    }

    /// A program in the sandbox's directory and environment.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).env("HOME", self.path()).current_dir(self.path()).kill_on_drop(true);
        command
    }
}
