//! Builds settings and server specifications from the merged file, with every default filled in.
//!
//! The file has passed validation; only a gap in the built-in defaults can still fail.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use llama_warden_fleet::{
    HealthSpec, HooksSpec, REPOSITORY_PREFIX, ReadinessSpec, RestartSpec, RouterSpec, ServerSpec, StopSpec,
};

use crate::file::reader::{ConfigValue, Located, overlay};
use crate::file::tables::{ConfigFile, Daemon, LlamaServer, Logs, Metrics, Server, Start};
use crate::file::tables::{Health, Hooks, Readiness, Restart, Stop};
use crate::file::values::SingleLine;
use crate::problem::{ConfigProblem, ConfigProblems, Location};
use crate::resolve::identities::IdentifiedServer;
use llama_warden_fleet::{DaemonSettings, LogSettings, MetricsSettings, StartSettings};

/// Builds specifications from a file. Relative paths are relative to `directory`.
pub(crate) struct SpecBuilder<'a> {
    pub(crate) file: &'a ConfigFile,
    pub(crate) directory: &'a Path,
}

/// Settings shared by all servers that do not override them.
#[derive(Debug, Clone)]
pub(crate) struct SharedDefaults {
    pub(crate) host: Arc<str>,
    binary: Arc<Path>,
    dialect: Option<Arc<str>>,
    directory: Arc<Path>,
    env: Arc<BTreeMap<String, String>>,
    readiness: Arc<ReadinessSpec>,
    stop: Arc<StopSpec>,
    restart: Arc<RestartSpec>,
    health: Arc<HealthSpec>,
    hooks: Arc<HooksSpec>,
    pub(crate) router: Arc<RouterSpec>,
    log_ring_bytes: usize,
    /// The first port for servers without one of their own.
    pub(crate) first_port: u16,
    pub(crate) detectors_dir: Option<PathBuf>,
    pub(crate) dialects_dir: Option<PathBuf>,
}

/// The value of a key that has a built-in default. The defaults are a data file, so a gap in them is an error, not a panic.
pub(crate) fn need<T: Clone>(slot: &Option<Located<T>>, key: &str) -> Result<T, ConfigProblems> {
    slot.as_ref().map(|at| at.value.clone()).ok_or_else(|| {
        let defaults = Location::File("the built-in defaults".into());
        ConfigProblem::error(&defaults, format!("has no default for `{key}`"), "report this: it is a bug").into()
    })
}

/// The settings of a section with the keys of a server laid over it; the shared value if the server sets none.
fn or_own<T: ConfigValue, S>(
    common: &Arc<S>,
    section: &Option<Located<T>>,
    own: &Option<Located<T>>,
    spec: impl FnOnce(T) -> Result<S, ConfigProblems>,
) -> Result<Arc<S>, ConfigProblems> {
    let merged = own.is_some().then(|| overlay(section.clone(), own.clone())).flatten();
    merged.map_or_else(|| Ok(common.clone()), |merged| spec(merged.value).map(Arc::new))
}

