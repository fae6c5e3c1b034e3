//! Finds what a launch would refuse about the command line of each server, by asking its executable, as a launch does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use llama_warden_config::{
    COMMENTS_ARE_KEYS, ConfigProblem, Configuration, FlagOrigin, KeyError, ServerSpec, Severity, WrittenAt,
};
use llama_warden_daemon::models::Inventory;
use llama_warden_daemon::{CommandFailure, LoadedConfig};
use llama_warden_dialects::{BinaryProfile, Dialect, DialectSet, OptionList, choose_dialect, draft_command_line};
use llama_warden_events::{OptionNote, OptionTreatment};
use llama_warden_launcher::IdentifyError;

use crate::executable;
use crate::plugin_files::scan;

/// Every problem with the options of the servers, in each profile, at the place where the option is written.
///
/// # Errors
/// The executables cannot be run at all.
pub async fn problems(inventory: &Inventory) -> Result<Vec<ConfigProblem>, CommandFailure> {
    let LoadedConfig { configuration, .. } = &inventory.loaded;
    let dialects = scan::<Dialect>(&inventory.loaded).files;
    let mut check = OptionCheck { configuration, dialects, binaries: BTreeMap::new(), found: Found::default() };
    let fleet = inventory.loaded.fleet(None)?;
    let active = configuration.active_profile(None);
    for spec in fleet.iter() {
        check.server(spec, active).await?;
    }
    // A profile without options of its own changes no command line.
    for profile in configuration.profiles_with_flags().filter(|name| Some(*name) != active) {
        for spec in inventory.loaded.fleet(Some(profile))?.iter().filter(|spec| spec.enabled) {
            check.server(spec, Some(profile)).await?;
        }
    }
    Ok(check.found.problems)
}

struct OptionCheck<'a> {
    configuration: &'a Configuration,
    dialects: DialectSet,
    /// By the path or name that the servers have; `None` where there is no such executable, which is a warning of its own.
    binaries: BTreeMap<PathBuf, Option<Arc<BinaryProfile>>>,
    found: Found,
}

/// The problems so far. Servers that share an option share its problem.
#[derive(Default)]
struct Found {
    problems: Vec<ConfigProblem>,
    seen: BTreeSet<String>,
}

impl Found {
    fn add(&mut self, problem: ConfigProblem) {
        if self.seen.insert(problem.to_string()) {
            self.problems.push(problem);
        }
    }
}

impl OptionCheck<'_> {
    async fn server(&mut self, spec: &ServerSpec, profile: Option<&str>) -> Result<(), CommandFailure> {
        let binary = self.binary(spec, profile).await?;
        let is_read = binary.options.is_some();
        let takes_comments_for_keys = binary.options.as_ref().is_some_and(OptionList::takes_comments_for_keys);
        let mut add = |severity, at: &WrittenAt, message: String, help: String| {
            self.found.add(self.configuration.setting_problem((spec, profile), at, severity, message, help));
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
        if let Some(name) = spec.dialect.as_deref().filter(|name| self.dialects.get(name).is_none()) {
            let message = format!("there is no flag dialect `{name}`, so one is chosen by build");
            let help = "`llama-warden dialect list` shows those that there are".to_owned();
            add(Severity::Warning, &WrittenAt::Key("dialect"), message, help);
        }
        let Some(choice) = choose_dialect(&self.dialects, &binary, spec.dialect.as_deref()) else { return Ok(()) };
        let shown = format!("`llama-warden argv {}` shows the command line", spec.id);
        let (line, errors) = draft_command_line(spec, &binary, &choice.file);
        let errors = errors.iter().map(|error| (Severity::Error, error));
        for (severity, error) in errors.chain(line.doubts.iter().map(|doubt| (Severity::Warning, doubt))) {
            let (message, help) = error.parts();
            add(severity, &error.at, message, help.map_or_else(|| shown.clone(), str::to_owned));
        }
        for note in line.notes.iter().filter(|note| is_lost(spec, note) && is_read) {
            let message = format!("option `{}` is not passed: {}", note.option, note.because);
            add(Severity::Warning, &WrittenAt::Flag(note.option.to_string()), message, shown.clone());
        }
        Ok(())
    }

    /// The profile of the executable of a server; that of an unknown one where it cannot be asked.
    async fn binary(&mut self, spec: &ServerSpec, profile: Option<&str>) -> Result<Arc<BinaryProfile>, CommandFailure> {
        if !self.binaries.contains_key(&*spec.binary) {
            let found = executable::find(&spec.binary).ok().filter(|path| path.is_file());
            let asked = match found {
                Some(path) => self.ask(spec, profile, path).await?.map(Arc::new),
                None => None,
            };
            self.binaries.insert(spec.binary.to_path_buf(), asked);
        }
        let known = self.binaries.get(&*spec.binary).cloned().flatten();
        Ok(known.unwrap_or_else(|| Arc::new(BinaryProfile::unknown(spec.binary.to_path_buf()))))
    }

    async fn ask(
        &mut self,
        spec: &ServerSpec,
        profile: Option<&str>,
        path: PathBuf,
    ) -> Result<Option<BinaryProfile>, CommandFailure> {
        match executable::ask(spec, &path).await? {
            Ok(binary) => Ok(Some(binary)),
            Err(error) => {
                let (severity, message, help) = match &error {
                    IdentifyError::Broken { .. } => {
                        (Severity::Error, error.to_string(), "install what is missing, or use a build for this machine")
                    }
                    _ => (
                        Severity::Warning,
                        format!("{error}; its servers get the options that are written, and no defaults"),
                        "have it answer --help as llama-server does, or name its flag dialect as `dialect`",
                    ),
                };
                let at = WrittenAt::Key("binary");
                let problem =
                    self.configuration.setting_problem((spec, profile), &at, severity, message, help.to_owned());
                self.found.add(problem);
                Ok(None)
            }
        }
    }
}

/// Whether the note is about an option that the user set and the build does not get.
fn is_lost(spec: &ServerSpec, note: &OptionNote) -> bool {
    let is_users = spec.flags.get(&*note.option).is_some_and(|flag| flag.origin == FlagOrigin::User);
    note.treatment == OptionTreatment::Dropped && is_users
}
