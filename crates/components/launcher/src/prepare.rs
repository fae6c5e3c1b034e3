//! Everything before the spawn: find the executable, ask it what it is, look before the leap, spell the options.
//!
//! Nothing here needs to be undone: a launch that is called off meanwhile just drops the future.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use llama_warden_bus::{BusClosed, EventDraft};
use llama_warden_config::ServerSpec;
use llama_warden_events::{Event, FailureReason, OptionNote, Warning};
use llama_warden_plugin_files::{PluginFile as _, ReloadChanges};
use llama_warden_support::blocking;
use tokio::time::Instant;

use crate::argv::{self, CommandLine};
use crate::binary::{self, BinaryProfile};
use crate::dialect::{self, Dialect};
use crate::environment::{Environment, EnvironmentPolicy, Marker, child_environment};
use crate::failure::LaunchFailure;
use crate::launch::{Reporter, Resources};
use crate::lines::Redactor;
use crate::sweep::{Sweep, Traces, sweep};
use crate::{preflight, redact};

/// Longest wait for what an earlier launch left on the port.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a spawn needs.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) line: CommandLine,
    pub(crate) environment: Environment,
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
    marker: &Marker,
    resources: &Resources,
    reporter: &Reporter,
) -> Result<Prepared, NotPrepared> {
    let policy = EnvironmentPolicy { pass: &server.env_pass, set: &server.env };
    let environment = child_environment(resources.environment.iter().cloned(), policy, Some(marker))
        .map_err(|error| LaunchFailure::new(FailureReason::BadArgument, format!("`env-pass`: {error}")))?;
    let search_path = environment.get(std::ffi::OsStr::new("PATH"));
    let program = binary::resolve(&server.binary, search_path.map(AsRef::as_ref)).map_err(|error| {
        let detail = format!("{error}; set `binary`, or install llama-server");
        LaunchFailure::new(FailureReason::BinaryNotFound, detail)
    })?;
    let keys = match look(server, &program).await {
        Err(failure) if failure.reason == FailureReason::PortInUse => {
            await_release(server, resources).await;
            look(server, &program).await?
        }
        looked => looked?,
    };
    let profile = identify(&program, &environment, resources, reporter).await?;
    let dialect = choose_dialect(&profile, resources, reporter).await?;
    let mut line = argv::plan(server, &profile, &dialect)?;
    let notes = resources.notes.share(std::mem::take(&mut line.notes));
    report(notes, &line.warnings, reporter).await?;
    let variables = environment.iter().filter(|(name, _)| redact::is_secret_variable(&name.to_string_lossy()));
    let variables = variables.map(|(_, value)| value.to_string_lossy().into_owned());
    let redactor = Redactor::new(line.secrets().into_iter().chain(keys).chain(variables));
    Ok(Prepared { line, environment, redactor })
}

/// Ends what earlier launches of this server left, which may be what has its port: a process that could not be killed at
/// once then. What is left of a stranger is not touched.
async fn await_release(server: &ServerSpec, resources: &Resources) {
    let marked = Traces { marker: Some(Marker::of_server(&resources.boot, &server.id)), ..Traces::default() };
    let Sweep { killed, left } = sweep(&marked, Instant::now() + RELEASE_TIMEOUT).await;
    if killed > 0 || !left.is_empty() {
        tracing::warn!(server = %server.id, killed, ?left, "processes of an earlier launch still had its port");
    }
}

/// Looks at files and addresses, off the runtime's threads; returns the keys of the key file.
async fn look(server: &Arc<ServerSpec>, program: &Path) -> Result<Vec<String>, LaunchFailure> {
    let (server, program) = (Arc::clone(server), program.to_owned());
    let looked = blocking(move || preflight::look(&server, &program)).await;
    looked.unwrap_or_else(|error| Err(LaunchFailure::new(FailureReason::Unknown, format!("the preflight: {error}"))))
}

async fn identify(
    program: &Path,
    environment: &Environment,
    resources: &Resources,
    reporter: &Reporter,
) -> Result<Arc<BinaryProfile>, BusClosed> {
    // The questions are not part of the launch, and are not swept with it.
    let mut unmarked = environment.clone();
    unmarked.remove(std::ffi::OsStr::new(crate::environment::MARKER_NAME));
    let profile = match resources.binaries.identify(&resources.spawner, program, &unmarked).await {
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
    resources: &Resources,
    reporter: &Reporter,
) -> Result<Dialect, NotPrepared> {
    let (library, news) = resources.dialects.renewed().await;
    if let Some(ReloadChanges { loaded, removed, refused }) = news {
        let reloaded =
            Event::DialectsReloaded { dialects: loaded.into(), removed: removed.into(), refused: refused.into() };
        reporter.events.publish(EventDraft::daemon(reloaded).because(reporter.cause)).await?;
    }
    let Some(choice) = dialect::choose_dialect(&library, profile) else {
        return Err(LaunchFailure::new(FailureReason::Unknown, "there is no flag dialect at all").into());
    };
    let chosen = Event::DialectChosen { dialect: choice.file.name().into(), because: choice.because };
    reporter.publish(chosen).await?;
    Ok(choice.file)
}

async fn report(notes: Arc<[Arc<OptionNote>]>, warnings: &[String], reporter: &Reporter) -> Result<(), BusClosed> {
    if !notes.is_empty() {
        reporter.publish(Event::OptionsTranslated { notes }).await?;
    }
    for detail in warnings {
        let warned = Event::ServerWarned { warning: Warning::OptionDropped, detail: detail.clone() };
        reporter.publish(warned).await?;
    }
    Ok(())
}
