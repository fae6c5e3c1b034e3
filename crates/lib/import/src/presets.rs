//! The presets of llama-server's own router: a file in the manner of INI, with a section for each model.

use std::collections::BTreeMap;

use crate::command_line::{ServerCommand, long_name};
use crate::document::{DocumentWriter, ImportedConfig};
use crate::identifiers::IdMaker;

/// The section whose options are every model's.
const SHARED: &str = "*";

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
/// The text is no file of presets.
pub fn from_presets(text: &str, binary: &str, defaults: &[String]) -> Result<ImportedConfig, PresetError> {
    let mut sections = read(text)?;
    let shared = sections.iter().position(|section| section.name == SHARED).map(|at| sections.remove(at));
    let shared = shared.map(|section| section.options).unwrap_or_default();
    if sections.is_empty() {
        return Err(PresetError::NoModels);
    }
    let mut document = DocumentWriter::default();
    document
        .comment("Converted from presets of llama-server. `llama-warden check` looks whether this machine can run it.");
    document.table("[router]");
    document.set("listen", "127.0.0.1:8080");
    document.leave_to_the_build(defaults);
    let mut ids = IdMaker::default();
    for PresetSection { name, options } in sections {
        let place = format!("[{name}]");
        let mut all = shared.clone();
        all.extend(options);
        let starts = all.remove("load-on-startup").is_some_and(|value| is_on(&value));
        let grace = all.remove("stop-timeout");
        let (mut words, mut switches) = (vec![binary.to_owned()], Vec::new());
        for (option, value) in all {
            match value.as_str() {
                "true" | "on" | "enabled" | "" => switches.push((option, true)),
                "false" | "off" | "disabled" => switches.push((option, false)),
                value => {
                    let dashes = if option.len() <= 3 && !option.contains('-') { "-" } else { "--" };
                    words.extend([format!("{dashes}{option}"), value.to_owned()]);
                }
            }
        }
        let mut command = ServerCommand::parse(&words, &place, &mut document);
        switches.iter().for_each(|(option, is_on)| command.switch(option, *is_on));
        let id = ids.id_for(&name);
        document.table("[[servers]]");
        document.set("id", id.as_str());
        document.set("enabled", starts);
        let (mut aliases, sleep_after) = (command.aliases.clone(), command.sleep_after);
        if id != name {
            aliases.insert(0, name);
        }
        // A section that names no file is called as the repository that it downloads.
        if command.model.is_none() {
            document.leave_out(place, "it names no model: write `model`");
        }
        command.write(&mut document);
        if let Some(seconds) = grace {
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
    Ok(document.finish())
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
            let name = name.trim().to_owned();
            sections.retain(|section| section.name != name);
            sections.push(PresetSection { name, ..PresetSection::default() });
            continue;
        }
        let wrong = || PresetError::Line { line: number + 1, text: line.to_owned() };
        let (option, value) = line.split_once('=').ok_or_else(wrong)?;
        let value = value.trim();
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        if let Some(section) = sections.last_mut() {
            section.options.insert(option_name(option), value.to_owned());
        }
    }
    Ok(sections)
}
