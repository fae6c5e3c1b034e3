//! Finds what a launch would refuse about the command line of each server, by asking its executable, as a launch does.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use llama_warden_config::{
    COMMENTS_ARE_KEYS, ConfigProblem, Configuration, FlagOrigin, Fleet, HostEnvironment, KeyError, NeededFile,
    ServerSpec, Severity, UNREADABLE, WrittenAt,
};
use llama_warden_detectors::{Pack, PackSet};
use llama_warden_dialects::{BinaryProfile, Dialect, DialectSet, OptionList, choose_dialect, draft_command_line};
use llama_warden_events::{OptionNote, OptionTreatment, ServerId};
use llama_warden_exit::{CommandFailure, FailureMessage};
use llama_warden_inventory::{Inventory, LoadedConfig};
use llama_warden_launcher::IdentifyError;
use llama_warden_plugin_files::PluginFile as _;
use llama_warden_support::open_if_regular;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::addresses::HostNames;
use crate::executable;
use crate::plugin_files::scan;

/// Most executables that are asked at a time: one that hangs takes ten seconds.
const ASKED_AT_ONCE: usize = 16;

/// What the builds of a configuration say of it.
pub struct OptionReport {
    /// Every problem with the options of the servers, in each profile, at the place where the option is written.
    pub problems: Vec<ConfigProblem>,
    /// The executables that answered, by the path or name that the servers have.
    pub builds: Vec<Arc<BinaryProfile>>,
    /// The names on which the daemon, its router and the servers listen.
    pub names: HostNames,
}

/// Asks each executable once, and compares its answer with what its servers are given.
///
/// # Errors
/// There is no fleet.
pub async fn examine(inventory: &Inventory) -> Result<OptionReport, CommandFailure> {
    let LoadedConfig { configuration, .. } = &inventory.loaded;
    let dialects = scan::<Dialect>(&inventory.loaded).files;
    let fleet = inventory.loaded.fleet(None)?;
    let active = configuration.active_profile(None);
    let indices = configuration.servers().enumerate().map(|(index, spec)| (&spec.id, index)).collect();
    let packs = scan::<Pack>(&inventory.loaded).files;
    let (binaries, names, hosts, found) = Default::default();
    let mut check = OptionCheck { configuration, indices, packs, dialects, binaries, names, hosts, found };
    let look_up = HostNames::look_up(configuration, &fleet);
    ((), check.names) = tokio::join!(check.ask_binaries(&fleet, active), look_up);
    for spec in fleet.iter() {
        check.server(spec, active);
    }
    // A profile without options of its own changes no command line, and one with options nothing but the flags.
    for profile in configuration.profiles_with_flags().filter(|name| Some(*name) != active) {
        let mut checked = BTreeSet::new();
        for spec in configuration.members(profile, &HostEnvironment::current()) {
            // Servers without options of their own share the flags of the profile.
            let command = (Arc::clone(&spec.binary), spec.dialect.clone(), Arc::as_ptr(&spec.flags));
            if checked.insert(command) {
                check.server(&spec, Some(profile));
            }
        }
    }
    let builds = check.binaries.into_values().filter(|build| build.options.is_some()).collect();
    Ok(OptionReport { problems: check.found.problems, builds, names: check.names })
}

struct OptionCheck<'a> {
    configuration: &'a Configuration,
    /// Where each server stands in the configuration.
    indices: BTreeMap<&'a ServerId, usize>,
    packs: PackSet,
    dialects: DialectSet,
    /// By the path or name that the servers have.
    binaries: BTreeMap<Arc<Path>, Arc<BinaryProfile>>,
    names: HostNames,
    /// Why no server can listen there at this moment, and what to do.
    hosts: BTreeMap<Arc<str>, Option<[String; 2]>>,
    found: FoundOptions,
}

/// The problems so far. Servers that share an option share its problem.
#[derive(Default)]
struct FoundOptions {
    problems: Vec<ConfigProblem>,
    seen: BTreeSet<String>,
}