impl SpecBuilder<'_> {
    pub(crate) fn daemon(&self) -> Result<DaemonSettings, ConfigProblems> {
        let daemon: Daemon = need(&self.file.daemon, "daemon")?;
        Ok(DaemonSettings {
            listen: need(&daemon.listen, "daemon.listen")?.tcp().cloned(),
            state_dir: self.path_or_none(&daemon.state_dir),
            token_file: self.path_or_none(&daemon.token_file),
            on_daemon_death: need(&daemon.on_daemon_death, "daemon.on-daemon-death")?,
            hosts: need(&daemon.hosts, "daemon.hosts")?.into_iter().map(|host| host.value.0).collect(),
            local_users: need(&daemon.local_users, "daemon.local-users")?,
            dashboard: need(&daemon.dashboard, "daemon.dashboard")?,
            shutdown_deadline: need(&daemon.shutdown_deadline, "daemon.shutdown-deadline")?.0,
        })
    }

    pub(crate) fn logs(&self) -> Result<LogSettings, ConfigProblems> {
        let logs: Logs = need(&self.file.logs, "logs")?;
        let ring = need(&logs.ring, "logs.ring")?.0;
        let event_log = need(&logs.event_log, "logs.event-log")?.0;
        Ok(LogSettings {
            ring_bytes: usize::try_from(ring).unwrap_or(usize::MAX),
            event_log_bytes: (event_log > 0).then_some(event_log),
        })
    }

    pub(crate) fn metrics(&self) -> Result<MetricsSettings, ConfigProblems> {
        let metrics: Metrics = need(&self.file.metrics, "metrics")?;
        Ok(MetricsSettings { servers: need(&metrics.servers, "metrics.servers")? })
    }

    pub(crate) fn start(&self) -> Result<StartSettings, ConfigProblems> {
        let start: Start = need(&self.file.start, "start")?;
        Ok(StartSettings {
            max_concurrent: std::num::NonZeroU32::new(need(&start.max_concurrent, "start.max-concurrent")?),
            memory: need(&start.memory, "start.memory")?,
        })
    }

    pub(crate) fn common(&self) -> Result<SharedDefaults, ConfigProblems> {
        let shared: LlamaServer = need(&self.file.llama_server, "llama-server")?;
        let section: Readiness = need(&self.file.readiness, "readiness")?;
        Ok(SharedDefaults {
            first_port: need(&shared.first_port, "llama-server.first-port")?.get(),
            detectors_dir: self.path_or_none(&section.detectors_dir),
            dialects_dir: self.path_or_none(&shared.dialects_dir),
            host: self.host(&need(&shared.host, "llama-server.host")?.0),
            binary: self.program(&need(&shared.binary, "llama-server.binary")?.0).into(),
            dialect: named(&need(&shared.dialect, "llama-server.dialect")?),
            directory: self.directory.into(),
            env: variables(need(&shared.env, "llama-server.env")?).into(),
            readiness: readiness(section)?.into(),
            stop: stop(need(&self.file.stop, "stop")?)?.into(),
            restart: restart(need(&self.file.restart, "restart")?)?.into(),
            health: health(need(&self.file.health, "health")?)?.into(),
            hooks: Arc::default(),
            router: self.routing(None)?.into(),
            log_ring_bytes: self.logs()?.ring_bytes,
        })
    }

    pub(crate) fn model_dirs(&self) -> Result<Vec<PathBuf>, ConfigProblems> {
        let models = need(&self.file.models, "models")?;
        let directories = need(&models.dirs, "models.dirs")?;
        Ok(directories.iter().map(|directory| self.absolute(&directory.value.0)).collect())
    }

    pub(crate) fn follows_model_links(&self) -> Result<bool, ConfigProblems> {
        need(&need(&self.file.models, "models")?.follow_links, "models.follow-links")
    }

    /// A server's spec; its options stay empty, since they depend on the profile.
    pub(crate) fn server(
        &self,
        planned: &IdentifiedServer<'_>,
        common: &SharedDefaults,
    ) -> Result<ServerSpec, ConfigProblems> {
        let server: &Server = planned.written;
        let file = self.file;
        let shared: LlamaServer = need(&file.llama_server, "llama-server")?;
        let own =
            |line: &Option<Located<SingleLine>>| line.as_ref().map(|line| Arc::<str>::from(line.value.0.as_str()));
        let own_host = server.host.as_ref().map(|host| self.host(&host.value.0));
        let own_hooks = server.hooks.as_ref().map(|hooks| self.hooks(&hooks.value).into());
        let own_binary = server.binary.as_ref().map(|binary| self.program(&binary.value.0).into());
        Ok(ServerSpec {
            id: planned.id.clone(),
            display_name: own(&server.display_name).unwrap_or_else(|| planned.id.clone().into()),
            model: self.model(&need(&server.model, "servers.model")?.0),
            port: planned.port,
            host: own_host.unwrap_or_else(|| common.host.clone()),
            enabled: server.enabled.as_ref().is_none_or(|enabled| enabled.value),
            tier: own(&server.tier).or_else(|| quantisation(server.model.as_ref())),
            thinking: server.thinking.as_ref().is_some_and(|thinking| thinking.value),
            binary: own_binary.unwrap_or_else(|| Arc::clone(&common.binary)),
            dialect: server.dialect.as_ref().map_or_else(|| common.dialect.clone(), |dialect| named(&dialect.value)),
            flags: Arc::default(),
            directory: Arc::clone(&common.directory),
            args: both(&shared.args, &server.args).map(|line| line.value.0.clone()).collect(),
            env: or_own(&common.env, &shared.env, &server.env, |env| Ok(variables(env)))?,
            env_pass: both(&shared.env_pass, &server.env_pass).map(|pattern| pattern.value.0.clone()).collect(),
            api_key_file: self.path_or_none(&server.api_key_file),
            readiness: or_own(&common.readiness, &file.readiness, &server.readiness, readiness)?,
            stop: or_own(&common.stop, &file.stop, &server.stop, stop)?,
            restart: or_own(&common.restart, &file.restart, &server.restart, restart)?,
            health: or_own(&common.health, &file.health, &server.health, health)?,
            hooks: own_hooks.unwrap_or_else(|| common.hooks.clone()),
            router: server
                .router
                .as_ref()
                .map_or(Ok(common.router.clone()), |own| self.routing(Some(&own.value)).map(Arc::new))?,
            log_ring_bytes: common.log_ring_bytes,
        })
    }

    fn model(&self, model: &str) -> PathBuf {
        if model.starts_with(REPOSITORY_PREFIX) { PathBuf::from(model) } else { self.absolute(model) }
    }

    pub(crate) fn absolute(&self, path: &str) -> PathBuf {
        let mut absolute = PathBuf::new();
        // `.` is no component.
        for component in self.directory.join(path).components() {
            match component {
                // Behind a symbolic link it is not the parent that the text shows.
                Component::ParentDir if absolute.symlink_metadata().is_ok_and(|found| found.is_dir()) => {
                    absolute.pop();
                }
                component => absolute.push(component),
            }
        }
        absolute
    }

    /// A name without a slash is looked up in PATH.
    fn program(&self, program: &str) -> PathBuf {
        if program.contains('/') { self.absolute(program) } else { PathBuf::from(program) }
    }

    fn hooks(&self, hooks: &Hooks) -> HooksSpec {
        let command = |hook: &Option<Located<Vec<Located<SingleLine>>>>| {
            let mut argv: Vec<String> = hook.as_ref()?.value.iter().map(|line| line.value.0.clone()).collect();
            if let Some(program) = argv.first_mut() {
                *program = self.program(program).to_string_lossy().into_owned();
            }
            Some(argv)
        };
        HooksSpec {
            pre_start: command(&hooks.pre_start),
            post_ready: command(&hooks.post_ready),
            pre_stop: command(&hooks.pre_stop),
            post_exit: command(&hooks.post_exit),
            timeout: hooks.timeout.as_ref().map_or(HooksSpec::TIMEOUT, |timeout| timeout.value.0),
        }
    }

    fn host(&self, host: &str) -> Arc<str> {
        if host.ends_with(".sock") { self.absolute(host).to_string_lossy().as_ref().into() } else { host.into() }
    }

    pub(crate) fn path_or_none(&self, path: &Option<Located<SingleLine>>) -> Option<PathBuf> {
        path.as_ref().filter(|path| !path.value.0.is_empty()).map(|path| self.absolute(&path.value.0))
    }
}

