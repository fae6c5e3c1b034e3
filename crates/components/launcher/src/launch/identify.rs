//! Runs an executable with `--version` and `--help` to identify its build, once per file.
//!
//! Both runs are ordinary processes with bounds: ten seconds, one MiB of output, a group of their own that is killed at the
//! end, and the environment that the server would get.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use llama_warden_detectors::{GENERIC, Matcher as _, PackSet, Verdict, message_text};
use llama_warden_dialects::{BinaryProfile, BuildVersion, OptionList, named_variables};
use llama_warden_events::{FailureReason, ProcessEnd, Signal, StreamName};
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout, timeout_at};

use crate::output::pipes::read_bounded;
use crate::process::child_process::ChildProcess;
use crate::process::environment::ChildEnvironment;
use crate::process::spawn_request::{ShimProgram, SpawnRequest};
use crate::process::spawner::Spawner;
use crate::process::sweep::ProcessSelector;

/// Time for both runs, which go side by side.
const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that are read of each stream. The longest known help text has 60 KiB.
const MAX_OUTPUT: u64 = 1024 * 1024;
/// Time from the end of a run's output to its own end.
const END_TIMEOUT: Duration = Duration::from_millis(200);
/// Time to kill descendants of a run.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(2);

/// An executable that could not be identified.
#[derive(Debug, thiserror::Error)]
pub enum IdentifyError {
    /// The metadata of the file cannot be read.
    #[error("cannot look at {}: {source}", path.display())]
    Unreadable {
        /// The executable.
        path: PathBuf,
        /// The error of the kernel.
        source: io::Error,
    },
    /// The file cannot be run, or its output cannot be read.
    #[error("cannot run {} {argument}: {source}", path.display())]
    NotRun {
        /// The executable.
        path: PathBuf,
        /// The argument that it was run with.
        argument: &'static str,
        /// The error of the kernel.
        source: io::Error,
    },
    /// It did not end within the time for both runs.
    #[error("{} {argument} did not end within {} s", path.display(), IDENTIFY_TIMEOUT.as_secs())]
    TooSlow {
        /// The executable.
        path: PathBuf,
        /// The argument that it was run with.
        argument: &'static str,
    },
    /// The executable cannot run on this machine.
    #[error("{} cannot run here: {line}", path.display())]
    Broken {
        /// The executable.
        path: PathBuf,
        /// What the loader or the shell says, or how it ended.
        line: String,
    },
    /// Its help text lists no options.
    #[error("{} --help lists no options", path.display())]
    NoOptions {
        /// The executable.
        path: PathBuf,
    },
}

/// The profiles of the executables that were run, in memory. Cheap to clone; clones share the profiles.
#[derive(Debug, Clone, Default)]
pub struct BinaryCache(Arc<Mutex<HashMap<FileIdentity, SharedProfile>>>);

/// Filled by the first caller; the others wait for it.
type SharedProfile = Arc<OnceCell<Arc<BinaryProfile>>>;

/// Identifies a file's content without reading it: another build at the same path differs in at least one field.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct FileIdentity {
    path: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    modified_nanoseconds: i128,
}

impl BinaryCache {
    /// The profile of the executable at `path` (absolute). Runs it at most once, however many callers wait.
    ///
    /// # Errors
    /// See [`IdentifyError`]. A failure is not stored: the next call runs the executable again.
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
        let run = || async { identify(spawner, path, environment).await.map(Arc::new) };
        entry.get_or_try_init(run).await.cloned()
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

/// Runs the executable at `path` (absolute) with exactly `environment`, and returns its profile.
///
/// # Errors
/// See [`IdentifyError`].
pub async fn identify(
    spawner: &Spawner,
    path: &Path,
    environment: &ChildEnvironment,
) -> Result<BinaryProfile, IdentifyError> {
    let deadline = Instant::now() + IDENTIFY_TIMEOUT;
    let run = |argument| IdentifyRun { spawner, path, argument, environment, deadline };
    let (version, help) = (run("--version"), run("--help"));
    let (version, help) = tokio::join!(version.output(), help.output());
    let (help, end) = help?;
    let options = OptionList::parse(&help);
    if options.is_empty() {
        let path = path.into();
        return Err(match why_broken(&help, end) {
            Some(line) => IdentifyError::Broken { path, line },
            None => IdentifyError::NoOptions { path },
        });
    }
    // Builds of 2023 have no `--version`; their options are enough to choose a dialect.
    let version = version.map(|(text, _)| BuildVersion::parse(&text)).unwrap_or_default();
    Ok(BinaryProfile { variables: named_variables(&help), ..BinaryProfile::new(path.into(), version, Some(options)) })
}

/// Why an executable that printed no help cannot run at all, in the words of its loader.
fn why_broken(output: &str, end: ProcessEnd) -> Option<String> {
    let packs = PackSet::built_in();
    let mut matcher = packs.get(GENERIC)?.matcher(None);
    let mut is_reason = |line: &&str| {
        let verdict = matcher.on_line(StreamName::Stderr, line.as_bytes());
        matches!(verdict, Verdict::Failure { reason: FailureReason::BinaryBroken, .. })
    };
    let line = output.lines().find(|line| is_reason(line)).map(|line| message_text(line.as_bytes()));
    let last = || output.lines().map(str::trim).rfind(|line| !line.is_empty());
    line.or_else(|| match end {
        ProcessEnd::Exited { code: 126 | 127 } => {
            Some(last().map_or_else(|| format!("it ends with {end}"), str::to_owned))
        }
        ProcessEnd::Exited { code: 132 } | ProcessEnd::Signaled { signal: Signal::ILL, .. } => {
            Some(format!("it ends with {end}, since it uses instructions that this CPU does not have"))
        }
        _ => None,
    })
}

struct IdentifyRun<'a> {
    spawner: &'a Spawner,
    path: &'a Path,
    argument: &'static str,
    environment: &'a ChildEnvironment,
    deadline: Instant,
}

impl IdentifyRun<'_> {
    /// Returns what the run prints on both streams, and its end. Builds of mid 2024 end `--help` with 1.
    async fn output(&self) -> Result<(String, ProcessEnd), IdentifyError> {
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
        let output = timeout_at(self.deadline, async {
            tokio::try_join!(read_bounded(spawned.stdout, MAX_OUTPUT), read_bounded(spawned.stderr, MAX_OUTPUT))
        })
        .await;
        let end = self.end(process).await.map_err(not_run)?;
        let (mut stdout, stderr) = output
            .map_err(|_| IdentifyError::TooSlow { path: self.path.into(), argument: self.argument })?
            .map_err(not_run)?;
        stdout.push(b'\n');
        stdout.extend_from_slice(&stderr);
        Ok((String::from_utf8_lossy(&stdout).into_owned(), end))
    }

    /// Kills the run, unless it ends by itself soon after its output, and reaps it.
    async fn end(&self, process: ChildProcess) -> io::Result<ProcessEnd> {
        if timeout(END_TIMEOUT, process.exited()).await.is_err() {
            // Fails if the process has ended by itself meanwhile.
            let _ = process.deliver(Signal::KILL);
        }
        process.exited().await?;
        process.sweep(ProcessSelector::default(), Instant::now() + SWEEP_TIMEOUT).await;
        Ok(process.reap())
    }
}
