//! Runs an executable with `--version` and `--help` to identify its build, once per file.
//!
//! Both runs are ordinary processes with bounds: ten seconds, one MiB of output, nothing left behind, and the environment that the
//! server would get, but for variables that set options: a build reads the file that one names before it answers, and ends if it
//! is not there.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use llama_warden_detectors::{GENERIC, Matcher as _, PackSet, Verdict, message_text};
use llama_warden_dialects::{BinaryProfile, BuildVersion, OptionList, named_variables};
use llama_warden_events::{FailureReason, ProcessEnd, Signal, StreamName};
use llama_warden_support::{blocking, lock};
use nix::errno::Errno;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout, timeout_at};

use super::failure::{EXHAUSTED, LaunchFailure, TOO_LONG, is_exhaustion};
use super::preflight::{ProgramKind, check_program};
use crate::output::pipes::read_bounded;
use llama_warden_processes::child_process::ChildProcess;
use llama_warden_processes::child_process::Spawned;
use llama_warden_processes::environment::ChildEnvironment;
use llama_warden_processes::spawn_request::SpawnRequest;
use llama_warden_processes::spawner::Spawner;

/// Time for both runs, which go side by side.
const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(10);
/// Time until an executable that did not answer in time is asked again. A slow disk or a busy machine may have been the reason.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// Bytes that are read of each stream. The longest known help text has 60 KiB.
const MAX_OUTPUT: u64 = 1024 * 1024;
/// Time from the end of a run's output to its own end.
const END_TIMEOUT: Duration = Duration::from_millis(200);

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
    /// Its help text is not that of a llama-server.
    #[error("{} --help lists no options of a llama-server", path.display())]
    NoOptions {
        /// The executable.
        path: PathBuf,
    },
}

impl IdentifyError {
    /// Whether the machine, or a limit, did not let the executable run: a launch is tried again then.
    pub fn is_of_the_machine(&self) -> bool {
        matches!(self, Self::NotRun { source, .. } if is_exhaustion(source))
    }

    /// The next step, for people.
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::Broken { .. } => "install what is missing, or use a build for this machine",
            _ if self.is_of_the_machine() => EXHAUSTED,
            Self::NotRun { source, .. } if source.kind() == io::ErrorKind::ArgumentListTooLong => TOO_LONG,
            Self::Unreadable { .. } | Self::NotRun { .. } => "give the user who runs llama-warden the right to run it",
            Self::TooSlow { .. } | Self::NoOptions { .. } => {
                "have it answer --help as llama-server does, or name its flag dialect as `dialect`"
            }
        }
    }

    /// The failure of a launch that cannot go on without an answer; `None` if the options that are written will do.
    pub(crate) fn launch_failure(&self) -> Option<LaunchFailure> {
        let detail = format!("{self}; {}", self.next_step());
        match self {
            Self::Broken { .. } => Some(LaunchFailure::new(FailureReason::BinaryBroken, detail)),
            _ if self.is_of_the_machine() => Some(LaunchFailure::new(FailureReason::SpawnFailed, detail)),
            _ => None,
        }
    }
}

/// The profiles of the executables that were run, in memory. Cheap to clone; clones share the profiles.
#[derive(Debug, Clone, Default)]
pub struct BinaryCache(Arc<Mutex<HashMap<FileIdentity, SharedAnswer>>>);

/// Filled by the first caller; the others wait for it.
type SharedAnswer = Arc<OnceCell<KeptAnswer>>;

