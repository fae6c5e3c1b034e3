//! Prepares a launch up to the spawn: finds the executable, checks files and address, identifies the build, builds the command
//! line.
//!
//! Nothing here needs to be undone: a launch that is cancelled drops the future.

use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use llama_warden_bus::{BusClosed, EventDraft};
use llama_warden_config::{COMMENTS_ARE_KEYS, ListenerPolicy, ServerSpec};
use llama_warden_dialects::{BinaryProfile, CommandLine, Dialect, InputFile, OptionList, build_command_line};
use llama_warden_events::{Event, FailureReason, Warning};
use llama_warden_plugin_files::{PluginFile as _, ReloadChanges};
use llama_warden_support::{Redactor, blocking, fail_point, find_program, variable_secrets};
use tokio::time::Instant;

use super::context::{Launch, NotStarted};
use super::failure::LaunchFailure;
use super::preflight::{self, ServerKeys};
use llama_warden_processes::environment::{ChildEnvironment, EnvironmentPolicy, child_environment};
use llama_warden_processes::launch_tag::{LAUNCH_TAG_VARIABLE, LaunchTag};
use llama_warden_processes::sweep::{ProcessSelector, Sweep, sweep};

/// Time to kill processes of an earlier launch that still hold the port.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// The command line, environment and secrets of a process that is about to be spawned.
#[derive(Debug)]
pub(crate) struct PreparedLaunch {
    pub(crate) line: CommandLine,
    pub(crate) environment: ChildEnvironment,
    pub(crate) redactor: Redactor,
}

impl Launch {
    /// Prepares the launch, and publishes what it finds out. `runs` is for a process that is to be taken over.
    pub(crate) async fn prepare(&self, runs: bool) -> Result<PreparedLaunch, NotStarted> {
        let Self { server, resources, reporter, .. } = self;
        let policy = EnvironmentPolicy { pass: &server.env_pass, set: &server.env };
        let environment = child_environment(resources.environment.iter().cloned(), policy, Some(&self.tag()))
            .map_err(|error| LaunchFailure::new(FailureReason::BadArgument, format!("`env-pass`: {error}")))?;
        let search_path = environment.get(OsStr::new("PATH"));
        let program = find_program(&server.binary, search_path.map(AsRef::as_ref)).map_err(|error| {
            let next_step = error.next_step(&server.directory, "set `binary`, or install llama-server");
            let detail = format!("{error}; {next_step}");
            LaunchFailure::new(FailureReason::BinaryNotFound, detail)
        })?;
        let ServerKeys { keys, has_comments, mut doubts } = match self.run_preflight(&program, runs).await {
            Err(failure) if failure.reason == FailureReason::PortInUse => {
                self.kill_port_holders().await;
                self.run_preflight(&program, runs).await?
            }
            checked => checked?,
        };
        fail_point("launch-checked");
        let profile = self.identify(&program, &environment).await?;
        self.warn_of_dropped_variables(&profile, &environment).await?;
        if has_comments && profile.options.as_ref().is_some_and(OptionList::takes_comments_for_keys) {
            doubts.push(COMMENTS_ARE_KEYS.join("; "));
        }
        let dialect = self.choose_dialect(&profile).await?;
        let server = self.with_slots_folder().await?;
        let mut line = build_command_line(&server, &profile, &dialect)?;
        doubts.extend(self.look_for_files(std::mem::take(&mut line.files)).await?);
        let notes = resources.notes.intern(std::mem::take(&mut line.notes));
        if !notes.is_empty() {
            reporter.publish(Event::OptionsTranslated { notes }).await?;
        }
        for detail in line.warnings.iter().cloned() {
            reporter.publish(Event::ServerWarned { warning: Warning::OptionDropped, detail }).await?;
        }
        let doubts = doubts.into_iter().chain(line.doubts.iter().map(ToString::to_string));
        for detail in doubts.collect::<Vec<_>>() {
            reporter.publish(Event::ServerWarned { warning: Warning::DoubtfulSetting, detail }).await?;
        }
        // A server may print its command line, the keys of its key file, or its environment.
        let variables = environment
            .iter()
            .flat_map(|(name, value)| variable_secrets(&name.to_string_lossy(), &value.to_string_lossy()));
        let redactor = Redactor::new(line.secrets().into_iter().chain(keys).chain(variables));
        Ok(PreparedLaunch { line, environment, redactor })
    }

