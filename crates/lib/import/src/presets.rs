//! The presets of llama-server's own router: a file in the manner of INI, with a section for each model.

use std::collections::{BTreeMap, BTreeSet};

use llama_warden_fleet::is_repository;

use crate::addresses::ServerAddresses;
use crate::command_line::{LONGEST_SECONDS, NO_SECONDS, ServerCommand, long_name};
use crate::document::{DocumentWriter, ImportedConfig};
use crate::identifiers::{IdMaker, ServerNames};

/// The section whose options are every model's.
const SHARED: &str = "*";

/// Most bytes that the options of `[*]` have in all sections together.
const LONGEST_SHARED: usize = 16 << 20;

/// Why a file cannot be converted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PresetError {
    /// A line is neither a section nor an option.
    #[error("line {line}: `{text}` is neither [a section] nor `option = value`")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// No model is in it.
    #[error("it has no section, so it is no file of presets")]
    NoModels,
    /// Each model would get a copy of what is far too long.
    #[error(
        "the options of [*] are written for each of {models} models, which is more than 16 MiB; split the file, or shorten [*]"
    )]
    TooLong {
        /// How many sections there are.
        models: usize,
    },
}

/// Options of a section that say how the router treats the model.
#[derive(Debug, Default)]
struct PresetSection {
    name: String,
    options: BTreeMap<String, String>,
}

/// Converts the presets of llama-server. `binary` is the llama-server that runs them; `defaults` are the options that a configuration
/// sets by itself.
///
/// # Errors
/// The text is no file of presets, or means too much.
pub fn from_presets(text: &str, binary: &str, defaults: &[String]) -> Result<ImportedConfig, PresetError> {
    let mut sections = read(text)?;
    let shared = sections.iter().position(|section| section.name == SHARED).map(|at| sections.remove(at));
    let shared = shared.map(|section| section.options).unwrap_or_default();
    if sections.is_empty() {
        return Err(PresetError::NoModels);
    }
    let bytes: usize = shared.iter().map(|(option, value)| option.len() + value.len()).sum();
    if bytes.saturating_mul(sections.len()) > LONGEST_SHARED {
        return Err(PresetError::TooLong { models: sections.len() });
    }
    let mut document = DocumentWriter::default();
    document
        .comment("Converted from presets of llama-server. `llama-warden check` looks whether this machine can run it.");
    document.table("[router]");
    document.set("listen", "127.0.0.1:8080");
    document.leave_to_the_build(defaults);
    let mut addresses = ServerAddresses::default();
    let presets = sections
        .into_iter()
        .filter_map(|section| Preset::read(section, &shared, binary, &mut addresses, &mut document));
    let presets: Vec<Preset> = presets.collect();
    let ids = IdMaker::default().ids_for(presets.iter().map(|preset| preset.name.as_str()));
    let mut names = ServerNames::default();
    ids.iter().zip(&presets).for_each(|(id, preset)| names.take_id(id, &preset.place()));
    // The name of a section comes before whatever another one calls itself.
    let own: Vec<bool> = ids
        .iter()
        .zip(&presets)
        .map(|(id, preset)| {
            *id != preset.name && names.take(&preset.name, &preset.place(), &preset.place(), &mut document)
        })
        .collect();
    for ((mut preset, id), is_alias) in presets.into_iter().zip(ids).zip(own) {
        let (place, aliases) = (preset.place(), std::mem::take(&mut preset.command.aliases));
        let aliases = names.take_all(aliases, &place, &format!("{place}: alias"), &mut document);
        let aliases = is_alias.then(|| preset.name.clone()).into_iter().chain(aliases).collect();
        preset.write(&id, aliases, &mut document);
    }
    Ok(document.finish())
}

/// A section that becomes a server.
#[derive(Debug)]
struct Preset {
    name: String,
    starts: bool,
    /// In seconds.
    grace: Option<i64>,
    command: ServerCommand,
}

