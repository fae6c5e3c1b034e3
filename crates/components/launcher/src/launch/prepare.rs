//! Everything before the spawn: find the executable, ask it what it is, look before the leap, spell the options.
//!
//! Nothing here needs to be undone: a launch that is called off meanwhile just drops the future.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use llama_warden_bus::{BusClosed, EventDraft};
use llama_warden_config::ServerSpec;
use llama_warden_dialects::{BinaryProfile, CommandLine, Dialect, build_command_line, is_secret_variable};
use llama_warden_events::{Event, FailureReason, OptionNote, Warning};
use llama_warden_plugin_files::{PluginFile as _, ReloadChanges};
use llama_warden_support::blocking;
use tokio::time::Instant;

use super::context::{LaunchReporter, LaunchResources};
use super::failure::LaunchFailure;
use super::{executable, preflight};
use crate::output::lines::Redactor;
use crate::process::environment::{ChildEnvironment, EnvironmentPolicy, child_environment};
use crate::process::launch_tag::{LAUNCH_TAG_VARIABLE, LaunchTag};
use crate::process::sweep::{ProcessSelector, Sweep, sweep};

/// Longest wait for what an earlier launch left on the port.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a spawn needs.
#[derive(Debug)]
pub(crate) struct PreparedLaunch {
    pub(crate) line: CommandLine,
    pub(crate) environment: ChildEnvironment,
    pub(crate) redactor: Redactor,
}

/// Why there is nothing to spawn.
#[derive(Debug)]
pub(crate) enum NotPrepared {
    /// The launch has failed.
    Failed(LaunchFailure),
    /// Nobody hears us any more.
    Unheard,
}

impl<E: Into<LaunchFailure>> From<E> for NotPrepared {
    fn from(failure: E) -> Self {
        Self::Failed(failure.into())
    }
}

impl From<BusClosed> for NotPrepared {
    fn from(_: BusClosed) -> Self {
        Self::Unheard
    }
}

/// Prepares the launch of `server`, and publishes what it finds out on the way.
pub(crate) async fn prepare(
    server: &Arc<ServerSpec>,
    tag: &LaunchTag,
    resources: &LaunchResources,
    reporter: &LaunchReporter,
) -> Result<PreparedLaunch, NotPrepared> {
    let policy = EnvironmentPolicy { pass: &server.env_pass, set: &server.env };
    let environment = child_environment(resources.environment.iter().cloned(), policy, Some(tag))
        .map_err(|error| LaunchFailure::new(FailureReason::BadArgument, format!("`env-pass`: {error}")))?;
    let search_path = environment.get(std::ffi::OsStr::new("PATH"));
    let program = executable::resolve(&server.binary, search_path.map(AsRef::as_ref)).map_err(|error| {
        let detail = format!("{error}; set `binary`, or install llama-server");
        LaunchFailure::new(FailureReason::BinaryNotFound, detail)
    })?;
    let keys = match run_preflight(server, &program).await {
        Err(failure) if failure.reason == FailureReason::PortInUse => {
            await_release(server, resources).await;
            run_preflight(server, &program).await?
        }
        checked => checked?,
    };
    let profile = identify(&program, &environment, resources, reporter).await?;
    let dialect = choose_dialect(&profile, resources, reporter).await?;
    let mut line = build_command_line(server, &profile, &dialect)?;
    let notes = resources.notes.intern(std::mem::take(&mut line.notes));
    report(notes, &line.warnings, reporter).await?;
    let variables = environment.iter().filter(|(name, _)| is_secret_variable(&name.to_string_lossy()));
    let variables = variables.map(|(_, value)| value.to_string_lossy().into_owned());
    let redactor = Redactor::new(line.secrets().into_iter().chain(keys).chain(variables));
    Ok(PreparedLaunch { line, environment, redactor })
}

/// Ends what earlier launches of this server left, which may be what has its port: a process that could not be killed at
/// once then. What is left of a stranger is not touched.
async fn await_release(server: &ServerSpec, resources: &LaunchResources) {
    let tagged =
        ProcessSelector { tag: Some(LaunchTag::of_server(&resources.boot, &server.id)), ..ProcessSelector::default() };
    let Sweep { killed, survivors: left } = sweep(&tagged, Instant::now() + RELEASE_TIMEOUT).await;
    if killed > 0 || !left.is_empty() {
        tracing::warn!(server = %server.id, killed, ?left, "processes of an earlier launch still had its port");
    }
}

/// Looks at files and addresses, off the runtime's threads; returns the keys of the key file.
async fn run_preflight(server: &Arc<ServerSpec>, program: &Path) -> Result<Vec<String>, LaunchFailure> {
    let (server, program) = (Arc::clone(server), program.to_owned());
    let checked = blocking(move || preflight::check(&server, &program)).await;
    checked.unwrap_or_else(|error| Err(LaunchFailure::new(FailureReason::Unknown, format!("the preflight: {error}"))))
}

async fn identify(
    program: &Path,
    environment: &ChildEnvironment,
    resources: &LaunchResources,
    reporter: &LaunchReporter,
) -> Result<Arc<BinaryProfile>, BusClosed> {
    // The questions are not part of the launch, and are not swept with it.
    let mut untagged = environment.clone();
    untagged.remove(std::ffi::OsStr::new(LAUNCH_TAG_VARIABLE));
    let profile = match resources.binaries.identify(&resources.spawner, program, &untagged).await {
        Ok(profile) => profile,
        Err(error) => {
            let detail = format!("{error}; its options are passed as they are written");
            reporter.publish(Event::ServerWarned { warning: Warning::BinaryUnreadable, detail }).await?;
            Arc::new(BinaryProfile::unknown(program.to_owned()))
        }
    };
    reporter.publish(Event::BinaryIdentified(Arc::clone(&profile.identity))).await?;
    Ok(profile)
}

/// The dialect for a build, after a look at the folder of dialects.
async fn choose_dialect(
    profile: &BinaryProfile,
    resources: &LaunchResources,
    reporter: &LaunchReporter,
) -> Result<Dialect, NotPrepared> {
    let (library, news) = resources.dialects.reload().await;
    if let Some(ReloadChanges { loaded, removed, refused }) = news {
        let reloaded =
            Event::DialectsReloaded { dialects: loaded.into(), removed: removed.into(), refused: refused.into() };
        reporter.events.publish(EventDraft::daemon(reloaded).because(reporter.cause)).await?;
    }
    let Some(choice) = llama_warden_dialects::choose_dialect(&library, profile) else {
        return Err(LaunchFailure::new(FailureReason::Unknown, "there is no flag dialect at all").into());
    };
    let chosen = Event::DialectChosen { dialect: choice.file.name().into(), because: choice.because };
    reporter.publish(chosen).await?;
    Ok(choice.file)
}

async fn report(
    notes: Arc<[Arc<OptionNote>]>,
    warnings: &[String],
    reporter: &LaunchReporter,
) -> Result<(), BusClosed> {
    if !notes.is_empty() {
        reporter.publish(Event::OptionsTranslated { notes }).await?;
    }
    for detail in warnings {
        let warned = Event::ServerWarned { warning: Warning::OptionDropped, detail: detail.clone() };
        reporter.publish(warned).await?;
    }
    Ok(())
}
