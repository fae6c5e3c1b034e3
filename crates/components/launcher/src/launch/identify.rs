//! Asks an executable what it is: `--version` and `--help`, once per file.
//!
//! The questions are ordinary processes with bounds: ten seconds, one MiB of output, a group of their own that is
//! killed at the end, and the environment that the server would get.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use llama_warden_dialects::{BinaryProfile, BuildVersion, OptionList};
use llama_warden_events::Signal;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use crate::output::pipes::read_bounded;
use crate::process::child_process::ChildProcess;
use crate::process::environment::ChildEnvironment;
use crate::process::spawn_request::{ShimProgram, SpawnRequest};
use crate::process::spawner::Spawner;
use crate::process::sweep::ProcessSelector;

/// Time for both questions.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// ServerOutput that is read of each stream. The longest known help text has 60 KiB.
const MAX_ANSWER: u64 = 1024 * 1024;
/// Time to kill what a question leaves behind.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(2);

/// Why an executable could not be identified.
#[derive(Debug, thiserror::Error)]
pub enum IdentifyError {
    /// The file cannot be looked at.
    #[error("cannot look at {}: {source}", path.display())]
    Unreadable {
        /// The executable.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It cannot be run, or its output not be read.
    #[error("cannot run {} {argument}: {source}", path.display())]
    NotRun {
        /// The executable.
        path: PathBuf,
        /// The question.
        argument: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// It did not end in time.
    #[error("{} {argument} did not end within {} s", path.display(), ANSWER_TIMEOUT.as_secs())]
    TooSlow {
        /// The executable.
        path: PathBuf,
        /// The question.
        argument: &'static str,
    },
    /// It printed something else than a list of options.
    #[error("{} --help lists no options", path.display())]
    NoOptions {
        /// The executable.
        path: PathBuf,
    },
}

/// The profiles of the executables that were asked, in memory. Cheap to clone; the answers are shared.
#[derive(Debug, Clone, Default)]
pub struct BinaryCache(Arc<Mutex<HashMap<FileIdentity, SharedAnswer>>>);

/// Filled by the first caller, awaited by the others.
type SharedAnswer = Arc<OnceCell<Arc<BinaryProfile>>>;

/// Names a file's content without reading it: a new build in the same place has another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct FileIdentity {
    path: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    modified_nanoseconds: i128,
}

impl BinaryCache {
    /// The profile of the executable at `path` (absolute), asked for at most once however many callers wait.
    ///
    /// # Errors
    /// See [`IdentifyError`]. A failure is not remembered: the next call asks again.
    pub async fn identify(
        &self,
        spawner: &Spawner,
        path: &Path,
        environment: &ChildEnvironment,
    ) -> Result<Arc<BinaryProfile>, IdentifyError> {
        let identity =
            FileIdentity::of(path).map_err(|source| IdentifyError::Unreadable { path: path.into(), source })?;
        let entry = {
            let mut profiles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(profiles.entry(identity).or_default())
        };
        let ask = || async { identify(spawner, path, environment).await.map(Arc::new) };
        entry.get_or_try_init(ask).await.cloned()
    }
}

impl FileIdentity {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = path.metadata()?;
        Ok(Self {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified_nanoseconds: i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
        })
    }
}

/// Asks the executable at `path` (absolute) what it is, in `environment` and no other.
///
/// # Errors
/// See [`IdentifyError`].
pub async fn identify(
    spawner: &Spawner,
    path: &Path,
    environment: &ChildEnvironment,
) -> Result<BinaryProfile, IdentifyError> {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let question = |argument| Question { spawner, path, argument, environment, deadline };
    let (version, help) = (question("--version"), question("--help"));
    let (version, help) = tokio::join!(version.ask(), help.ask());
    let options = OptionList::parse(&help?);
    if options.is_empty() {
        return Err(IdentifyError::NoOptions { path: path.into() });
    }
    // Builds of 2023 know no `--version`; the options tell enough.
    let version = version.map(|text| BuildVersion::parse(&text)).unwrap_or_default();
    Ok(BinaryProfile::new(path.into(), version, Some(options)))
}

struct Question<'a> {
    spawner: &'a Spawner,
    path: &'a Path,
    argument: &'static str,
    environment: &'a ChildEnvironment,
    deadline: Instant,
}

impl Question<'_> {
    /// What it prints on both streams. The exit code says nothing: builds of mid 2024 end their help with 1.
    async fn ask(&self) -> Result<String, IdentifyError> {
        let not_run = |source| IdentifyError::NotRun { path: self.path.into(), argument: self.argument, source };
        let request = SpawnRequest {
            shim: ShimProgram::None,
            program: self.path.into(),
            arguments: vec![self.argument.into()],
            environment: self.environment.clone(),
            lock: None,
        };
        let spawned = self.spawner.spawn(request).await.map_err(not_run)?;
        let process = ChildProcess::new(self.spawner, spawned.child).map_err(not_run)?;
        let answer = timeout_at(self.deadline, async {
            tokio::try_join!(read_bounded(spawned.stdout, MAX_ANSWER), read_bounded(spawned.stderr, MAX_ANSWER))
        })
        .await;
        self.end(process).await.map_err(not_run)?;
        let (mut stdout, stderr) = answer
            .map_err(|_| IdentifyError::TooSlow { path: self.path.into(), argument: self.argument })?
            .map_err(not_run)?;
        stdout.push(b'\n');
        stdout.extend_from_slice(&stderr);
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }

    /// What it prints is all that counts, so that it is ended as soon as that is read.
    async fn end(&self, process: ChildProcess) -> io::Result<()> {
        // It may have ended by itself; then there is nothing to signal.
        let _ = process.deliver(Signal::KILL);
        process.exited().await?;
        process.sweep(ProcessSelector::default(), Instant::now() + SWEEP_TIMEOUT).await;
        process.reap();
        Ok(())
    }
}