impl Preset {
    fn place(&self) -> String {
        format!("[{}]", self.name)
    }

    /// `None` if no server can be made of it.
    fn read(
        PresetSection { name, options }: PresetSection,
        shared: &BTreeMap<String, String>,
        binary: &str,
        addresses: &mut ServerAddresses,
        document: &mut DocumentWriter,
    ) -> Option<Self> {
        let place = format!("[{name}]");
        let mut all = shared.clone();
        all.extend(options);
        let starts = all.remove("load-on-startup").is_some_and(|value| is_on(&value));
        let grace = all.remove("stop-timeout").and_then(|text| {
            let seconds = text.parse::<i64>().ok().filter(|seconds| (0..=LONGEST_SECONDS).contains(seconds));
            if seconds.is_none() {
                document.leave_out(format!("{place}: stop-timeout"), NO_SECONDS);
            }
            seconds
        });
        let mut command = ServerCommand::of(binary);
        for (option, value) in all {
            command.set_preset(&option, value, &place, document);
        }
        // A section that names no file is called as the repository that it downloads.
        if command.model.is_none() && is_repository(&name) {
            command.model = Some(format!("hf:{name}"));
        }
        if let Some(because) = command.model_problem() {
            document.leave_out(place, because);
            return None;
        }
        command.take_addresses(addresses, &place, document);
        Some(Self { name, starts, grace, command })
    }

    fn write(self, id: &str, aliases: Vec<String>, document: &mut DocumentWriter) {
        document.table("[[servers]]");
        document.set("id", id);
        document.set("enabled", self.starts);
        let sleep_after = self.command.sleep_after;
        self.command.write(document);
        if let Some(seconds) = self.grace {
            document.set("stop", toml::Table::from_iter([("grace".to_owned(), format!("{seconds}s").into())]));
        }
        let aliases = (!aliases.is_empty()).then(|| ("aliases".to_owned(), aliases.into()));
        // llama-server puts a model to sleep that is idle for so long; here its process ends, and a request starts it again.
        let ttl = sleep_after.map(|seconds| ("ttl".to_owned(), format!("{seconds}s").into()));
        let router: toml::Table = aliases.into_iter().chain(ttl).collect();
        if !router.is_empty() {
            document.set("router", router);
        }
    }
}

fn is_on(value: &str) -> bool {
    matches!(value, "true" | "on" | "enabled" | "1" | "yes")
}

/// The name under which an option is kept, whichever of its spellings stands in the file.
fn option_name(written: &str) -> String {
    let plain = written.trim().trim_start_matches('-');
    let of_variable = plain.strip_prefix("LLAMA_ARG_").map(|name| name.to_ascii_lowercase().replace('_', "-"));
    of_variable.unwrap_or_else(|| long_name(plain).to_owned())
}

/// The sections, each once: the last one of a name counts. Options before the first one, such as `version`, are about the file itself.
fn read(text: &str) -> Result<Vec<PresetSection>, PresetError> {
    let mut sections: Vec<PresetSection> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        // A comment may follow anything, as llama-server reads it.
        let line = line.split(['#', ';']).next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            sections.push(PresetSection { name: name.trim().to_owned(), ..PresetSection::default() });
            continue;
        }
        let wrong = || PresetError::Line { line: number + 1, text: line.escape_debug().to_string() };
        let (option, value) = line.split_once('=').filter(|_| !line.contains(['\0', '\r'])).ok_or_else(wrong)?;
        let value = value.trim();
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        if let Some(section) = sections.last_mut() {
            section.options.insert(option_name(option), value.to_owned());
        }
    }
    let mut seen = BTreeSet::new();
    let is_last: Vec<bool> = sections.iter().rev().map(|section| seen.insert(section.name.clone())).collect();
    let kept = sections.into_iter().zip(is_last.into_iter().rev());
    Ok(kept.filter_map(|(section, is_last)| is_last.then_some(section)).collect())
}