/// The quantisation in `hf:ORG/REPO:QUANT`. There is no header to read before the download.
fn quantisation(model: Option<&Located<SingleLine>>) -> Option<Arc<str>> {
    let repository = model?.value.0.strip_prefix(REPOSITORY_PREFIX)?;
    repository.split_once(':').map(|(_, quantisation)| quantisation.into())
}

/// The elements of the section, then those of the server.
fn both<'a, T>(shared: &'a Option<Located<Vec<T>>>, own: &'a Option<Located<Vec<T>>>) -> impl Iterator<Item = &'a T> {
    [shared, own].into_iter().flatten().flat_map(|list| &list.value)
}

fn variables(written: BTreeMap<String, Located<String>>) -> BTreeMap<String, String> {
    written.into_iter().map(|(name, value)| (name, value.value)).collect()
}

/// The name of a file that is chosen by build if it is called `auto`.
fn named(name: &str) -> Option<Arc<str>> {
    (name != "auto").then(|| name.into())
}

fn readiness(readiness: Readiness) -> Result<ReadinessSpec, ConfigProblems> {
    let stall_timeout = need(&readiness.stall_timeout, "readiness.stall-timeout")?;
    let detector = need(&readiness.detector, "readiness.detector")?;
    Ok(ReadinessSpec {
        timeout: need(&readiness.timeout, "readiness.timeout")?.0,
        on_timeout: need(&readiness.on_timeout, "readiness.on-timeout")?,
        stall_timeout: (!stall_timeout.is_zero()).then_some(stall_timeout),
        detector: (detector != "auto").then_some(detector),
        confirm: need(&readiness.confirm, "readiness.confirm")?,
        listener: need(&readiness.listener, "readiness.listener")?,
    })
}

fn stop(stop: Stop) -> Result<StopSpec, ConfigProblems> {
    let ladder = need(&stop.ladder, "stop.ladder")?;
    Ok(StopSpec {
        grace: need(&stop.grace, "stop.grace")?,
        ladder: ladder.into_iter().map(|signal| signal.value).collect(),
    })
}

fn restart(restart: Restart) -> Result<RestartSpec, ConfigProblems> {
    Ok(RestartSpec {
        policy: need(&restart.policy, "restart.policy")?,
        max_attempts: need(&restart.max_attempts, "restart.max-attempts")?,
        initial_delay: need(&restart.initial_delay, "restart.initial-delay")?,
        max_delay: need(&restart.max_delay, "restart.max-delay")?,
        stable_after: need(&restart.stable_after, "restart.stable-after")?,
    })
}

fn health(health: Health) -> Result<HealthSpec, ConfigProblems> {
    Ok(HealthSpec {
        interval: need(&health.interval, "health.interval")?.0,
        timeout: need(&health.timeout, "health.timeout")?.0,
        failures: need(&health.failures, "health.failures")?.get(),
        inference: need(&health.inference, "health.inference")?.0,
    })
}