    /// The server with its folder for slots in place. Without it a build ends at its start, so that it is not passed then.
    async fn with_slots_folder(&self) -> Result<Arc<ServerSpec>, BusClosed> {
        let Some(folder) = self.server.slots_folder().map(Path::to_owned) else { return Ok(self.server.clone()) };
        let made = blocking(move || DirBuilder::new().recursive(true).mode(0o700).create(folder)).await;
        let error = match made {
            Ok(Ok(())) => return Ok(self.server.clone()),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        let detail = format!("`router.keep-cache`: cannot create the folder for its slots: {error}");
        self.reporter.publish(Event::ServerWarned { warning: Warning::DoubtfulSetting, detail }).await?;
        Ok(self.server.saving_no_slots())
    }

    /// Warns of variables that the daemon has, that the build reads, and that its server does not get.
    async fn warn_of_dropped_variables(
        &self,
        profile: &BinaryProfile,
        environment: &ChildEnvironment,
    ) -> Result<(), BusClosed> {
        let Self { resources, reporter, .. } = self;
        let is_dropped = |name: &&String| {
            let name = OsStr::new(name);
            !environment.contains_key(name) && resources.environment.iter().any(|(known, _)| known == name)
        };
        let dropped: Vec<&str> = profile.variables.iter().filter(is_dropped).map(String::as_str).collect();
        if dropped.is_empty() {
            return Ok(());
        }
        let detail = format!(
            "{} of the daemon's environment is not passed to servers; write it as an option, or into `env`",
            dropped.join(", ")
        );
        reporter.publish(Event::ServerWarned { warning: Warning::VariableDropped, detail }).await
    }

    /// Kills processes of earlier launches of this server: one that could not be killed in time may hold the port. Processes of
    /// strangers carry no tag of this server and are not touched.
    async fn kill_port_holders(&self) {
        let tag = Some(LaunchTag::of_server(&self.resources.boot, &self.server.id));
        let selector = ProcessSelector { tag, ..ProcessSelector::default() };
        let Sweep { killed, survivors: left } = sweep(&selector, Instant::now() + RELEASE_TIMEOUT).await;
        if killed > 0 || !left.is_empty() {
            tracing::warn!(server = %self.server.id, killed, ?left, "processes of an earlier launch still had its port");
        }
    }

    /// Checks files and addresses off the runtime's thread; returns the keys.
    async fn run_preflight(&self, program: &Path, runs: bool) -> Result<ServerKeys, LaunchFailure> {
        let (server, program) = (Arc::clone(&self.server), program.to_owned());
        let checked = blocking(move || preflight::check(&server, &program, runs)).await;
        checked
            .unwrap_or_else(|error| Err(LaunchFailure::new(FailureReason::Unknown, format!("the preflight: {error}"))))
    }

    /// Looks for the files that options name, off the runtime's thread. A server that runs elsewhere may see others than the
    /// daemon: what is missing here is a doubt then.
    async fn look_for_files(&self, files: Vec<InputFile>) -> Result<Option<String>, LaunchFailure> {
        if files.is_empty() {
            return Ok(None);
        }
        let looked = blocking(move || preflight::check_files(&files)).await;
        let looked = looked
            .unwrap_or_else(|error| Err(LaunchFailure::new(FailureReason::Unknown, format!("the preflight: {error}"))));
        match looked {
            Err(failure) if self.server.readiness.listener == ListenerPolicy::Any => Ok(Some(failure.detail)),
            looked => looked.map(|()| None),
        }
    }

    /// The profile of the executable. One that cannot be identified gets what the user wrote, with a warning.
    async fn identify(&self, program: &Path, environment: &ChildEnvironment) -> Result<Arc<BinaryProfile>, NotStarted> {
        let Self { resources, reporter, .. } = self;
        // Other launches may wait for the same answer: this launch's sweep must not kill the process that gives it.
        let mut untagged = environment.clone();
        untagged.remove(OsStr::new(LAUNCH_TAG_VARIABLE));
        let profile = match resources.binaries.identify(&resources.spawner, program, &untagged).await {
            Ok(profile) => profile,
            Err(error) => {
                if let Some(failure) = error.launch_failure() {
                    return Err(failure.into());
                }
                let next_step = error.next_step();
                let detail = format!("{error}; it gets the options that are written, and no defaults ({next_step})");
                reporter.publish(Event::ServerWarned { warning: Warning::BinaryUnreadable, detail }).await?;
                Arc::new(BinaryProfile::unknown(program.to_owned()))
            }
        };
        reporter.publish(Event::BinaryIdentified(Arc::clone(&profile.identity))).await?;
        Ok(profile)
    }

    /// Reloads the dialects and chooses the one for a build.
    async fn choose_dialect(&self, profile: &BinaryProfile) -> Result<Dialect, NotStarted> {
        let reporter = &self.reporter;
        let (dialects, changes) = self.resources.dialects.reload().await;
        if let Some(ReloadChanges { loaded, removed, refused }) = changes {
            let reloaded =
                Event::DialectsReloaded { dialects: loaded.into(), removed: removed.into(), refused: refused.into() };
            reporter.events.publish(EventDraft::daemon(reloaded).because(reporter.cause)).await?;
        }
        let choice = llama_warden_dialects::choose_dialect(&dialects, profile, self.server.dialect.as_deref())
            .ok_or_else(|| LaunchFailure::new(FailureReason::Unknown, "no flag dialect is loaded"))?;
        let chosen = Event::DialectChosen { dialect: choice.file.name().into(), because: choice.because };
        reporter.publish(chosen).await?;
        Ok(choice.file)
    }
}