impl FoundOptions {
    fn add(&mut self, problem: ConfigProblem) {
        if self.seen.insert(problem.to_string()) {
            self.problems.push(problem);
        }
    }
}

impl OptionCheck<'_> {
    fn server(&mut self, spec: &ServerSpec, profile: Option<&str>) {
        // Every server of a profile is one of the fleet whose executables were asked.
        let Some(binary) = self.binaries.get(&*spec.binary).cloned() else { return };
        let index = self.indices.get(&spec.id).copied().unwrap_or(usize::MAX);
        let is_read = binary.options.is_some();
        let takes_comments_for_keys = binary.options.as_ref().is_some_and(OptionList::takes_comments_for_keys);
        let mut add = |severity, at: &WrittenAt, message: String, help: String| {
            let server = (spec, index, profile);
            self.found.add(self.configuration.setting_problem(server, at, severity, message, help));
        };
        for source in spec.key_sources().into_iter().filter(|source| source.is_file()) {
            // A file that cannot be read has a warning already: the daemon may run as another user than this check.
            match source.read() {
                Err(error @ KeyError::EmptyFile(_)) => {
                    add(Severity::Error, &source.at, error.to_string(), "write a key into the file".to_owned());
                }
                Ok(file) if file.has_comments && takes_comments_for_keys => {
                    let [message, help] = COMMENTS_ARE_KEYS;
                    add(Severity::Warning, &source.at, message.to_owned(), help.to_owned());
                }
                _ => {}
            }
        }
        if let Some([message, help]) =
            self.hosts.entry(Arc::clone(&spec.host)).or_insert_with_key(|host| self.names.of_server(host))
        {
            add(Severity::Warning, &WrittenAt::Key("host"), message.clone(), help.clone());
        }
        if let Some(name) = spec.readiness.detector.as_deref().filter(|name| self.packs.get(name).is_none()) {
            let message = format!("there is no detector pack `{name}`, so one is chosen by build");
            let help = "`llama-warden detector list` shows those that there are".to_owned();
            add(Severity::Warning, &WrittenAt::Key("detector"), message, help);
        }
        if let Some(name) = spec.dialect.as_deref().filter(|name| self.dialects.get(name).is_none()) {
            let message = format!("there is no flag dialect `{name}`, so one is chosen by build");
            let help = "`llama-warden dialect list` shows those that there are".to_owned();
            add(Severity::Warning, &WrittenAt::Key("dialect"), message, help);
        }
        let Some(choice) = choose_dialect(&self.dialects, &binary, spec.dialect.as_deref()) else { return };
        let (line, errors) = draft_command_line(spec, &binary, &choice.file);
        // `argv` shows a command line only where there is one.
        let next_step = match (is_read, errors.is_empty()) {
            (true, true) => format!("`llama-warden argv {}` shows the command line", spec.id),
            (true, false) => format!("`{} --help` lists the options of this build", binary.path.display()),
            (false, _) => format!("`llama-warden dialect show {}` lists the options of builds", choice.file.name()),
        };
        let errors = errors.iter().map(|error| (Severity::Error, error));
        for (severity, error) in errors.chain(line.doubts.iter().map(|doubt| (Severity::Warning, doubt))) {
            let (message, help) = error.parts();
            add(severity, &error.at, message, help.map_or_else(|| next_step.clone(), str::to_owned));
        }
        for note in line.notes.iter().filter(|note| is_lost(spec, note) && is_read) {
            let message = format!("option `{}` is not passed: {}", note.option, note.because);
            add(Severity::Warning, &WrittenAt::Flag(note.option.to_string()), message, next_step.clone());
        }
        // A `pre-start` command may fetch the files.
        for file in line.files.iter().filter(|_| spec.hooks.pre_start.is_none()) {
            let Err(error) = file.look().and_then(|()| open_if_regular(&file.path).map(drop)) else { continue };
            if error.kind() == ErrorKind::InvalidData {
                let message = format!("{} of `{}` cannot be used: {error}", file.path.display(), file.option);
                add(
                    Severity::Error,
                    &file.at,
                    message,
                    "name another file, or convert this one with openssl".to_owned(),
                );
                continue;
            }
            let message = match error.kind() {
                ErrorKind::NotFound => format!("{} of `{}` does not exist", file.path.display(), file.option),
                _ => format!("cannot look at {} of `{}`: {error}", file.path.display(), file.option),
            };
            let help = if error.kind() == ErrorKind::PermissionDenied {
                UNREADABLE
            } else if file.path.is_absolute() {
                "put it there, or write another path; a launch waits for it"
            } else {
                "write the whole path: in `args` and `env`, a relative one is relative to the folder where the daemon was started"
            };
            add(Severity::Warning, &file.at, message, help.to_owned());
        }
    }

    /// Asks each executable once.
    async fn ask_binaries(&mut self, fleet: &Fleet, profile: Option<&str>) {
        let mut unknown = BTreeMap::new();
        for spec in fleet.iter() {
            unknown.entry(Arc::clone(&spec.binary)).or_insert_with(|| Arc::clone(spec));
        }
        let turns = Arc::new(Semaphore::new(ASKED_AT_ONCE));
        let mut questions = JoinSet::new();
        for (binary, spec) in unknown {
            let turns = Arc::clone(&turns);
            questions.spawn(async move {
                // Fails if it is closed, which nobody does.
                let _turn = turns.acquire().await;
                let answer = match executable::find(&binary).ok().filter(|path| path.is_file()) {
                    Some(path) => Some(executable::ask(&spec, &path).await),
                    // There is a warning of its own.
                    None => None,
                };
                (binary, spec, answer)
            });
        }
        let mut answers = questions.join_all().await;
        answers.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        for (binary, spec, answer) in answers {
            let unread = || Arc::new(BinaryProfile::unknown(binary.to_path_buf()));
            let known = match answer {
                Some(Ok(Ok(known))) => Arc::new(known),
                Some(Ok(Err(error))) => {
                    // One that does not answer as it should is run all the same.
                    let runs = matches!(error, IdentifyError::TooSlow { .. } | IdentifyError::NoOptions { .. });
                    let needed = (!runs).then(|| NeededFile::Executable(binary.to_path_buf()));
                    let (severity, message) = match error {
                        IdentifyError::Broken { .. } => (Severity::Error, error.to_string()),
                        _ if error.is_of_the_machine() => (Severity::Warning, error.to_string()),
                        _ => {
                            let message = "its servers get the options that are written, and no defaults";
                            (Severity::Warning, format!("{error}; {message}"))
                        }
                    };
                    let problem = self.unread(&spec, profile, severity, message, error.next_step());
                    self.found.add(ConfigProblem { needed: needed.map(Box::new), ..problem });
                    unread()
                }
                Some(Err(failure)) => {
                    if let FailureMessage::Text { message, .. } = failure.message {
                        let help = "write the names of variables, with `*` where they differ";
                        let problem = self.unread(&spec, profile, Severity::Error, message, help);
                        self.found.add(problem);
                    }
                    unread()
                }
                None => unread(),
            };
            self.binaries.insert(binary, known);
        }
    }

    /// The problem of an executable that cannot be asked.
    fn unread(
        &self,
        spec: &ServerSpec,
        profile: Option<&str>,
        severity: Severity,
        message: String,
        help: &str,
    ) -> ConfigProblem {
        let at = WrittenAt::Key("binary");
        let index = self.indices.get(&spec.id).copied().unwrap_or(usize::MAX);
        let server = (spec, index, profile);
        self.configuration.setting_problem(server, &at, severity, message, help.to_owned())
    }
}

/// Whether the note is about an option that the user set and the build does not get.
fn is_lost(spec: &ServerSpec, note: &OptionNote) -> bool {
    let is_users = spec.flags.get(&*note.option).is_some_and(|flag| flag.origin == FlagOrigin::User);
    note.treatment == OptionTreatment::Dropped && is_users
}