/// What an executable answered, and until when that counts.
#[derive(Debug, Clone)]
struct KeptAnswer {
    profile: Result<Arc<BinaryProfile>, Arc<IdentifyError>>,
    /// `None` for a profile: it is that of the file.
    expires: Option<Instant>,
}

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
    /// The profile of the executable at `path` (absolute). Runs it at most once, however many callers wait. One that could not be
    /// identified is asked again by a later call; one that did not answer in time not within the next minute.
    ///
    /// # Errors
    /// See [`IdentifyError`].
    pub async fn identify(
        &self,
        spawner: &Spawner,
        path: &Path,
        environment: &ChildEnvironment,
    ) -> Result<Arc<BinaryProfile>, Arc<IdentifyError>> {
        let identity =
            FileIdentity::of(path).map_err(|source| IdentifyError::Unreadable { path: path.into(), source })?;
        let entry = {
            let mut answers = lock(&self.0);
            let entry = answers.entry(identity).or_default();
            let is_expired = |answer: &KeptAnswer| answer.expires.is_some_and(|expires| expires <= Instant::now());
            if entry.get().is_some_and(is_expired) {
                *entry = SharedAnswer::default();
            }
            Arc::clone(entry)
        };
        let run = || async {
            let profile = identify(spawner, path, environment).await.map(Arc::new).map_err(Arc::new);
            // Only a question that runs into its timeout is worth a rest: nobody should wait for it at every launch.
            let rest = |error: &Arc<IdentifyError>| match **error {
                IdentifyError::TooSlow { .. } => ASK_AGAIN,
                _ => Duration::ZERO,
            };
            let expires = profile.as_ref().err().map(|error| Instant::now() + rest(error));
            KeptAnswer { profile, expires }
        };
        entry.get_or_init(run).await.profile.clone()
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

/// Runs the executable at `path` (absolute) with `environment`, but for variables that set options, and returns its profile.
///
/// # Errors
/// See [`IdentifyError`].
pub async fn identify(
    spawner: &Spawner,
    path: &Path,
    environment: &ChildEnvironment,
) -> Result<BinaryProfile, IdentifyError> {
    let is_script = check_format(path).await?;
    let deadline = Instant::now() + IDENTIFY_TIMEOUT;
    let mut environment = environment.clone();
    environment.retain(|name, _| !name.as_encoded_bytes().starts_with(b"LLAMA_ARG_"));
    let environment = &environment;
    let run = |argument| IdentifyRun { spawner, path, argument, environment, deadline };
    let (version, help) = (run("--version"), run("--help"));
    let (version, help) = tokio::join!(version.output(), help.output());
    let (help, end) = help?;
    let options = OptionList::parse(&help);
    if !options.is_of_llama_server() {
        let path = path.into();
        return Err(match why_broken(&help, end) {
            _ if is_short_of_processes(&help) => {
                IdentifyError::NotRun { path, argument: "--help", source: Errno::EAGAIN.into() }
            }
            Some(line) => IdentifyError::Broken { path, line },
            None => IdentifyError::NoOptions { path },
        });
    }
    // Builds of 2023 have no `--version`; their options are enough to choose a dialect.
    let version = version.map(|(text, _)| BuildVersion::parse(&text)).unwrap_or_default();
    let variables = named_variables(&help);
    // Builds that name their variables parse arguments by the table that they print. A script may have options of its own.
    let refuses_unlisted = !variables.is_empty() && !is_script;
    Ok(BinaryProfile { variables, refuses_unlisted, ..BinaryProfile::new(path.into(), version, Some(options)) })
}

/// Finds an executable that the kernel would not run, whose own reason is only "No such file or directory". Returns whether it
/// is a script.
async fn check_format(path: &Path) -> Result<bool, IdentifyError> {
    let checked = path.to_owned();
    let failure = match blocking(move || check_program(&checked)).await {
        Ok(Ok(kind)) => return Ok(kind == ProgramKind::Script),
        Ok(Err(failure)) if failure.reason == FailureReason::BinaryBroken => failure,
        _ => return Ok(false),
    };
    let line = failure.detail.replacen(&format!("{} ", path.display()), "it ", 1);
    Err(IdentifyError::Broken { path: path.into(), line })
}

/// Whether an executable that printed no help could not start a process or a thread: a wrapper, or llama-server itself.
fn is_short_of_processes(output: &str) -> bool {
    let phrases = ["Resource temporarily unavailable", "annot fork", "an't fork"];
    output.lines().any(|line| phrases.iter().any(|phrase| line.contains(phrase)))
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
            name: "shim question".to_owned(),
            program: self.path.into(),
            arguments: vec![self.argument.into()],
            environment: self.environment.clone(),
            lock: None,
            may_leave_descendants: false,
            kept: None,
        };
        let Spawned { process, stdout, stderr } = self.spawner.spawn(&request).await.map_err(not_run)?;
        let output = timeout_at(self.deadline, async {
            tokio::try_join!(read_bounded(stdout, MAX_OUTPUT), read_bounded(stderr, MAX_OUTPUT))
        })
        .await;
        let end = end_of_run(process).await;
        let (mut stdout, stderr) = output
            .map_err(|_| IdentifyError::TooSlow { path: self.path.into(), argument: self.argument })?
            .map_err(not_run)?;
        stdout.push(b'\n');
        stdout.extend_from_slice(&stderr);
        Ok((String::from_utf8_lossy(&stdout).into_owned(), end))
    }
}

/// Kills a run, unless it ends by itself soon after its output, and waits for its end.
async fn end_of_run(mut process: ChildProcess) -> ProcessEnd {
    if timeout(END_TIMEOUT, process.exited()).await.is_err() {
        // Fails if the process has ended by itself meanwhile.
        let _ = process.deliver(Signal::KILL);
    }
    process.exited().await;
    process.outcome().end
}
